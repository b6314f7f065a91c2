"""Greedy search: from a baseline, take the best single step that is worth its cost, again and again.

Per round every candidate is trained with the baseline's seeds, and ``decision`` chooses. Which trials exist is the
study's matter, so a search that was ended anywhere replays its rounds from the records and trains only what is missing.
A winner has been chosen among many on the same seeds: on fresh ones it is compared with the first baseline once more,
and each of its steps with the one before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from minigpt import config, schema
from minigpt.config import TrainConfig
from minigpt.errors import UserError, shown, unknown
from minigpt.evaluation.config import task_options
from minigpt.evaluation.names import PREFIX, higher_is_better, metric_of
from minigpt.schema import NonNegativeFloat, NonNegativeInt, PositiveInt, options
from minigpt.search.decision import LOSSES, Candidate, CostName, Decision, Rule, decide
from minigpt.search.launcher import Launcher, LocalLauncher, threads_each
from minigpt.search.points import CombinationCheck, Point, as_text, refuse_single_run_keys, study_name, vary
from minigpt.search.report import SearchReport
from minigpt.search.space import Moves, Names, Step, check_space, moved, start_of, steps
from minigpt.search.study import Study, outside_errors
from minigpt.search.verdict import FinalVerdict, judge_path

_BASELINE = "baseline"


@options
class GreedyConfig:
    """space: key -> how it may move. seeds: every configuration is trained with each.

    rounds: steps at most. fresh_seeds: of the last comparison, between the first baseline and the winner.
    quality: val_loss, best_val_loss, or ``scores.<task>.<metric>`` of a task in evaluate.tasks. direction: whether a
    lower or a higher score is better (None: as everybody knows of its metric). cost: a field of the run record. What
    follows counts in nats, or in what the score is measured in. min_gain_per_cost: what doubling the cost must bring.
    max_loss_per_saving: what saving all of the cost may lose (0: worse is never accepted). min_gain, noise_factor: a
    gain is progress from so much on, and from so many of its standard errors over the seeds.
    """

    space: dict[str, Annotated[Step | Names, Moves()]]
    seeds: list[NonNegativeInt] = (0, 1)  # type: ignore[assignment]
    fresh_seeds: list[NonNegativeInt] = (1000, 1001)  # type: ignore[assignment]
    rounds: PositiveInt = 3
    quality: str = "val_loss"
    direction: Literal["lower", "higher"] | None = None
    cost: CostName = "flops_per_token"
    min_gain_per_cost: NonNegativeFloat = 0.02
    max_loss_per_saving: NonNegativeFloat = 0.0
    min_gain: NonNegativeFloat = 0.002
    noise_factor: NonNegativeFloat = 1.0

    def __post_init__(self):
        self._check_quality()
        if not self.space:
            raise UserError("search.space: nothing to search over. Name keys: {model.n_layer: {step: 1}}")
        for name in ("seeds", "fresh_seeds"):
            if not getattr(self, name) or len(set(getattr(self, name))) < len(getattr(self, name)):
                raise UserError(
                    f"search.{name}: expected at least one seed, each once, got {list(getattr(self, name))}"
                )
        if shared := set(self.seeds) & set(self.fresh_seeds):
            raise UserError(f"search.fresh_seeds: {sorted(shared)} are among search.seeds, so they are not fresh")
        if self.max_loss_per_saving and self.max_loss_per_saving >= self.min_gain_per_cost:
            raise UserError(
                f"search.max_loss_per_saving: {self.max_loss_per_saving:g} must stay below "
                f"search.min_gain_per_cost={self.min_gain_per_cost:g}, or the search gives away what it has just bought"
            )

    @property
    def rule(self) -> Rule:
        """How candidates are judged."""
        prices = self.min_gain_per_cost, self.max_loss_per_saving
        return Rule(self.quality, self.higher, self.cost, *prices, self.min_gain, self.noise_factor)

    @property
    def task(self) -> str | None:
        """The task whose score is the quality, None for a loss."""
        return self.quality.removeprefix(PREFIX).rpartition(".")[0] if self.quality.startswith(PREFIX) else None

    @property
    def higher(self) -> bool:
        """Whether more of the quality is better."""
        return self.direction == "higher" if self.direction else bool(higher_is_better(self.quality))

    def _check_quality(self) -> None:
        if self.task is None and self.quality not in LOSSES:
            raise unknown("search.quality", self.quality, "there is no quality", (*LOSSES, "scores.<task>.<metric>"))
        if self.task == "":
            raise UserError(f"search.quality: expected scores.<task>.<metric>, got '{shown(self.quality, 60)}'")
        known = False if self.task is None else higher_is_better(self.quality)
        if known is None and self.direction is None:
            raise UserError(
                f"search.direction: is more of {metric_of(self.quality)} better, or less? "
                f"Say search.direction=higher or lower"
            )
        if known is not None and self.direction not in (None, "higher" if known else "lower"):
            better = "higher" if known else "lower"
            raise UserError(f"search.direction: {metric_of(self.quality)} is better when it is {better}. Leave it out")


@options
class SearchConfig(TrainConfig):
    """A training configuration to start from, and the search around it."""

    search: GreedyConfig


def run_search(asked: SearchConfig) -> int:
    """Search, and return the exit code: 1 when the baseline itself could not be trained."""
    content = {key: value for key, value in schema.plain(asked).items() if key != "search"}
    base = config.check(content, TrainConfig)
    refuse_single_run_keys(base)
    if base.seed:
        raise UserError("seed: a search takes its seeds from search.seeds and search.fresh_seeds")
    check_space(asked.search.space, base)
    refuse_unmeasured(asked.search, base)
    search = GreedySearch(base, asked.search)
    baseline = search.points({}, asked.search.seeds)
    CombinationCheck()(base)
    folder = Path(base.out) / (base.study or f"greedy-{study_name(baseline)}")
    with outside_errors(folder), Study(folder) as study:
        return search.run(study, LocalLauncher(base.workers), threads_each(base.workers))


def refuse_unmeasured(search: GreedyConfig, base: TrainConfig) -> None:
    """Raise UserError for a score that no trial would have."""
    if search.task is None:
        return
    if base.evaluate.limit is not None:
        raise UserError(
            "evaluate.limit: scores of a part of the questions are in no record, for search.quality to find"
        )
    if not base.evaluate.tasks:
        raise UserError(
            f"search.quality: {search.quality} is a score; say which tasks are asked: evaluate.tasks=[{search.task}]"
        )
    from minigpt.evaluation.run import check_tasks  # torch: not before there is something to search

    measured = [PREFIX + name for name in check_tasks(task_options(base.evaluate))]
    if search.quality.partition("@")[0] not in measured:
        raise unknown("search.quality", search.quality, "evaluate.tasks do not give", measured)


class GreedySearch:
    """One search: its rounds so far, and what they chose. The study holds the trials."""

    def __init__(self, base: TrainConfig, options: GreedyConfig):
        self.base, self.options = base, options
        self._check = CombinationCheck()

    def run(self, study: Study, launcher: Launcher, threads: int) -> int:
        """Go from the baseline to where no step is worth its cost; returns the exit code."""
        self._study, self._launcher, self._threads = study, launcher, threads
        self._report = SearchReport(study, self.options.rule, start_of(self.options.space, self.base))
        visited = {self.base.identity}
        changes: dict[str, Any] = {}
        path: list[tuple[str, dict[str, Any]]] = [(_BASELINE, {})]
        for number in range(1, self.options.rounds + 1):
            moves = self._moves(changes, visited)
            baseline, decision = self._round(number, changes, moves)
            if not baseline.completed:
                self._report.no_baseline(baseline)
                return 1
            if decision.chosen is None:
                break
            changes = moves[decision.chosen]
            path.append((decision.chosen, changes))
            visited.add(vary(self.base, changes).identity)
        self._report.winner(changes)
        self._report.verdict(self._on_fresh_seeds(path) if len(path) > 1 else None)
        return 0

    def points(self, changes: Mapping[str, Any], seeds: Sequence[int]) -> list[Point]:
        """One point per seed. Raises UserError when the changes make no valid configuration."""
        varied = vary(self.base, changes)
        return [Point(dict(changes) | {"seed": seed}, dataclasses.replace(varied, seed=seed)) for seed in seeds]

    def _moves(self, changes: Mapping[str, Any], visited: set[str]) -> dict[str, dict[str, Any]]:
        """Label -> changes, of every step to a configuration that has not been the baseline yet."""
        moves = {}
        for key, value in steps(self.options.space, self.base, changes):
            there = moved(changes, key, value)
            try:
                known = vary(self.base, there).identity in visited
            except UserError:
                known = False  # an invalid one is a candidate too: it is recorded why it is none
            if not known:
                moves[f"{key}={as_text(value)}"] = there
        return moves

    def _round(
        self, number: int, changes: Mapping[str, Any], moves: Mapping[str, Mapping[str, Any]]
    ) -> tuple[Candidate, Decision]:
        """Train the baseline and every candidate, then decide. The report is told of the state after every trial."""
        seeds, invalid = self.options.seeds, {}
        points = {_BASELINE: self.points(changes, seeds)}
        for label, there in moves.items():
            try:
                points[label] = self.points(there, seeds)
                self._check(points[label][0].run)
            except UserError as error:
                invalid[label] = str(error)

        def state() -> tuple[Candidate, Decision]:
            candidates = [
                Candidate(label, {}, invalid[label]) if label in invalid else self._candidate(label, points[label])
                for label in moves
            ]
            baseline = self._candidate(_BASELINE, points[_BASELINE])
            return baseline, decide(baseline, candidates, self.options.rule)

        wanted = [point for label, group in points.items() if label not in invalid for point in group]
        self._report.round_begins(number, changes, wanted)
        self._report.round_state(*state())
        self._study.run(wanted, self._launcher, self._threads, lambda _, record: self._report.trial(record, *state()))
        self._report.round_ends(*state())
        return state()

    def _candidate(self, label: str, points: Sequence[Point]) -> Candidate:
        return Candidate(label, {point.run.seed: self._study.record(point) for point in points})

    def _on_fresh_seeds(self, path: Sequence[tuple[str, Mapping[str, Any]]]) -> FinalVerdict:
        """The first baseline, and what every accepted step has made of it, on seeds the search has not seen."""
        groups = {label: self.points(changes, self.options.fresh_seeds) for label, changes in path}
        wanted = [point for group in groups.values() for point in group]
        self._report.fresh_begins(wanted)
        self._study.run(wanted, self._launcher, self._threads, lambda _, record: self._report.trial(record))
        return judge_path([self._candidate(label, group) for label, group in groups.items()], self.options.rule)
