"""What runs cost on a machine: python analysis/ppa_report.py runs=out/<sweep> hardware=edge_16nm."""

from minigpt.cli.report import main

if __name__ == "__main__":
    main()
