"""A sweep, from checked points to the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from minigpt.search import results
from minigpt.search.launcher import LocalLauncher, threads_each
from minigpt.search.points import Point
from minigpt.search.study import Study
from minigpt.training.record import RunRecord


def sweep(folder: Path, points: Sequence[Point], workers: int) -> bool:
    """Train the points that have no result in ``folder`` yet, a line for each. True when at least one has completed."""
    with Study(folder) as study:
        missing = study.missing(points)
        print(f"{folder}: {len(points)} trials, {len(missing)} to run, {workers} at a time", flush=True)
        done = len(points) - len(missing)

        def finished(point: Point, record: RunRecord) -> None:
            nonlocal done
            done += 1
            print(results.progress(done, len(points), record), flush=True)
            write_results(study)

        try:
            study.run(points, LocalLauncher(workers), threads_each(workers), finished)
        finally:
            write_results(study)
        ranked = results.rows(points, study.records)
    results.print_table(str(folder), ranked)
    completed = sum(len(row.completed) for row in ranked)
    if completed < len(points):
        missing_text = f"{len(points) - completed} of {len(points)} trials did not complete"
        print(f"{missing_text}; their folders say why (run.json, trial.log); delete one to try again")
    return completed > 0


def write_results(study: Study) -> None:
    """``results.yaml`` of a sweep: all trials of the study."""
    trials = [results.describe(record) for record in study.records.values()]
    results.write(study.folder, {"study": study.folder.name, "kind": "sweep", "trials": trials})
