"""What each step did: counted as it happens, shown as a table with samples, kept as ``cleaning.json`` and
``cleaning.md``."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from minigpt.data.cleaning.base import Dropped
from minigpt.data.cleaning.steps import Steps
from minigpt.screen import markdown, visible

SAMPLES = 5  # of each step, in the files
SHOWN = 2  # of those, on the screen
_LINE = 110  # characters of a sample there


@dataclass
class StepTally:
    """documents, bytes: that came to the step. dropped, dropped_bytes: of those, what it took. changed, cut: documents
    that it rewrote, and the bytes by which that made them shorter (less than 0: longer). reasons: why, how often.
    samples: of dropped documents, drawn by the hash of their number, so that they are the same whoever does the work.
    """

    documents: int = 0
    bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    changed: int = 0
    cut: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[int, int, dict[str, str]]] = field(default_factory=list)

    def pass_on(self, before: int, after: int, changed: bool) -> None:
        """A document of ``before`` bytes came, and leaves with ``after``."""
        self.documents += 1
        self.bytes += before
        self.changed += changed
        self.cut += before - after

    def drop(self, number: int, size: int, origin: str, why: Dropped, excerpt: str) -> None:
        """A document of ``size`` bytes came, and does not leave. number: of the document."""
        self.documents += 1
        self.bytes += size
        self.dropped += 1
        self.dropped_bytes += size
        self.reasons[why.reason] += 1
        rank = int.from_bytes(hashlib.blake2b(b"%d" % number, digest_size=8).digest(), "big")
        sample = {"origin": origin, "reason": why.reason, "detail": why.detail, "text": excerpt}
        if len(self.samples) < SAMPLES:
            heapq.heappush(self.samples, (-rank, number, sample))
        else:
            heapq.heappushpop(self.samples, (-rank, number, sample))


class Tally:
    """Of all steps, by label."""

    def __init__(self, steps: Steps):
        self.steps = {label: StepTally() for label in steps.specs}
        self._recipe = steps
        self.documents, self.bytes = 0, 0
        self.kept, self.kept_bytes = 0, 0

    def came(self, size: int) -> None:
        """A document of ``size`` bytes."""
        self.documents += 1
        self.bytes += size

    def keep(self, size: int) -> None:
        """What is left of a document, in bytes."""
        self.kept += 1
        self.kept_bytes += size

    def unkeep(self, size: int) -> None:
        """One that was kept goes all the same."""
        self.kept -= 1
        self.kept_bytes -= size

    def worst(self) -> str:
        """Which step dropped most, and why."""
        label = max(self.steps, key=lambda each: self.steps[each].dropped)
        return f"{label} dropped {self.steps[label].dropped:,}: {_mostly(self.steps[label].reasons)}"

    def to_plain(self) -> dict[str, Any]:
        """What ``cleaning.json`` holds."""
        return {
            "format": 1,
            "recipe": self._recipe.to_plain(),
            "recipe_hash": self._recipe.hash,
            "before": {"documents": self.documents, "bytes": self.bytes},
            "after": {"documents": self.kept, "bytes": self.kept_bytes},
            "steps": {label: self._plain(step) for label, step in self.steps.items()},
        }

    def table(self) -> Iterator[str]:
        """Lines for a screen: the table, then samples."""
        width = max(len("step"), *map(len, self.steps))
        head = f"{'documents':>11} {'dropped':>9} {'changed':>9} {'bytes gone':>13} {'share':>7}  mostly"
        yield f"  {'step':<{width}} {head}"
        for label, step in self.steps.items():
            gone = step.dropped_bytes + step.cut
            yield (
                f"  {label:<{width}} {step.documents:>11,} {step.dropped:>9,} {step.changed:>9,} {gone:>13,} "
                f"{_share(gone, self.bytes):>7}  {_mostly(step.reasons)}"
            ).rstrip()
        yield (
            f"  {'kept':<{width}} {self.kept:>11,} {self.documents - self.kept:>9,} {'':>9} "
            f"{self.bytes - self.kept_bytes:>13,} {_share(self.bytes - self.kept_bytes, self.bytes):>7}"
        )
        for label, step in self.steps.items():
            for sample in _drawn(step)[:SHOWN]:
                text = " ".join(sample["text"].split())
                text = text if len(text) <= _LINE else f"{text[:_LINE]}..."
                yield f"  dropped by {label}, {visible(sample['origin'])} ({_why(sample)}): {visible(text)}"

    def markdown(self) -> str:
        """What ``cleaning.md`` holds. No sign of a sample is markup."""
        lines = [
            "# What the cleaning did",
            "",
            f"Of {self.documents:,} documents of {self.bytes:,} bytes, {self.kept:,} of {self.kept_bytes:,} are kept. "
            f"Recipe `{self._recipe.hash}`; its options stand in `cleaning.json`.",
            "",
            "| step | documents | dropped | changed | bytes gone | share of all bytes |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        for label, step in self.steps.items():
            gone = step.dropped_bytes + step.cut
            counts = f"{step.documents:,} | {step.dropped:,} | {step.changed:,} | {gone:,}"
            lines.append(f"| `{label}` | {counts} | {_share(gone, self.bytes)} |")
        for label, step in self.steps.items():
            if not step.dropped:
                continue
            lines += ["", f"## Dropped by `{label}`", ""]
            lines += [f"* {number:,}: {markdown(reason)}" for reason, number in step.reasons.most_common()]
            for sample in _drawn(step):
                lines += ["", f"{markdown(sample['origin'])} ({markdown(_why(sample))}):", ""]
                lines += [f"> {markdown(sample['text'])}"]
        return "\n".join(lines) + "\n"

    def _plain(self, step: StepTally) -> dict[str, Any]:
        return {
            "documents": step.documents,
            "bytes": step.bytes,
            "dropped": step.dropped,
            "dropped_bytes": step.dropped_bytes,
            "changed": step.changed,
            "bytes_shorter": step.cut,
            "share_of_bytes": round((step.dropped_bytes + step.cut) / max(self.bytes, 1), 6),
            "reasons": dict(step.reasons.most_common()),
            "samples": _drawn(step),
        }


def _drawn(step: StepTally) -> list[dict[str, str]]:
    """The samples in the order of their documents."""
    return [sample for _, _, sample in sorted(step.samples, key=lambda each: each[1])]


def _why(sample: Mapping[str, str]) -> str:
    return f"{sample['reason']}: {sample['detail']}" if sample["detail"] else sample["reason"]


def _mostly(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} ({number:,})" for reason, number in reasons.most_common(2))


def _share(part: int, whole: int) -> str:
    return f"{part / max(whole, 1):.2%}"
