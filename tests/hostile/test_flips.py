"""Files with flipped bits, of every kind that is read: accepted, or a UserError; never another exception, never a hang.

MINIGPT_FLIPS=1000 says how many, MINIGPT_FLIPS_SEED from where; the same seed is the same files.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minigpt.data.dataset_folder import open_prepared
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.errors import UserError
from minigpt.exchange.trained import load_trained
from minigpt.generation.config import Sampling
from minigpt.generation.decoding import generate
from minigpt.hardware import spec
from minigpt.report.inspection import InspectConfig, inspect
from minigpt.shipped import CONF
from minigpt.training.record import find_runs
from tests.hostile.world import TEXT, World, called, copied, inside, watched
from tests.model.checkpoints import rewrite

COUNT = int(os.environ.get("MINIGPT_FLIPS", "90"))  # some 10 s on two cores
SEED = int(os.environ.get("MINIGPT_FLIPS_SEED", "0"))
PATIENCE = 60  # seconds for one file, on a busy machine


@dataclasses.dataclass(frozen=True)
class Target:
    """of: what is copied. file: in it, the one that is flipped. read: what reads the copy. vouched: the checkpoint's
    meta.json is made to vouch for the flipped file, so that more than its hash is asked. share: how often it is taken.
    """

    of: str
    file: str
    read: Callable[[Path], None]
    vouched: bool = False
    share: int = 2


def used(place: Path) -> None:
    trained = load_trained(place)
    generate(trained.model, [[0, 1]], 2, Sampling(temperature=0), vocab_size=trained.tokenizer.vocab_size)


def listed(place: Path) -> None:
    inspect(InspectConfig(directory=str(place)))
    find_runs(place)


def shown(place: Path) -> None:
    inspect(InspectConfig(path=str(place)))


def resumed(place: Path) -> None:
    done = called("train", f"resume={place}", "training.max_steps=5")
    if done.error:
        raise RuntimeError(f"raw: {done.error}")
    if done.code not in (0, 1, 2):
        raise RuntimeError(f"exit code {done.code}: {done.text[-300:]}")


def opened(place: Path) -> None:
    prepared = open_prepared(place.name, place.parent)
    prepared.train.windows(np.zeros(1, dtype=np.int64), 8)


def prepared(place: Path) -> None:
    (source,) = [file for file in place.iterdir() if file.is_file()]
    prepare(PrepareConfig(source=str(source), name="new", folder=str(place / "data")), say=lambda line: None)


def priced(place: Path) -> None:
    spec.load(str(place / "machine.yaml"))


BEST, LAST = "checkpoint/best", "checkpoint/last"
TARGETS = [
    *(Target("run", f"{BEST}/{name}", used) for name in ("model.safetensors", "meta.json")),
    *(Target("run", f"{BEST}/{name}", used, vouched=True, share=4)
      for name in ("model.safetensors", "model.json", "tokenizer.json")),
    *(Target("run", name, listed) for name in ("run.json", "config.yaml", f"{BEST}/meta.json", f"{BEST}/model.json")),
    *(Target("run", name, resumed, share=1) for name in ("run.json", "config.yaml", "metrics.jsonl")),
    Target("run", f"{LAST}/state.pt", resumed, vouched=True, share=3),
    *(Target("words", name, opened) for name in ("meta.json", "tokenizer.json", "train.bin", "val.bin")),
    *(Target("nano", name, opened) for name in ("meta.pkl", "val.bin")),
    *(Target("hf", name, used, share=3) for name in ("config.json", "model.safetensors", "tokenizer.json")),
    Target("hf", "tokenizer_config.json", used),
    Target("hf", "model.safetensors", shown),
    Target("ckpt", "ckpt.pt", used, share=3),
    Target("ckpt", "ckpt.pt", shown, share=3),
    *(Target(name, f"text.{name}", prepared) for name in ("txt", "jsonl", "gz", "zst", "parquet")),
    Target("machine", "machine.yaml", priced),
]  # fmt: skip


@pytest.fixture(scope="module")
def sources(world: World, tmp_path_factory) -> dict[str, Path]:
    """What is copied, by name: the parts of the world, a machine, and a text in every form it is taken from."""
    import json

    import pyarrow
    import pyarrow.parquet
    import zstandard

    base = tmp_path_factory.mktemp("flips")
    lines = TEXT.splitlines()[:40]
    packed = {
        "txt": lambda file: file.write_text(TEXT),
        "jsonl": lambda file: file.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines)),
        "gz": lambda file: file.write_bytes(gzip.compress(TEXT.encode())),
        "zst": lambda file: file.write_bytes(zstandard.compress(TEXT.encode())),
        "parquet": lambda file: pyarrow.parquet.write_table(pyarrow.table({"text": lines}), file),
    }
    for name, write in packed.items():
        (base / name).mkdir()
        write(base / name / f"text.{name}")
    (base / "machine").mkdir()
    shutil.copy(CONF / "hardware" / "edge_16nm.yaml", base / "machine" / "machine.yaml")
    found = {name: base / name for name in [*packed, "machine"]}
    found |= {"run": world.run, "hf": world.hf, "ckpt": world.ckpt}
    return found | {"words": world.data / "words", "nano": world.data / "nano"}


def flipped(content: bytes, draw: random.Random) -> bytes:
    """The same with one bit, or a few, the other way round."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        place = draw.randrange(len(changed))
        if draw.random() < 0.3:  # what says what is in a file mostly stands at its beginning
            place = draw.randrange(min(256, len(changed)))
        changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)


def outcome(target: Target, place: Path, draw: random.Random) -> str:
    """ "accepted", "refused", or what went wrong."""
    file = place / target.file
    content = flipped(file.read_bytes(), draw)
    if target.vouched:
        rewrite(file.parent, file.name, lambda file: file.write_bytes(content))
    else:
        file.write_bytes(content)
    try:
        with watched(PATIENCE):
            target.read(place)
    except UserError as error:
        text = str(error)
        return "refused" if len(text.splitlines()) <= 4 and len(text) < 3000 else f"long: {text[:300]}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"raised: {type(error).__name__}: {str(error)[:300]}"
    return "accepted"


def test_flipped_bits_never_end_in_a_raw_exception(sources, tmp_path):
    draw = random.Random(SEED)
    bag = [target for target in TARGETS for _ in range(target.share)]
    turns = [*TARGETS, *(draw.choice(bag) for _ in range(max(0, COUNT - len(TARGETS))))][:COUNT]
    seen: Counter[str] = Counter()
    bad = []
    with inside(tmp_path):
        for number, target in enumerate(turns):
            name = target.of if target.of in ("words", "nano") else "place"
            place = copied(sources[target.of], tmp_path / str(number) / name)
            own = random.Random(f"{SEED}-{number}")
            found = outcome(target, place, own)
            seen[found.split(":")[0]] += 1
            if found not in ("accepted", "refused"):
                bad.append((SEED, number, target.of, target.file, found))
            shutil.rmtree(tmp_path / str(number), ignore_errors=True)
    print(dict(seen))
    assert not bad, "\n".join(map(str, bad[:30]))
    assert seen["refused"] > COUNT / 4
