"""Curves of runs: python analysis/curves_report.py runs=out/<sweep>."""

from minigpt.cli.curves import main

if __name__ == "__main__":
    main()
