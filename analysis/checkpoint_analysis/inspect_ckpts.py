"""What was trained, in a table: python analysis/checkpoint_analysis/inspect_ckpts.py --directory out --sort loss."""

from minigpt.cli.inspect import main

if __name__ == "__main__":
    main()
