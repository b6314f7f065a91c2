"""The sweeper behind ``-m`` and ``explorations=``: the grid of a command line, as a study.

Hydra hands over the command line; every point of the grid is composed and checked here before the first is started.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.plugins.sweeper import Sweeper

from minigpt import config
from minigpt.errors import UserError
from minigpt.screen import say
from minigpt.search.grid import Grid
from minigpt.search.points import Point, refuse_nothing, refuse_single_run_keys, refuse_swept, study_name, unique, valid
from minigpt.search.progress import counted

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

_HYDRAS_NAME = "hydra_plugins.minigpt"  # Hydra builds plugins of its own package and of this one, and no other
_PLAIN_WORD = re.compile(r"[\w./+@-]+")


class StudySweeper(Sweeper):
    """Runs a grid as one study in ``out/<study>``; see :class:`minigpt.search.study.Study`.

    params: keys to sweep from a YAML file, as a list (``seed: [0, 1, 2]``) or in Hydra's words (``seed: range(0,3)``);
    what the command line says of the same key wins. The study is called what ``study=`` says, else as the exploration,
    else after the swept keys.
    """

    __module__ = _HYDRAS_NAME

    hydra_context: HydraContext
    config: DictConfig

    def __init__(self, params: Mapping[str, Any] | None = None):
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before :meth:`sweep`."""
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Path:
        """Run what the grid of ``arguments`` and params lacks; returns the study's folder. Ends the process with code 1
        when no trial completed."""
        if self.config.hydra.job.config_name != "train":
            raise UserError(f"-m: only training can be swept, not {self.config.hydra.job.config_name}")
        skipped: list[UserError] | None = [] if self.config.skip_invalid is True else None
        points = valid(self.points(arguments), skipped=skipped)
        refuse_nothing(points, skipped)
        base = points[0].run
        refuse_single_run_keys(base)
        distinct = unique(points)
        if len(distinct) < len(points):
            say(f"{len(points) - len(distinct)} of {len(points)} points are the same as others and run once")
        from minigpt.search.run import sweep  # the engine: optuna and processes only once there is something to run

        name = base.study or self._exploration() or study_name(distinct)
        folder = Path(base.out) / name
        if not sweep(folder, distinct, base.workers, skipped):
            sys.exit(1)
        return folder

    def points(self, arguments: Sequence[str]) -> Iterator[Point | UserError]:
        """Every point of the grid, composed and typed, in the order of its keys; or in its place, why it is none."""
        overrides = self._overrides(arguments)
        swept = [o.key_or_group for o in overrides if o.is_sweep_override()]
        refuse_swept(swept)
        for key in swept:
            if sum(o.key_or_group == key for o in overrides) > 1:
                raise UserError(f"{key}: given more than once. Say all its values in one place: {key}=1,2,3")
        grid = Grid(self.hydra_context.config_loader, self.config, overrides)
        yield from counted(grid, len(grid), "points read")

    def _overrides(self, arguments: Sequence[str]) -> list[Override]:
        """The params, then the command line; of one key only what the command line says."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = parser.parse_overrides(list(arguments))
        said = {override.key_or_group for override in given}
        params = config.to_plain(self.params or {})
        groups = self.hydra_context.config_loader.list_groups("")
        texts = [
            f"{key if key in groups else '++' + key}={_in_hydras_words(value)}"  # ++: unknown keys are for our check
            for key, value in params.items()
            if key not in said
        ]
        return parser.parse_overrides(texts) + given

    def _exploration(self) -> str | None:
        chosen = self.config.hydra.runtime.choices["explorations"]
        return None if chosen in (None, "null") else str(chosen).rsplit("/", 1)[-1]


def _in_hydras_words(value: Any) -> str:
    """A YAML value as Hydra's override grammar spells it. A list holds the values to sweep; text is taken as it is."""
    if isinstance(value, list):
        return ",".join(element(each) for each in value)
    return value if isinstance(value, str) else element(value)


def element(value: Any) -> str:
    """One value of YAML or Python in Hydra's grammar."""
    if isinstance(value, str) and not _PLAIN_WORD.fullmatch(value):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, list):
        return "[" + ",".join(map(element, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{element(each)}" for key, each in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _stand_in_hydras_package() -> None:
    """Make the sweeper importable by the name Hydra accepts, without a second place in the source tree."""
    try:
        package = importlib.import_module("hydra_plugins")
    except ImportError:  # there is one only where other plugins are installed
        package = types.ModuleType("hydra_plugins")
        package.__path__ = []
        sys.modules["hydra_plugins"] = package
    module = types.ModuleType(_HYDRAS_NAME)
    module.StudySweeper = StudySweeper  # type: ignore[attr-defined]
    sys.modules[_HYDRAS_NAME] = package.minigpt = module  # type: ignore[attr-defined]


_stand_in_hydras_package()
