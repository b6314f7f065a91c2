"""Hold variants to the contracts: ``minigpt check my_plugin``."""

from __future__ import annotations

import sys

from minigpt.cli.entry import reported_errors


def main() -> None:
    """Check what the words name; exit code 1 when a contract is broken."""
    with reported_errors():
        from minigpt.testing import command  # imports every component, which a typo in a command does not need

        sys.exit(command.main(sys.argv[1:]))
