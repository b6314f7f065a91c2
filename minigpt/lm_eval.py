"""``python -m minigpt.lm_eval``: the command line of lm-evaluation-harness, with our models in it as ``minigpt``.

    python -m minigpt.lm_eval --model minigpt --model_args checkpoint=out/<run> --tasks hellaswag --batch_size auto

Everything else of it is the harness's own. ``--tasks builtin`` is our suite.
"""

from __future__ import annotations

import sys

from minigpt.cli.entry import reported_errors
from minigpt.errors import UserError


def main() -> None:
    """Register, and hand the command line on."""
    with reported_errors():
        try:
            from lm_eval.__main__ import cli_evaluate
        except ImportError:
            raise UserError("minigpt.lm_eval: needs lm-eval: pip install 'minigpt[eval]'") from None
        import minigpt.evaluation.model  # noqa: F401 - registers the class

        _prepare(sys.argv[1:])
        try:
            cli_evaluate()
        except (ValueError, KeyError, ConnectionError) as error:
            raise UserError(f"lm-eval: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error


def _prepare(arguments: list[str]) -> None:
    """Make our suite findable, and the hub's client quick where there is no network."""
    from minigpt.evaluation import builtin
    from minigpt.evaluation.tasks import is_builtin, offline_where_unreachable

    asked = [name for word in arguments for name in word.split(",")]
    has_folder = any(word.split("=")[0] == "--include_path" for word in arguments)
    if any(is_builtin(name) for name in asked) and not has_folder:
        sys.argv += ["--include_path", str(builtin.made())]
    elif not has_folder and {"--tasks", "-t"} & {word.split("=")[0] for word in arguments}:
        offline_where_unreachable()


if __name__ == "__main__":
    main()
