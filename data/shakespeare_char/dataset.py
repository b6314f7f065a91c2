"""shakespeare_char: nanoGPT's first dataset, 1 115 394 characters of Shakespeare's plays, 65 of them different.

Downloaded once from char-rnn; without network: python data/prepare.py dataset=shakespeare_char source=<input.txt>
The first 90 % of the characters train, as in nanoGPT, so losses compare.
"""

from minigpt.data.network import download
from minigpt.data.recipe import Recipe

SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"


def documents() -> list[str]:
    """One document: the whole file."""
    way_out = "Without network: python data/prepare.py dataset=shakespeare_char source=<input.txt>"
    return [download(URL, way_out, SHA256).decode()]


recipe = Recipe(documents=documents)
