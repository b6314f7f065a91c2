"""python -m minigpt: the console command."""

from minigpt.cli.console import main

if __name__ == "__main__":
    main()
