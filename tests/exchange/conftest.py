"""What the tests of this room share: one model of transformers per family, made once."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def theirs(tmp_path_factory):
    """theirs("llama") -> (the model, the folder it is saved in)."""
    from tests.exchange import families  # transformers takes seconds to import

    made = {}

    def get(name):
        if name not in made:
            model = families.make(name)
            made[name] = model, families.save(model, tmp_path_factory.mktemp("theirs") / name)
        return made[name]

    return get
