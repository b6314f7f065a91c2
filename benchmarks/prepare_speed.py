"""What preparing costs: MB of text a second and core, and the memory of all its processes, for a file of any size.

python -m benchmarks.prepare_speed [megabytes=2000] [tokenizer=bpe] [workers=2] [form=txt]

The text is the Python language reference, over and over: one text file (txt), or lines of JSON, packed (jsonl.zst).
Memory is the sum over the processes of what each holds of its own and its share of the rest, at its largest.
What came out stands in docs/measurements.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]


def main(megabytes: str = "2000", tokenizer: str = "bpe", workers: str = "2", form: str = "txt") -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"text.{form}"
        size = write_text(source, int(float(megabytes) * 1e6))
        command = [sys.executable, "data/prepare.py", f"source={source}", "name=text", f"folder={folder}/data"]
        begin = time.monotonic()
        process = subprocess.Popen([*command, f"tokenizer={tokenizer}", f"workers={workers}"], cwd=ROOT)
        memory, seconds = watch(process)
        if process.returncode:
            raise SystemExit(process.returncode)
        wall = time.monotonic() - begin
    print(f"{size / 1e6:,.0f} MB of text as {form}, tokenizer={tokenizer} workers={workers}: {wall:.0f} s")
    print(f"  {size / 1e6 / wall:.1f} MB/s, {size / 1e6 / seconds:.1f} MB a second of CPU time ({seconds:.0f} s)")
    print(f"  at most {memory / 1e6:,.0f} MB of memory in all processes")


def write_text(file: Path, size: int) -> int:
    """Write about so many bytes of text, unpacked; returns how many."""
    from minigpt.data.recipe import load_recipe

    text = "".join(load_recipe("pydocs").documents())
    copies = max(1, size // len(text.encode()))
    if file.suffix == ".zst":
        import zstandard

        topics = text.split("\n\n\n")
        block = "".join(json.dumps({"text": topic}) + "\n" for topic in topics).encode()
        size = copies * sum(len(topic.encode()) for topic in topics)
        frame = zstandard.ZstdCompressor(level=1).compress(block)  # each copy alone: no text packs as well as copies do
        with file.open("wb") as out:
            for _ in range(copies):
                out.write(frame)
        return size
    with file.open("w", encoding="utf-8") as out:
        for _ in range(copies):
            out.write(text)
    return copies * len(text.encode())


def watch(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Until it ends: the most memory it and its children have had together in bytes, and their seconds of CPU time."""
    largest, times = 0, {}

    def look() -> None:
        nonlocal largest
        while process.poll() is None:
            memory = 0
            try:
                for each in [tree, *tree.children(recursive=True)]:
                    memory += each.memory_full_info().pss
                    used = each.cpu_times()
                    times[each.pid] = used.user + used.system
            except psutil.NoSuchProcess:
                continue
            largest = max(largest, memory)
            time.sleep(0.1)

    tree = psutil.Process(process.pid)
    watcher = threading.Thread(target=look)
    watcher.start()
    process.wait()
    watcher.join()
    return largest, sum(times.values())


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
