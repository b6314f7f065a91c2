"""Continue a prompt with a trained model: python sample.py checkpoint=out/<run> start="The "."""

from minigpt.cli.sample import main

if __name__ == "__main__":
    main()
