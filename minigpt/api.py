"""minigpt in Python: as short as the command line, with the same words and the same checks.

``import minigpt`` alone imports nothing heavy; each function brings what it needs. A mistake raises
``minigpt.UserError`` with the sentence that the command would have printed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt.cli import from_python
from minigpt.config import TrainConfig
from minigpt.data.preparation import PrepareConfig
from minigpt.errors import UserError
from minigpt.schema import NonNegativeInt, PositiveInt, check, typed
from minigpt.training.record import RunRecord, find_runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from minigpt.cost import Cost, Work
    from minigpt.data.tokenizers import Tokenizer
    from minigpt.hardware import Ppa
    from minigpt.model import GPT

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A model to use, trained or just built.

    gpt: the torch module, in eval mode. tokenizer: None for a model just built. meta: what is known of its training
    (step, val_loss). folder: of its checkpoint, None for a model just built.
    """

    gpt: GPT
    tokenizer: Tokenizer | None = None
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    folder: Path | None = None

    @property
    def parameters(self) -> int:
        """How many numbers were, or are to be, learned; a shared one counts once."""
        return self.gpt.parameter_count()

    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens: (B, T) int64 -> logits (B, T, V)."""
        import torch

        with torch.no_grad():
            return self.gpt(tokens.to(self.gpt.device)).logits

    def encode(self, text: str) -> list[int]:
        """Text as tokens; an empty one is the token between documents. Raises UserError without a tokenizer."""
        tokenizer = self._tokenizer()
        if text:
            return tokenizer.encode(text).tolist()
        if tokenizer.eot_token is None:
            raise UserError("prompt: is empty, and this tokenizer has no token to begin a text with. Give some text")
        return [tokenizer.eot_token]

    def generate(
        self,
        prompt: str | Sequence[str],
        max_new_tokens: int = 200,
        *,
        seed: int = 0,
        stop: Sequence[str] = (),
        **sampling: Any,
    ) -> str | list[str]:
        """Continue a prompt, or several as one batch; returns what is new, without the prompt.

        seed: of each, so that a prompt goes on in a batch as it does alone. stop: strings that end a text, as the token
        between documents does; neither is in it. sampling: temperature, top_k and the other options of
        ``sample.py`` that say how a token is chosen. Raises UserError for options that are unknown or out of range.
        """
        from minigpt.generation.config import Sampling
        from minigpt.generation.continuing import end_tokens
        from minigpt.generation.decoding import generate

        tokenizer = self._tokenizer()
        prompts = list(prompt) if isinstance(prompt, Iterable) and not isinstance(prompt, str) else [prompt]
        new = generate(
            self.gpt,
            [self.encode(check(str, each, "prompt")) for each in prompts],
            check(PositiveInt, max_new_tokens, "max_new_tokens"),
            typed(Sampling, sampling, "generate"),
            [check(NonNegativeInt, seed, "seed")] * len(prompts),
            vocab_size=tokenizer.vocab_size,
            stop_tokens=end_tokens(tokenizer, stop_at_eot=True),
            stop=[stop] if isinstance(stop, str) else stop,
            tokenizer=tokenizer,
        )
        texts = [row.text or "" for row in new]
        return texts[0] if isinstance(prompt, str) else texts

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise UserError("this model was just built and has no tokenizer. Call it with tokens, or train it first")
        return self.tokenizer


def configure(*words: str, **choices: Any) -> TrainConfig:
    """The configuration of a training run, checked, as ``train.py`` would have it.

    words: of the command line. choices: the same as values: ``attention="gqa", model={"n_layer": 4}``; a variant with
    options is ``attention={"name": "causal", "n_kv_head": 2}``. Raises UserError for what does not fit together.
    """
    return from_python.composed(words, choices)[0]


def build(*words: str, **choices: Any) -> Model:
    """A model with its first values, on the CPU, in eval mode; ``model={"vocab_size": ...}`` if no dataset says it."""
    from minigpt.model import GPT

    return Model(GPT.create(_spec(configure(*words, **choices)), "cpu").eval())


def load(source: str | Path | RunRecord, device: str = "auto", plugins: Sequence[str] = ()) -> Model:
    """A trained model: of a run, a checkpoint folder, or what else ``sample.py`` reads; or of the record of a run.

    Raises UserError when there is none, it is torn, or made of parts not registered here.
    """
    from minigpt.device import choose_device
    from minigpt.exchange.trained import load_trained

    path = source.folder if isinstance(source, RunRecord) else source
    trained = load_trained(path, choose_device(device), plugins)
    return Model(trained.model, trained.tokenizer, trained.meta, trained.folder)


def train(*words: str, **choices: Any) -> RunRecord:
    """Train, as ``train.py`` does; returns the record, whose status says how it ended and whose folder has the rest."""
    from minigpt.training.fit import fit

    run, said = from_python.composed(words, choices)
    return fit(run, overrides=said)


def sweep(*words: str, **choices: Any) -> list[Row]:
    """Train every combination of the values in lists, each in a process of its own; returns a row per trial.

    ``sweep(softmax=["softmax", "relumax"], seed=[0, 1], study="mine")`` is ``train.py -m``; the same call again trains
    only what is missing. Raises UserError as the command does, and when no trial completed.
    """
    return runs(from_python.swept(words, choices))


def runs(folder: str | Path = "out") -> list[Row]:
    """The records of all runs at or below a folder, flat, for ``pandas.DataFrame(minigpt.runs("out"))``.

    What was said of a run is a column under its key (``softmax``), scores and figures under ``scores.<task>.<metric>``
    and ``figures.<name>``. Raises UserError for a folder that is not there; unreadable records are left out.
    """
    return [_row(record) for record in find_runs(folder).records]


def price(
    what: TrainConfig | Model | str | Path, hardware: str = "edge_16nm", *, context: int | None = None, batch: int = 1
) -> Ppa:
    """Energy, latency and area of a model on a machine, trained or not: one decode step that sees ``context`` keys.

    what: a configuration, a model, or where one lies. hardware: a name in conf/hardware, or a YAML file. context: None
    is the model's block_size. batch: sequences decoded together.
    """
    from minigpt.hardware import price as priced
    from minigpt.hardware import spec
    from minigpt.report.ppa import context_of

    gpt = _plan(what)
    cost_of: Callable[[Work], Cost] = gpt.cost
    return priced(spec.load(str(hardware)), cost_of, context=context_of(gpt, context), batch=batch)


def evaluate(
    what: Model | RunRecord | str | Path, tasks: str | Sequence[str] = ("builtin",), **options: Any
) -> dict[str, float]:
    """Scores ``<task>.<metric>`` on tasks of lm-evaluation-harness; ``builtin`` is our own suite.

    what: a model, or where one lies; scores of a run are kept in its record, as ``minigpt evaluate`` does. options:
    those of that command, such as limit and include_path. Raises UserError for tasks that are unknown or cannot be had.
    """
    from minigpt.evaluation.config import EvaluationConfig, task_options
    from minigpt.training.scoring import score_one

    place = what.folder if isinstance(what, (Model, RunRecord)) else what
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    config = typed(EvaluationConfig, {**options, "checkpoint": str(place), "tasks": names}, "evaluate")
    if not isinstance(what, Model):
        return dict(score_one(Path(config.checkpoint or ""), config).scores)
    from minigpt.evaluation.run import evaluate as scored
    from minigpt.exchange.trained import TrainedModel

    trained = TrainedModel(what.gpt, what._tokenizer(), dict(what.meta), what.folder or Path())
    return dict(scored(trained, task_options(config)).scores)


def prepare(**options: Any) -> Path:
    """Text to tokens, as ``data/prepare.py`` does: ``prepare(source="my_texts", name="mine")``; returns the folder."""
    from minigpt.data.preparation import prepare as prepared
    from minigpt.screen import say

    return prepared(typed(PrepareConfig, options, "prepare"), say=say)


def _plan(what: TrainConfig | Model | str | Path) -> GPT:
    if isinstance(what, Model):
        return what.gpt
    if isinstance(what, TrainConfig):
        from minigpt.model import GPT

        return GPT.on_meta(_spec(what))
    return load(what, device="cpu").gpt


def _spec(run: TrainConfig) -> Any:
    """The ModelSpec of a configuration; the vocabulary is the dataset's, where none is given."""
    from minigpt.data.dataset_folder import open_prepared, prepared_names
    from minigpt.model import resolve

    known = run.model.vocab_size is None and run.data.name in prepared_names(run.data.folder)
    return resolve(run, open_prepared(run.data.name, run.data.folder).meta.vocab_size if known else None)


def _row(record: RunRecord) -> Row:
    content = dataclasses.asdict(record)
    row = {key: value for key, value in content.items() if not isinstance(value, (dict, tuple, list))}
    row["folder"] = str(record.folder)
    for group in ("figures", "scores"):
        row |= {f"{group}.{name}": value for name, value in content[group].items()}
    return row | {key: value for key, value in content["overrides"].items() if key not in row}
