"""The configuration of a training run: its schemas, the strict check, and the blocks a pattern spells out.

Entry points call :func:`check` on what Hydra composed and hand the frozen result down; nothing below ever sees a
``DictConfig``. Rooms with entry points of their own (search, sampling, reports) keep their schema beside their code and
use the same check.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from minigpt import presets, registry, schema
from minigpt.blocks import BlockSpec, LayerCount, ShareSpec, resolve_blocks, resolve_sites
from minigpt.errors import UserError
from minigpt.files import read_text
from minigpt.mixture import Stage, canonical, check_mixture, stages_of
from minigpt.plugins import load_plugins, module_name
from minigpt.registry import Component, Parts, Spec
from minigpt.schema import (
    Count,
    FilePath,
    Limit,
    Name,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
    Range,
    options,
)

T = TypeVar("T")
LARGEST_YAML = 1 << 20
"""Bytes of a stored configuration; one of a hundred different layers has some 50,000."""


Seed = Annotated[int, Range(ge=0, lt=2**63)]  # what torch's generators take
Width = Annotated[int, Range(ge=1), Limit(2**20)]
Length = Annotated[int, Range(ge=1), Limit(2**28)]  # of a context or a vocabulary


@options
class DataConfig:
    """Which prepared dataset, ``folder/name``, or which several.

    name: of the dataset; in a mix, of the one whose validation loss is the run's. folder: where datasets lie.
    val_tokens: validate on the first so many tokens (None: all of them). order: of what is learned from: windows at
    random places, or epochs, each with every block of the text once. mix: dataset -> weight, of several with one
    tokenizer; only the ratios matter. curriculum: stages of the training, one after the other, each with its mix.
    """

    name: Name = "pydocs"
    folder: FilePath = "data"
    val_tokens: Count | None = None
    order: Literal["random", "epochs"] = "random"
    mix: dict[str, PositiveFloat] = field(default_factory=dict)
    curriculum: list[Stage] = ()  # type: ignore[assignment]

    def __post_init__(self):
        check_mixture(self.name, self.mix, self.curriculum)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Of a training that mixes datasets; none where it has one."""
        return stages_of(self.mix, self.curriculum)

    def identity(self) -> dict[str, Any]:
        """What of it decides the result."""
        content = {"name": self.name, "folder": self.folder, "val_tokens": self.val_tokens}
        order = {} if self.order == "random" else {"order": self.order}
        return content | order | canonical(self.mix, self.curriculum)


@options
class ModelConfig:
    """The sizes all components share.

    d_model: width of the model. n_head: attention heads. head_dim: None is d_model / n_head. n_layer: blocks.
    block_size: tokens of context. vocab_size: None is the dataset's. bias: of every linear map; norms have options of
    their own. dropout: after the embedding, on attention weights and on every sub-layer's output. tie_embeddings: the
    head has the embedding's weights.
    """

    d_model: Width = 128
    n_head: Width = 4
    head_dim: Width | None = None
    n_layer: LayerCount = 4
    block_size: Length = 128
    vocab_size: Length | None = None
    bias: bool = False
    dropout: Probability = 0.0
    tie_embeddings: bool = True

    def __post_init__(self):
        if self.head_dim is None and self.d_model % self.n_head:
            near = [
                d
                for d in (self.d_model // self.n_head * self.n_head, -(-self.d_model // self.n_head) * self.n_head)
                if d
            ]
            raise UserError(
                f"model.d_model: {self.d_model} is not divisible by model.n_head={self.n_head}. "
                f"Take d_model={' or '.join(map(str, near))}, another n_head, or set model.head_dim"
            )


@options
class TrainingConfig:
    """The loop. The run ends at the first budget reached: max_steps, max_tokens or max_seconds.

    batch_size: sequences of one micro-step. gradient_accumulation: micro-steps of one step. max_steps: optimizer steps.
    max_tokens: of training text. max_seconds: of training time. eval_interval: steps between validations. log_interval:
    steps between lines of metrics.jsonl. clip_norm: longest gradient (None: any). precision: auto is bf16 where it is
    fast, else fp32. compile: torch.compile the model. activation_checkpointing: less memory, more time. patience: stop
    after so many validations without an improvement of min_delta. min_delta: nats that count as one. diverged_above: a
    training loss above this many times ln(vocab_size) ends the run as diverged. checkpoint_interval: steps between
    saves of ``last`` (None: at every validation). threads: of torch (None: all cores).
    """

    batch_size: Annotated[int, Range(ge=1), Limit(2**20)] = 16
    gradient_accumulation: Annotated[int, Range(ge=1), Limit(2**20)] = 1
    max_steps: Count | None = 400
    max_tokens: Count | None = None
    max_seconds: PositiveFloat | None = None
    eval_interval: PositiveInt = 100
    log_interval: PositiveInt = 10
    checkpoint_interval: PositiveInt | None = None
    clip_norm: PositiveFloat | None = 1.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    activation_checkpointing: bool = False
    patience: PositiveInt | None = None
    min_delta: NonNegativeFloat = 0.0
    diverged_above: PositiveFloat = 3.0
    threads: Annotated[int, Range(ge=1), Limit(1024)] | None = None

    def __post_init__(self):
        if self.max_steps is None and self.max_tokens is None and self.max_seconds is None:
            raise UserError("training: no budget. Set one of max_steps, max_tokens, max_seconds")


@options
class LoggerConfig:
    """Where metrics go beside ``metrics.jsonl``, which is always written. A tracker's failure never ends a run.

    name: the tracker. project: of wandb. mode: of wandb; offline needs no account and no network. init_timeout: seconds
    wandb may take to start.
    """

    name: Literal["none", "tensorboard", "wandb"] = "none"
    project: Name = "minigpt"
    mode: Literal["offline", "online"] = "offline"
    init_timeout: PositiveFloat = 10.0

    def __post_init__(self):
        for option, default in (("project", "minigpt"), ("mode", "offline"), ("init_timeout", 10.0)):
            if self.name != "wandb" and getattr(self, option) != default:
                raise UserError(f"logger.{option}: is an option of wandb; logger={self.name} would ignore it")


@options
class TaskOptions:
    """What a model is evaluated on, by lm-evaluation-harness.

    tasks: names; builtin is our own suite. include_path: a folder with task files of your own. num_fewshot: examples
    before each question (None: what the task says). limit: only the first so many questions of each task. batch_size:
    rows at a time, or auto. chat_template: put questions into the tokenizer's template.
    """

    tasks: list[Name] = ()  # type: ignore[assignment]
    include_path: FilePath | None = None
    num_fewshot: Annotated[int, Range(ge=0), Limit(1000)] | None = None
    limit: PositiveInt | None = None
    batch_size: PositiveInt | Literal["auto"] = "auto"
    chat_template: bool = False

    def __post_init__(self):
        if len(set(self.tasks)) < len(self.tasks):
            raise UserError(f"tasks: each once, got {', '.join(self.tasks)}")


@options
class EvaluateConfig(TaskOptions):
    """Evaluation of a run while it trains, and of its last weights.

    interval: steps between evaluations (None: at the end alone). limit: scores of a part of the questions are in
    metrics.jsonl alone, not in the record.
    """

    interval: PositiveInt | None = None

    def __post_init__(self):
        super().__post_init__()
        for option in dataclasses.fields(self):
            if not self.tasks and option.name != "tasks" and getattr(self, option.name) != option.default:
                raise UserError(
                    f"evaluate.{option.name}: does nothing without tasks. Name some, such as evaluate.tasks=[builtin]"
                )


@options
class TrainConfig:
    """Everything a run is. The component keys are the default block; ``sites``, ``blocks``, ``pattern`` and ``layers``
    vary it.

    sites: single places inside a block: {linear: {down: ternary}}. share: which layers share parts. blocks: named ones
    that differ from the default: {local: {attention: {window: 64}}}. pattern: how blocks are laid over the layers.
    layers: single ones: {0: default}. repeat_pattern: as often as it fits, the last time cut off. seed: of every random
    choice. device: auto, cpu, cuda, mps. out: where runs are written. workers: trials of a sweep at a time. transforms:
    what rewrites the built model. name: the run's folder is ``out/name`` (None: the time and the config's hash).
    resume: a run folder to go on from. init_from: a run, a checkpoint, or another project's model (a Hugging Face
    folder, a ckpt.pt, gpt2) whose weights the run starts from; it has the model of those. plugins: modules that
    register components. explorations, study: of sweeps; None for a single run. skip_invalid: a sweep goes on
    without the points that cannot be built, and lists them.
    """

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    parts: Annotated[Mapping[str, Spec], Parts("block", "model")]
    sites: dict[str, dict[str, Any]] = field(default_factory=dict)
    share: ShareSpec = ShareSpec()
    transforms: list[Annotated[Spec, Component("transform")]] = ()  # type: ignore[assignment]
    blocks: dict[str, dict[str, Any]] = field(default_factory=dict)
    pattern: list[str] = ()  # type: ignore[assignment]
    layers: dict[str, str | dict[str, Any]] = field(default_factory=dict)
    repeat_pattern: bool = False
    optimizer: Annotated[Spec, Component("optimizer")]
    schedule: Annotated[Spec, Component("schedule")]
    task: Annotated[Spec, Component("task")]
    training: TrainingConfig = TrainingConfig()
    logger: LoggerConfig = LoggerConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    seed: Seed = 0
    device: Name = "auto"
    out: FilePath = "out"
    name: Name | None = None
    resume: FilePath | None = None
    init_from: FilePath | None = None
    study: Name | None = None
    workers: Annotated[int, Range(ge=1), Limit(1024)] = 1
    skip_invalid: bool = False
    plugins: list[str] = ()  # type: ignore[assignment]
    explorations: None = None

    foreign: ClassVar[Mapping[str, str]] = {
        "batch": "training.batch_size",
        "context_length": "model.block_size",
        "dataset": "data",
        "dim": "model.d_model",
        "dtype": "training.precision",
        "embed_dim": "model.d_model",
        "epochs": "training.max_steps",
        "eval_every": "training.eval_interval",
        "grad_accum": "training.gradient_accumulation",
        "grad_clip": "training.clip_norm",
        "gradient_accumulation_steps": "training.gradient_accumulation",
        "hidden_size": "model.d_model",
        "learning_rate": "optimizer.lr",
        "lr_scheduler": "schedule",
        "max_iters": "training.max_steps",
        "max_seq_len": "model.block_size",
        "min_lr": "schedule.min_factor",
        "n_ctx": "model.block_size",
        "n_embd": "model.d_model",
        "num_attention_heads": "model.n_head",
        "num_heads": "model.n_head",
        "num_hidden_layers": "model.n_layer",
        "num_key_value_heads": "attention.n_kv_head",
        "num_layers": "model.n_layer",
        "seq_len": "model.block_size",
        "total_steps": "training.max_steps",
        "train_steps": "training.max_steps",
        "warmup": "schedule.warmup_steps",
        "warmup_iters": "schedule.warmup_steps",
    }
    """What others call our keys: where an unknown one is suggested from."""

    def __post_init__(self):
        self.resolved_blocks()

    def default_block(self) -> BlockSpec:
        """The block the top-level component keys and sites describe."""
        parts = {axis: self.parts[axis] for axis in registry.axes("block")}
        return BlockSpec(label="default", parts=parts, sites=resolve_sites(parts, self.sites, "sites"))

    def resolved_blocks(self) -> tuple[BlockSpec, ...]:
        """One BlockSpec per layer."""
        return resolve_blocks(
            self.default_block(),
            self.blocks,
            tuple(self.pattern),
            self.layers,
            self.model.n_layer,
            repeat=self.repeat_pattern,
        )

    @functools.cached_property
    def identity(self) -> str:
        """Hash of everything that decides the result: equal configurations are the same trial, wherever they run."""
        content = schema.plain(self)
        for key in NOT_IDENTITY:
            content.pop(key)
        for key in NOT_IDENTITY_OF_TRAINING:
            content["training"].pop(key)
        content["data"] = self.data.identity()
        content["plugins"] = [module_name(plugin) for plugin in self.plugins]
        content["sites"] = schema.plain(self.default_block().sites)
        if self.pattern or self.layers:  # what every layer is, however it is said
            blocks = [schema.plain(dataclasses.replace(block, label="")) for block in self.resolved_blocks()]
            alike = all(block == schema.plain(dataclasses.replace(self.default_block(), label="")) for block in blocks)
            content |= {"blocks": {} if alike else blocks, "pattern": [], "layers": {}, "repeat_pattern": False}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


NOT_IDENTITY = (
    "out", "name", "resume", "study", "workers", "skip_invalid", "logger", "evaluate", "explorations", "device",
)  # fmt: skip
"""Top-level keys that say where a run goes and who watches it, not what comes out."""
NOT_IDENTITY_OF_TRAINING = ("threads", "log_interval", "checkpoint_interval")


def check(cfg: Any, root: type[T]) -> T:
    """Turn what was composed into the frozen, typed ``root``. The first thing every entry point does.

    cfg: a DictConfig, or plain data. Plugins it lists are loaded first, so that their names are known.
    Raises UserError for the first key, type, value or combination that is not understood.
    """
    content = to_plain(cfg)
    if content.get("plugins"):
        load_plugins(content["plugins"])
    return schema.typed(root, presets.spell_out(content) if issubclass(root, TrainConfig) else content)


def to_plain(cfg: Any) -> dict[str, Any]:
    """Resolve a DictConfig into plain dicts and lists; plain data is returned as it is."""
    if isinstance(cfg, Mapping) and not hasattr(cfg, "_metadata"):
        return dict(cfg)
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'config'}: {str(error).splitlines()[0]}") from None


def load_yaml(file: Path) -> dict[str, Any]:
    """Read a stored configuration with OmegaConf's rules for scalars (3e-4 is a number), and nothing else of it.

    Such a file may be a stranger's. Raises UserError when it is torn, and for what it could reach out with or grow by:
    interpolations such as ``${oc.env:HOME}`` are never resolved, anchors never followed.
    """
    from yaml import YAMLError

    text = read_text(file, limit=LARGEST_YAML)
    try:
        content = _plain_yaml(text)
        if not isinstance(content, dict) or not content:
            raise UserError(f"{file}: not a configuration")
        _refuse_interpolations(content, file)
    except (YAMLError, ValueError, TypeError, RecursionError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]
        raise UserError(f"{file}: cannot be read: {what}") from None
    return content


def refuse_anchors(text: str) -> None:
    """Raise YAMLError for YAML whose anchors are followed somewhere: before OmegaConf would spell them out."""
    if "&" in text:
        _plain_yaml(text)


def _plain_yaml(text: str) -> Any:
    """YAML without anchors: a few lines of them can stand for a file larger than any memory."""
    import yaml
    from omegaconf._utils import get_yaml_loader

    if _is_shallow(text) and "&" not in text and hasattr(yaml, "CSafeLoader"):
        return yaml.load(text, Loader=_fast_loader())

    class Loader(get_yaml_loader()):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError(f"*{self.peek_event().anchor}: anchors are not followed, write the value out")
            return super().compose_node(parent, index)

    return yaml.load(text, Loader=Loader)


@functools.cache
def _fast_loader() -> Any:
    """OmegaConf's rules on the parser in C, a tenth of the time."""
    import yaml
    from omegaconf._utils import get_yaml_loader

    rules = get_yaml_loader()

    class Loader(yaml.cyaml.CParser, rules):  # type: ignore
        def __init__(self, stream: Any):
            yaml.cyaml.CParser.__init__(self, stream)  # type: ignore[attr-defined]
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    return Loader


def _is_shallow(text: str) -> bool:
    """Whether nothing in it can be nested so deep that the parser in C, which does not look, runs out of stack: a level
    takes a bracket or a column."""
    return text.count("[") + text.count("{") < 500 and max(map(len, text.splitlines()), default=0) < 500


def _refuse_interpolations(value: Any, file: Path, path: str = "") -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            _refuse_interpolations(str(key), file, path)
            _refuse_interpolations(each, file, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for i, each in enumerate(value):
            _refuse_interpolations(each, file, f"{path}[{i}]")
    elif isinstance(value, str) and "${" in value:
        raise UserError(f"{file}: {path}: '{value[:80]}' would be filled in from outside. Write the value itself")


def save_yaml(value: Any, file: Path) -> None:
    """Write typed configuration as YAML that :func:`check` reads back to an equal value."""
    from omegaconf import OmegaConf

    file.write_text(OmegaConf.to_yaml(OmegaConf.create(schema.plain(value))), encoding="utf-8")
