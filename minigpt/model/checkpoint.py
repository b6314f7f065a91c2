"""Checkpoints: a model, what it is, and its tokenizer in one folder that needs nothing else.

``model.safetensors`` holds the weights (a shared one once), ``model.json`` the ModelSpec, ``tokenizer.json`` the
tokenizer, ``meta.json`` where training stood and the hash of every file. A checkpoint is data from strangers: reading
one parses JSON and safetensors, resolves names through the registry, and imports nothing the caller did not ask for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from minigpt import registry
from minigpt.checkpoint_folder import find_checkpoint, read_json, read_meta, refused, replace_checkpoint, verified
from minigpt.components.base import Part
from minigpt.errors import UserError
from minigpt.model.gpt import GPT
from minigpt.model.spec import ModelSpec
from minigpt.plugins import is_loaded, load_plugins
from minigpt.schema import plain, typed

__all__ = [
    "Checkpoint",
    "find_checkpoint",
    "load_checkpoint",
    "load_weights",
    "read_spec",
    "save_checkpoint",
    "start_from",
    "verified",
]

WEIGHTS, SPEC, TOKENIZER = "model.safetensors", "model.json", "tokenizer.json"
_SAME_WEIGHTS = ("seed", "init", "dropout")  # of a ModelSpec: what may differ while the weights still fit


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint. model: in eval mode, on the device asked for. tokenizer, meta: as stored."""

    model: GPT
    spec: ModelSpec
    tokenizer: dict[str, Any]
    meta: dict[str, Any]
    folder: Path


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    *,
    tokenizer: Mapping[str, Any],
    meta: Mapping[str, Any],
    plugins: Sequence[str] = (),
    extra: Mapping[str, Callable[[Path], None]] | None = None,
    weights: Callable[[Path], None] | None = None,
) -> None:
    """Replace ``folder`` by a checkpoint of ``model``, whole or not at all.

    model: a GPT, compiled or not. tokenizer: its JSON form. meta: what to remember of the training (step, val_loss);
    the format, the tensors' roles and every file's size and sha256 are added. plugins: the modules that registered the
    model's parts, for people to know. extra: further files, name -> what writes it, given its path. weights: writes
    the file of the weights, for a model whose own are not in memory; None writes those it has.
    """
    gpt = _unwrapped(model)
    roles = {_plain_name(name): role for name, role in gpt.roles().items()}
    spec = plain(gpt.spec) | {"plugins": list(plugins)}
    writers: dict[str, Callable[[Path], None]] = {
        WEIGHTS: weights or (lambda file: _save_tensors(gpt, file)),
        SPEC: lambda file: _write_json(file, spec),
        TOKENIZER: lambda file: _write_json(file, tokenizer),
    }
    for name, write in (extra or {}).items():
        if name in writers or name == "meta.json":
            raise ValueError(f"{name} is one of a checkpoint's own files")
        writers[name] = write
    replace_checkpoint(Path(folder), writers, {**meta, "parameters": gpt.parameter_count(), "roles": roles})


def _save_tensors(model: nn.Module, file: Path) -> None:
    tensors = {name: tensor.detach().contiguous() for name, tensor in _tensors(model)}
    save_file(tensors, file, metadata={"format": "pt"})


def load_checkpoint(path: Path | str, device: torch.device | str = "cpu", plugins: Sequence[str] = ()) -> Checkpoint:
    """Read a checkpoint, and build its model on ``device``, in eval mode.

    path: a run's folder (its best checkpoint, else its last) or a checkpoint's. plugins: modules to import first,
    because the caller trusts them; those a checkpoint lists are never imported for its sake.
    Raises UserError when there is none, or it is torn, or it was made of parts that are not registered here.
    """
    load_plugins(plugins)
    folder = find_checkpoint(path)
    verified(folder, (WEIGHTS, SPEC, TOKENIZER))
    spec = read_spec(folder)
    with _weights(folder) as stored:
        with _building(folder, device):
            plan = GPT.on_meta(spec)
        _check_fit(plan, stored, folder)  # before memory is taken for sizes a file only claims
        with _building(folder, device):
            model = GPT.create(spec, device, initialise=False)
        _fill(model, stored)
    return Checkpoint(model.eval(), spec, read_json(folder, TOKENIZER), read_meta(folder), folder)


def load_weights(model: nn.Module, folder: Path | str) -> None:
    """Fill ``model`` with a checkpoint's weights, to go on training it; compiled or not, on its own device.

    Raises UserError when the checkpoint is torn or of another architecture, naming what differs; the model is then
    untouched.
    """
    gpt, folder = _unwrapped(model), find_checkpoint(folder)
    verified(folder, (WEIGHTS, SPEC))
    _check_same(read_spec(folder), gpt.spec, folder)
    with _weights(folder) as stored:
        _check_fit(gpt, stored, folder)
        _fill(gpt, stored)


def start_from(model: nn.Module, folder: Path | str) -> frozenset[str]:
    """Fill ``model`` with a checkpoint's weights as far as they go, to train something else from there.

    The model may have further transforms at the end of its list: they convert the weights, and what they add keeps
    its first values. The context may be shorter, or another one where no tensor depends on it. Returns the names of
    the tensors filled. Raises UserError when the checkpoint is torn, or holds another architecture or vocabulary,
    naming what differs; the model is then untouched.
    """
    gpt, folder = _unwrapped(model), find_checkpoint(folder)
    verified(folder, (WEIGHTS, SPEC))
    source = read_spec(folder)
    with _weights(folder) as stored:
        with _building(folder):
            plan = GPT.on_meta(source)
        _check_fit(plan, stored, folder)
        weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    return start_with(gpt, source, weights, folder)


def start_with(gpt: GPT, source: ModelSpec, weights: dict[str, Tensor], folder: Path) -> frozenset[str]:
    """Fill a model with the tensors of the model ``source``, which lie in ``folder``, as :func:`start_from` does."""
    added = gpt.spec.transforms[len(source.transforms) :]
    if gpt.spec.transforms[: len(source.transforms)] != source.transforms:
        raise UserError(
            f"transforms: {folder} has {_listed(source.transforms)}, this model {_listed(gpt.spec.transforms)}. "
            f"Begin with those of the checkpoint, in their order; others may follow"
        )
    wanted = dataclasses.replace(gpt.spec, transforms=source.transforms)
    _check_same(source, dataclasses.replace(wanted, block_size=source.block_size), folder)
    held = set(weights)
    for transform in added:
        weights = registry.build(transform).convert(weights)
    tensors = dict(_tensors(gpt))
    weights = {name: _cut(tensor, tensors.get(name), source, gpt.spec) for name, tensor in weights.items()}
    for name, tensor in weights.items():
        if name not in tensors or _form(tensors[name]) != _form(tensor):
            _check_same(source, wanted, folder)  # in the words of the configuration, if it has some
            has = _form(tensors[name]) if name in tensors else "no such tensor"
            raise UserError(f"{folder / WEIGHTS}: {name}: the file has {_form(tensor)}, this model {has}")
    _refuse_dropped(gpt, held, weights, added)
    with torch.no_grad():
        for name, tensor in weights.items():
            tensors[name].copy_(tensor)
    return frozenset(weights)


def _cut(tensor: Tensor, wanted: Tensor | None, source: ModelSpec, spec: ModelSpec) -> Tensor:
    """The first rows of a table with one for every place of a longer context; any other tensor as it is."""
    if wanted is None or tensor.shape[1:] != wanted.shape[1:] or spec.block_size >= source.block_size:
        return tensor
    by_place = tensor.shape[:1] == (source.block_size,) and wanted.shape[:1] == (spec.block_size,)
    return tensor[: spec.block_size] if by_place else tensor


def _refuse_dropped(model: GPT, held: Collection[str], weights: Collection[str], transforms: Sequence[Any]) -> None:
    """Raise UserError for a tensor that the checkpoint held and transforms lost, or that only a conversion could give:
    it would silently start from something else."""
    names = {name for name, _ in model.named_parameters()}
    for name, _ in _tensors(model):
        owner = model.get_submodule(name.rpartition(".")[0])
        new = name in names or (isinstance(owner, Part) and type(owner).init_buffers is not Part.init_buffers)
        if name not in weights and (name in held or not new):
            raise UserError(f"transforms: {name} gets no value from the conversion of {_listed(transforms)}")


def _listed(transforms: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, transforms))}]"


def read_spec(folder: Path) -> ModelSpec:
    """The ModelSpec stored in a checkpoint folder; raises UserError for one that cannot be built here."""
    content = read_json(folder, SPEC)
    plugins, blocks = content.pop("plugins", []), content.get("blocks")
    if isinstance(blocks, list) and len(blocks) != content.get("n_layer"):
        n_layer = str(content.get("n_layer"))[:20]
        raise UserError(f"{folder / SPEC}: n_layer is {n_layer}, but {len(blocks)} blocks are described")
    try:
        spec = typed(ModelSpec, content)
    except UserError as error:
        missing = [p for p in plugins if isinstance(p, str) and not is_loaded(p)] if isinstance(plugins, list) else []
        if missing:
            raise UserError(
                f"{folder / SPEC}: needs the plugin {', '.join(missing)}, and a checkpoint imports nothing by itself. "
                f"If you trust it: plugins=[{','.join(missing)}]"
            ) from None
        raise UserError(f"{folder / SPEC}: {error}") from None
    except (OverflowError, RecursionError) as error:
        raise UserError(f"{folder / SPEC}: no model of this world ({error})") from None
    return spec


@contextlib.contextmanager
def _building(folder: Path, device: torch.device | str = "meta") -> Iterator[None]:
    """Context in which a model is built from a file's word: what goes wrong is said of the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{folder / SPEC}: {error}") from None
    except (RuntimeError, ValueError, TypeError, MemoryError, OverflowError) as error:
        raise UserError(f"{folder / SPEC}: this model cannot be built on {device} ({error})") from None


class _weights:
    """Context manager: a safetensors file open for reading, its failures turned into UserErrors."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> Any:
        try:
            self.file = safe_open(self.folder / WEIGHTS, framework="pt", device="cpu")
        except (SafetensorError, OSError) as error:
            raise refused(self.folder, error) from None
        return self.file.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.file.__exit__(kind, error, trace)
        if isinstance(error, SafetensorError):
            raise refused(self.folder, error) from None


def _check_same(stored: ModelSpec, wanted: ModelSpec, folder: Path) -> None:
    """Raise UserError naming the first key in which two models differ so that weights do not mean the same."""
    here, there = dict(_leaves(plain(wanted))), dict(_leaves(plain(stored)))
    different = [key for key in {**here, **there} if here.get(key) != there.get(key)]
    if different:
        key = different[0]
        more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
        has, is_ = (values.get(key, "nothing") for values in (there, here))
        raise UserError(
            f"{key}: checkpoint has {has}, this model {is_}{more}. "
            f"{folder} holds another architecture; take its configuration, or train from the start"
        )


def _leaves(spec: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(key as people type it, value) of everything that gives the weights their meaning, sizes first."""
    for key, value in spec.items():
        if key not in ("default", "blocks", *_SAME_WEIGHTS):
            own = isinstance(value, (dict, list))  # parts, share and transforms are keys of their own
            yield from _flat(key if own else f"model.{key}", value)
    for place, block in [("", spec["default"]), *((f"layer {i}: ", block) for i, block in enumerate(spec["blocks"]))]:
        yield from _flat(place, {axis: chosen for axis, chosen in block.items() if axis != "label"})


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from _flat(f"{path}.{key}" if path and not path.endswith(" ") else f"{path}{key}", inner)


def _check_fit(model: GPT, stored: Any, folder: Path) -> None:
    """Raise UserError unless the file holds exactly the model's tensors, by name and shape."""
    expected = {name: _form(tensor) for name, tensor in _tensors(model)}
    found = {name: _stored_form(stored, name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    for name in sorted({*expected, *found}, key=lambda n: (n not in expected, n)):
        if expected.get(name) != found.get(name):
            wanted, has = (tensors.get(name, "no such tensor") for tensors in (expected, found))
            raise UserError(
                f"{folder / WEIGHTS}: {name}: the file has {has}, the model of {SPEC} {wanted}. "
                f"These weights are of another architecture; take another checkpoint"
            )


def _form(tensor: Tensor, shape: Sequence[int] | None = None) -> str:
    """Shape of a tensor, and what it holds unless those are real numbers, whose precision may be another in a file."""
    kind = "" if tensor.is_floating_point() else f" of {str(tensor.dtype).removeprefix('torch.')}"
    return f"{list(tensor.shape if shape is None else shape)}{kind}"


def _stored_form(stored: Any, name: str) -> str:
    """The same of a tensor in a file, without reading it."""
    lazy = stored.get_slice(name)
    shape = lazy.get_shape()
    return _form(lazy[:0] if shape else stored.get_tensor(name), shape)


def _fill(model: GPT, stored: Any) -> None:
    with torch.no_grad():
        for name, tensor in _tensors(model):
            tensor.copy_(stored.get_tensor(name))


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and saved buffer, a shared one under its first name; names free of what compiling adds."""
    saved = model.state_dict(keep_vars=True)
    seen: set[int] = set()
    for name, tensor in saved.items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield _plain_name(name), tensor


def _unwrapped(model: nn.Module) -> GPT:
    inner = getattr(model, "_orig_mod", model)  # torch.compile wraps
    if not isinstance(inner, GPT):
        raise TypeError(f"expected a GPT, got {type(inner).__name__}")
    return inner


def _plain_name(name: str) -> str:
    return name.replace("_orig_mod.", "")


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
