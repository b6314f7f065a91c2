"""What cleaning costs: MB of text a second of processor time, of each step alone and of whole lists of steps.

python -m benchmarks.cleaning_speed [megabytes=6]

The text is the Python language reference in documents of 3000 characters; for the lists, spliced at random so that many
documents are nearly the same. What came out stands in docs/measurements.md.
"""

from __future__ import annotations

import pydoc_data.topics
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from minigpt import config, registry
from minigpt.data.cleaning.base import Comparison, Filter, Leakage, Rewriter
from minigpt.data.cleaning.run import clean
from minigpt.data.cleaning.steps import ReadSteps
from minigpt.data.document import Document
from minigpt.shipped import CONF

TEXTS = [v[i : i + 3000] for v in pydoc_data.topics.topics.values() for i in range(0, len(v), 3000)]


def step_speed(name: str) -> float:
    step, begin = registry.build(registry.spec("clean", name)), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(step, Comparison):
            step.open(Path(folder))
        for text in TEXTS:
            if isinstance(step, Rewriter):
                step.rewrite(text)
            elif isinstance(step, Filter):
                step.judge(text)
            elif isinstance(step, Comparison):
                step.compare(step.sketch(text), "")
            elif isinstance(step, Leakage):
                step.judge_sketch(step.sketch(text))
    return sum(map(len, TEXTS)) / 1e6 / (time.process_time() - begin)


def spliced(characters: int):
    chance = random.Random(1)
    while characters > 0:
        one, other = chance.choice(TEXTS), chance.choice(TEXTS)
        place = chance.randrange(len(one))
        text = one[:place] + other[place:]
        characters -= len(text)
        yield Document(text, "")


def main(megabytes: str = "6") -> None:
    for name in registry.names("clean"):
        step_speed(name)  # models are loaded, tables made
        print(f"{name:16} {max(step_speed(name) for _ in range(3)):8.1f} MB/s")
    for file in sorted((CONF / "clean").glob("*.yaml")):
        steps = ReadSteps().read(config.load_yaml(file), "clean")
        steps.build()
        documents = list(spliced(int(float(megabytes) * 1e6)))
        with tempfile.TemporaryDirectory() as folder:
            begin = time.process_time()
            found = clean(documents, steps, Path(folder), val_fraction=0.1)
            speed = found.tally.bytes / 1e6 / (time.process_time() - begin)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"clean={file.stem:10} {speed:8.1f} MB/s, at most {memory:,.0f} MB with the text in memory")


if __name__ == "__main__":
    main(*sys.argv[1:])
