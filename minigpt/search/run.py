"""A sweep, from checked points to the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from minigpt.errors import UserError
from minigpt.screen import say
from minigpt.search import results
from minigpt.search.launcher import LocalLauncher, threads_each
from minigpt.search.points import Point, checked, refuse_nothing, valid
from minigpt.search.results import ResultsFile
from minigpt.search.study import Study, outside_errors
from minigpt.training.record import RunRecord


def sweep(folder: Path, points: Sequence[Point], workers: int, skipped: list[UserError] | None = None) -> bool:
    """Train the points that have no result in ``folder`` yet, a line for each. True when at least one has completed.

    skipped: points that are left out, and where those go that cannot be built. Without it, such a point raises
    UserError before anything starts.
    """
    is_new = not folder.is_dir()
    if is_new:  # nothing is made before all is checked
        points = valid(checked(points), skipped=skipped)
        refuse_nothing(points, skipped)
    with outside_errors(folder), Study(folder) as study:
        missing = study.missing(points)
        if not is_new:
            missing = valid(checked(missing), skipped=skipped) if missing else []
            trained = {point.identity for point in missing} | set(study.records)
            points = [point for point in points if point.identity in trained]
        say(f"{folder}: {len(points)} trials, {len(missing)} to run, {workers} at a time")
        done = len(points) - len(missing)
        file = ResultsFile(folder)

        def write(*, final: bool) -> None:
            head = {"study": folder.name, "kind": "sweep", "skipped": [str(error) for error in skipped or ()]}
            file.write(head, study.records.values(), final=final)

        def finished(point: Point, record: RunRecord) -> None:
            nonlocal done
            done += 1
            say(results.progress(done, len(points), record))
            write(final=False)

        try:
            study.run(points, LocalLauncher(workers), threads_each(workers), finished)
        finally:
            if missing or skipped or not file.is_current(study.records.values()):
                write(final=True)
        ranked = results.rows(points, study.records)
    results.print_table(str(folder), ranked)
    for error in skipped or ():
        say(f"skipped: {error}", lines=True)
    completed = sum(len(row.completed) for row in ranked)
    if completed < len(points):
        missing_text = f"{len(points) - completed} of {len(points)} trials did not complete"
        say(f"{missing_text}; their folders say why (run.json, trial.log); delete one to try again")
    return completed > 0
