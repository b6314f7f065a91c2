"""What lies below a folder: runs, checkpoints of ours, of nanoGPT and of Hugging Face, and what cannot be read.

Only heads are read, nothing is executed, and no file stops the others: what is torn or foreign is an entry that says
so.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from minigpt import config
from minigpt.checkpoint_folder import META, PREFERRED, cut_off, find_checkpoint, read_json, read_meta
from minigpt.errors import UserError, shown
from minigpt.exchange import heads
from minigpt.files import holder_of, open_to_read
from minigpt.training.metrics import METRICS
from minigpt.training.record import LOCK, RunRecord, read_run

Kind = Literal["run", "checkpoint", "nanogpt", "huggingface", "unreadable"]
Which = Literal["best", "last", "all"]

_FOREIGN = (".pt", ".pth", ".ckpt", ".safetensors", ".gguf", ".onnx")
_HF_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_HF_OTHERS = ("generation_config.json", "tokenizer_config.json")
_NOT_CONFIGURATION = (*config.NOT_IDENTITY, "init_from", "plugins", "format")
_ONE_VALUE = ("blocks", "layers", "sites", "pattern", "transforms")
_TAIL = 1 << 14  # bytes of metrics.jsonl in which the last validation of a running run is looked for

OURS = {
    "n_layer": "model.n_layer", "num_hidden_layers": "model.n_layer", "n_embd": "model.d_model",
    "hidden_size": "model.d_model", "n_head": "model.n_head", "num_attention_heads": "model.n_head",
    "num_key_value_heads": "attention.n_kv_head", "block_size": "model.block_size", "n_positions": "model.block_size",
    "max_position_embeddings": "model.block_size", "vocab_size": "model.vocab_size", "dropout": "model.dropout",
    "bias": "model.bias", "learning_rate": "optimizer.lr", "max_iters": "training.max_steps",
    "batch_size": "training.batch_size", "dataset": "data.name", "seed": "seed", "model_type": "model",
}  # fmt: skip
"""What other projects say of a model, and the key it is for us."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One thing that was found. name: its path below the folder looked at. status: of a run. values: column -> what is
    known, None or left out when it is not. configuration: dotted key -> plain value. record: a run's."""

    name: str
    kind: Kind
    path: Path
    status: str = ""
    reason: str = ""
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    configuration: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    record: RunRecord | None = None


class Listing:
    """Finds entries, again and again for who watches: a configuration is read once."""

    def __init__(self, directory: Path, which: Which | None = None):
        """which: the checkpoints of every run, in place of the runs."""
        self.directory, self.which = directory, which
        self._configurations: dict[Path, Mapping[str, Any]] = {}

    def entries(self) -> list[Entry]:
        """What there is now, sorted by path. Raises UserError when there is no such folder."""
        if not self.directory.is_dir():
            raise UserError(
                f"directory: {self.directory}: no such folder. Runs are in out/ unless training was told otherwise"
            )
        return list(self._walk())

    def _walk(self) -> Iterator[Entry]:
        failures: list[OSError] = []
        for place, folders, names in os.walk(self.directory, onerror=failures.append):
            folder, present = Path(place), set(names)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if "run.json" in present:
                folders[:] = [name for name in folders if name != "checkpoint"]
                yield from self._run(folder)
            elif META in present and present & {"model.json", "model.safetensors"}:
                yield self._tried(folder, self._checkpoint)
            elif "config.json" in present and present & {*_HF_WEIGHTS, *_HF_OTHERS}:
                yield self._tried(folder, self._huggingface)
            else:
                for name in sorted(present):
                    if name.endswith(_FOREIGN) and not name.startswith("."):
                        yield self._tried(folder / name, self._file)
        for failure in failures:
            path = Path(failure.filename)
            yield Entry(self._name(path), "unreadable", path, reason=failure.strerror or "cannot be opened")

    def _tried(self, path: Path, read: Any, *arguments: Any) -> Entry:
        try:
            return read(path, *arguments)
        except UserError as error:
            return self._unreadable(path, error)

    def _unreadable(self, path: Path, error: UserError) -> Entry:
        reason = " ".join(str(error).split()).removeprefix(f"{path}: ").removeprefix(f"{path}/")
        return Entry(self._name(path), "unreadable", path, reason=reason)

    def _run(self, folder: Path) -> Iterator[Entry]:
        try:
            record = read_run(folder)
        except UserError as error:
            yield self._unreadable(folder, error)
            return
        if self.which is None:
            yield self._tried(folder, self._whole_run, record)
            return
        for name in PREFERRED if self.which == "all" else (self.which,):
            if (folder / "checkpoint" / name).is_dir():
                yield self._tried(folder / "checkpoint" / name, self._checkpoint, record)

    def _whole_run(self, folder: Path, record: RunRecord) -> Entry:
        there, torn = self._checkpoints(folder)
        values = {name: getattr(record, name) for name in _FIELDS} | {"step": record.steps, "checkpoints": there}
        reason = record.reason
        if record.status == "running":
            values |= _latest(folder)
            if holder_of(folder / LOCK) is None:
                reason = f"no process of this machine trains it. To go on: resume={folder}"
        values |= dict(record.figures) | dict(record.scores)
        return Entry(
            self._name(folder), "run", folder, record.status, "; ".join(filter(None, (reason, torn))), values,
            self._configured(record), record,
        )  # fmt: skip

    def _checkpoints(self, folder: Path) -> tuple[str | None, str]:
        """("best 300, last 400", what is torn)."""
        there, torn = [], []
        for name in PREFERRED:
            place = folder / "checkpoint" / name
            if not place.is_dir():
                continue
            try:
                meta = read_meta(place)
                if what := cut_off(place, meta):
                    raise UserError(what)
                there.append(f"{name} {meta['step']}" if type(meta.get("step")) is int else name)
            except UserError as error:
                there.append(f"{name} torn")
                torn.append(f"checkpoint/{name}: {' '.join(str(error).split()).removeprefix(f'{place}/')}")
        return ", ".join(there) or None, "; ".join(torn)

    def _checkpoint(self, place: Path, record: RunRecord | None = None) -> Entry:
        folder = find_checkpoint(place)
        meta = read_meta(folder)
        if what := cut_off(folder, meta):
            raise UserError(what)
        values: dict[str, Any] = {name: getattr(record, name) for name in _OF_THE_MODEL} if record else {}
        values |= {"step": _number(meta, "step"), "tokens_seen": _number(meta, "tokens")}
        values |= {"val_loss": _number(meta, "val_loss"), "parameters": _number(meta, "parameters")}
        if record and record.bits_per_byte and record.val_loss and values["val_loss"] is not None:
            values["bits_per_byte"] = values["val_loss"] * record.bits_per_byte / record.val_loss  # the same text
        configuration = self._configured(record) if record else _of_model(read_json(folder, "model.json"))
        status, reason = (record.status, record.reason) if record else ("", "")
        return Entry(self._name(place), "checkpoint", folder, status, reason, values, configuration, record)

    def _file(self, file: Path) -> Entry:
        if file.suffix in (".safetensors", ".gguf", ".onnx"):
            what = "weights alone: nothing beside them says which model they are"
            if file.suffix != ".safetensors":
                what = f"a {file.suffix[1:].upper()} file, made to run elsewhere; it is not looked into"
            raise UserError(what)
        content = heads.read_torch(file)
        model, arguments = nanogpt_parts(content)
        tensors = heads.tensors_in(model)
        said = content["config"] if isinstance(content.get("config"), dict) else {}
        values = {"step": _number(content, "iter_num"), "val_loss": _number(content, "best_val_loss")}
        return Entry(
            self._name(file), "nanogpt", file, values=values | {"parameters": heads.parameters(tensors)},
            configuration=_translated(said | arguments),
        )  # fmt: skip

    def _huggingface(self, folder: Path) -> Entry:
        said, tensors = heads.read_config(folder), heads.read_weights(folder)
        values = {"parameters": heads.parameters(tensors)}
        return Entry(self._name(folder), "huggingface", folder, values=values, configuration=_translated(said))

    def _configured(self, record: RunRecord) -> Mapping[str, Any]:
        """The configuration of a run, dotted; what was said of it when that cannot be read."""
        folder = record.folder
        if folder not in self._configurations:
            try:
                self._configurations[folder] = flat(config.load_yaml(folder / "config.yaml"))
            except UserError:
                self._configurations[folder] = flat(record.overrides)
        return self._configurations[folder]

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.directory)) if path != self.directory else (path.name or str(path))


_OF_THE_MODEL = (
    "parameters", "trainable_parameters", "flops_per_token", "state_bytes_per_token", "dataset", "seed", "precision",
)  # fmt: skip
_FIELDS = (
    "val_loss", "best_val_loss", "best_step", "bits_per_byte", "train_loss", "tokens_seen", "tokens_per_second",
    "wall_seconds", "peak_memory_bytes", "stage", *_OF_THE_MODEL,
)  # fmt: skip


def nanogpt_parts(content: Any) -> tuple[Any, dict[str, Any]]:
    """(tensors by name, what the model was made with) of what a nanoGPT ``ckpt.pt`` holds. Raises UserError for another
    torch file."""
    if not isinstance(content, dict):
        raise UserError(f"a torch file that holds a {type(content).__name__}; expected nanoGPT's model and model_args")
    if not isinstance(content.get("model_args"), dict) or not heads.tensors_in(content.get("model")):
        tensors = len(heads.tensors_in(content))
        keys = ", ".join(shown(key, 20) for key in list(content)[:4])
        raise UserError(f"a torch file with {tensors} tensors ({keys}, ...) that does not say which model they are")
    return content["model"], content["model_args"]


def flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> plain value of a stored configuration, without what says where a run goes and who watches it. A
    component's name stands at its axis; blocks, layers and sites are one value."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if key not in _NOT_CONFIGURATION:
            _flatten(str(key), value, found)
    for key in config.NOT_IDENTITY_OF_TRAINING:
        found.pop(f"training.{key}", None)
    return found


def _flatten(key: str, value: Any, found: dict[str, Any]) -> None:
    if not isinstance(value, Mapping) or key in _ONE_VALUE:
        found[key] = value if value is None or isinstance(value, (str, int, float)) else _compact(value)
        return
    for inner, each in value.items():
        _flatten(key if inner == "name" and key != "data" else f"{key}.{inner}", each, found)


def _compact(value: Any) -> str:
    """A list or a group as people type it."""
    if isinstance(value, Mapping):
        inner = {k: v for k, v in value.items() if v is not None}
        if set(inner) == {"name"}:
            return str(inner["name"])
        return "{" + ", ".join(f"{k}: {_compact(v)}" for k, v in inner.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_compact, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _of_model(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a ``model.json`` implies."""
    default = spec.get("default")
    parts = dict(default) if isinstance(default, Mapping) else {}
    sizes = {k: v for k, v in spec.items() if not isinstance(v, (Mapping, list)) and k != "seed"}
    own = {k: v for k, v in spec.items() if isinstance(v, Mapping) and k != "default"}
    return flat({"model": sizes, **own, **{k: v for k, v in parts.items() if k != "label"}})


def _translated(said: Mapping[Any, Any]) -> dict[str, Any]:
    """What another project says of its model and run, under our keys where we have one."""
    return {OURS[k]: v for k, v in said.items() if k in OURS and isinstance(v, (str, int, float))}


def _number(content: Mapping[str, Any], key: str) -> float | None:
    value = content.get(key)
    if isinstance(value, heads.TensorHead) and value.shape == () and (inside := value.values()) is not None:
        value = inside.tolist()[0]
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _latest(folder: Path) -> dict[str, Any]:
    """Where a running run stands, from the end of its metrics.jsonl."""
    try:
        with open_to_read(folder / METRICS, links=False) as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
            lines = stream.read(_TAIL).decode("utf-8", "replace").split("\n")
    except UserError:
        return {}
    names = {"step": "step", "tokens": "tokens_seen", "seconds": "wall_seconds"}
    names |= {name: name for name in ("train_loss", "val_loss", "bits_per_byte", "tokens_per_second")}
    found: dict[str, Any] = {}
    for line in lines:
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(values, dict):
            found |= {names[k]: v for k, v in values.items() if k in names and isinstance(v, (int, float))}
    return found


def differing(entries: Sequence[Entry]) -> list[str]:
    """The keys in which configurations differ, each where two have it with different values. An option of a part counts
    when parts of one name differ in it: what comes with another name is said by the name."""
    keys = dict.fromkeys(key for entry in entries for key in entry.configuration)
    found = []
    for key in keys:
        axis = key.partition(".")[0]
        values: dict[Any, set[str]] = {}
        for entry in entries:
            if key in entry.configuration:
                name = entry.configuration[axis] if axis != key and axis in entry.configuration else None
                values.setdefault(name, set()).add(repr(entry.configuration[key]))
        if any(len(each) > 1 for each in values.values()):
            found.append(key)
    return sorted(found, key=lambda key: key == "seed")
