"""How a stranger's file is made: each attack spoils one thing in a copy of something that was in order.

An attack is a function of the place it spoils and of the canary, a file that appears if anything in it runs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.hostile.world import nanogpt_content
from tests.model.checkpoints import rewrite

Spoil = Callable[[Path, Path], None]
SIZES = {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 8, "bias": False, "vocab_size": 30, "dropout": 0.0}
ESCAPES = "\x1b]0;owned\x07\x1b[31m<script>alert(1)</script>‮=1+1|[bold]"


@dataclasses.dataclass(frozen=True)
class Attack:
    """name: what it is. of: what is copied and spoiled: run, hf, ckpt, data, nano, or nothing. spoil: how. commands:
    lines to type then, {place} being the copy. refused: whether each must end with exit code 2; a listing must not.
    terminal: whether they are to take what they print to for one."""

    name: str
    of: str
    spoil: Spoil
    commands: tuple[str, ...]
    refused: bool = True
    terminal: bool = False


class Payload:
    """What runs when a pickle is opened without care."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


# ---- commands ----

SAMPLE = "sample checkpoint={place} start=a max_new_tokens=9 device=cpu"
SHOW = "inspect path={place}"
EXPORT = "export checkpoint={place} out=exported"
RESUME = "train resume={place} training.max_steps=6"
IMPORT = "import source={place} out=imported"
LIST = "inspect directory={place}"
REPORT = "report ppa runs={place}"
START = "train init_from={place} training.max_steps=1 data.name=words data.folder={data} device=cpu"
TRAIN = "train data.name={name} data.folder={folder} training.max_steps=1 device=cpu name=new"
OF_RUN = (SAMPLE, EXPORT)
OF_HF = (SAMPLE, IMPORT)
OF_CKPT = (SAMPLE, SHOW, IMPORT)


# ---- pickles ----


def torch_file(content: Callable[[Path], Any], name: str = "ckpt.pt", **options: Any) -> Spoil:
    return lambda place, canary: torch.save(content(canary), place / name, **options)


def raw_pickle(name: str, protocol: int = 2) -> Spoil:
    return lambda place, canary: (place / name).write_bytes(pickle.dumps(Payload(canary), protocol))


def in_best(name: str, content: Callable[[Path], bytes]) -> Spoil:
    """Another file in a run's checkpoint, with a meta.json that vouches for it."""

    def spoil(place: Path, canary: Path) -> None:
        for which in ("best", "last"):
            folder = place / "checkpoint" / which
            if (folder / name).exists():
                rewrite(folder, name, lambda file: file.write_bytes(content(canary)))

    return spoil


def torch_zip(pickled: Callable[[Path], bytes]) -> Spoil:
    """A torch file around a pickle of one's own."""

    def spoil(place: Path, canary: Path) -> None:
        with zipfile.ZipFile(place / "ckpt.pt", "w") as archive:
            archive.writestr("archive/data.pkl", pickled(canary))
            archive.writestr("archive/version", "3\n")

    return spoil


def system(canary: Path) -> bytes:
    return b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."


def nested_dicts(depth: int = 9, width: int = 40) -> bytes:
    """A few hundred bytes that are ``width ** depth`` entries for whoever walks them."""
    inner: Any = {}
    for _ in range(depth):
        inner = {str(i): inner for i in range(width)}
    return pickle.dumps(inner)


def nested_tuples() -> bytes:
    inner: Any = ()
    for _ in range(40):
        inner = (inner,) * 10
    return pickle.dumps({"itos": inner, "stoi": {}, "vocab_size": 3})


# ---- safetensors ----


def header(content: Any, data: bytes = b"\0" * 64, length: int | None = None) -> Callable[[Path], bytes]:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda _: struct.pack("<Q", len(text) if length is None else length) + text + data


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
SAFETENSORS: dict[str, Callable[[Path], bytes]] = {
    "a header of 2^63 bytes": header({"a": ONE}, length=2**63),
    "a header longer than the file": header({"a": ONE}, length=5000),
    "overlapping tensors": header({"a": ONE, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}),
    "negative offsets": header({"a": ONE | {"data_offsets": [-8, 0]}}),
    "the same name twice": header(b'{"a":' + json.dumps(ONE).encode() + b',"a":' + json.dumps(ONE).encode() + b"}"),
    "an unknown type": header({"a": ONE | {"dtype": "F31"}}),
    "a number that is none": header(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}'),
    "a tensor of 2^62 numbers": header({"a": ONE | {"shape": [2**31, 2**31]}}),
    "a header that is a list": header([1, 2]),
    "a header nested too deep": header(b'{"a":' * 20000 + b"1" + b"}" * 20000),
    "a pickle": lambda canary: pickle.dumps(Payload(canary)),
    "nothing": lambda _: b"",
}


def hf_weights(content: Callable[[Path], bytes]) -> Spoil:
    return lambda place, canary: (place / "model.safetensors").write_bytes(content(canary)) and None


# ---- JSON and YAML ----


def edited(name: str, change: Callable[[Any], Any]) -> Spoil:
    """A JSON file of the copy, changed. change: of its content, in place or as a new one."""

    def spoil(place: Path, canary: Path) -> None:
        content = json.loads((place / name).read_text())
        changed = change(content)
        (place / name).write_text(json.dumps(content if changed is None else changed))

    return spoil


def vouched(name: str, change: Callable[[Any], Any]) -> Spoil:
    """A JSON file of a run's checkpoints, changed, with a meta.json that vouches for it."""

    def spoil(place: Path, canary: Path) -> None:
        for which in ("best", "last"):
            folder = place / "checkpoint" / which
            content = json.loads((folder / name).read_text())
            changed = change(content)
            text = json.dumps(content if changed is None else changed)
            rewrite(folder, name, lambda file, text=text: file.write_text(text))

    return spoil


def text(name: str, content: str | Callable[[Path], str]) -> Spoil:
    def spoil(place: Path, canary: Path) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content if isinstance(content, str) else content(canary), encoding="utf-8")

    return spoil


def appended(name: str, more: str | Callable[[Path], str]) -> Spoil:
    def spoil(place: Path, canary: Path) -> None:
        with (place / name).open("a") as stream:
            stream.write(more if isinstance(more, str) else more(canary))

    return spoil


def python_tag(canary: Path) -> str:
    return f"evil: !!python/object/apply:os.system ['touch {canary}']\n"


def python_code(canary: Path) -> str:
    return f"import os\nos.system('touch {canary}')\ndef doc_to_text(doc):\n    return 'x'\n"


ANCHORS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{c}: &{c} [{', '.join('*' + p for _ in range(9))}]\n"
    for p, c in zip("abcdefghi", "bcdefghij", strict=True)
    for p in [p]
)


# ---- places ----


def linked(name: str, target: str = "../outside/secret.txt", hard: bool = False) -> Spoil:
    """A link in place of a file. target: from the folder of the place."""

    def spoil(place: Path, canary: Path) -> None:
        (place / name).unlink(missing_ok=True)
        if hard:
            os.link(place.parent / "outside" / "secret.txt", place / name)
        else:
            (place / name).symlink_to((place.parent / target.removeprefix("../")).resolve())

    return spoil


def pipe(name: str) -> Spoil:
    def spoil(place: Path, canary: Path) -> None:
        (place / name).unlink(missing_ok=True)
        os.mkfifo(place / name)

    return spoil


def sparse(name: str, size: int = 20 << 30) -> Spoil:
    def spoil(place: Path, canary: Path) -> None:
        with (place / name).open("wb") as stream:
            stream.truncate(size)

    return spoil


def both(*spoils: Spoil) -> Spoil:
    def spoil(place: Path, canary: Path) -> None:
        for each in spoils:
            each(place, canary)

    return spoil


def moved_out(name: str) -> Spoil:
    """A folder that lies elsewhere, a link in its place."""

    def spoil(place: Path, canary: Path) -> None:
        target = place.parent / "outside" / Path(name).name
        (place / name).rename(target)
        (place / name).symlink_to(target)

    return spoil


def nothing(place: Path, canary: Path) -> None:
    pass


# ---- training states ----


def state(change: Callable[[Any], Any]) -> Spoil:
    def spoil(place: Path, canary: Path) -> None:
        folder = place / "checkpoint" / "last"
        content = torch.load(folder / "state.pt", weights_only=True)
        changed = change(content)
        rewrite(folder, "state.pt", lambda file: torch.save(content if changed is None else changed, file))

    return spoil


def reshaped(content: dict) -> None:
    """Every tensor of the optimizer's state, in another shape."""
    for entry in _tensors_of(content):
        for key, value in list(entry.items()):
            if isinstance(value, torch.Tensor) and value.ndim:
                entry[key] = torch.zeros(3, 5)


def infinite(content: dict) -> None:
    for entry in _tensors_of(content):
        for key, value in list(entry.items()):
            if isinstance(value, torch.Tensor) and value.ndim:
                entry[key] = "a text"


def _tensors_of(content: Any) -> list[dict]:
    found = []
    if isinstance(content, dict):
        found = [content, *(each for value in content.values() for each in _tensors_of(value))]
    elif isinstance(content, (list, tuple)):
        found = [each for value in content for each in _tensors_of(value)]
    return found


def packed_state(place: Path, canary: Path) -> None:
    """A state whose archive unpacks to gigabytes."""
    folder = place / "checkpoint" / "last"

    def write(file: Path) -> None:
        with zipfile.ZipFile(folder / "state.pt") as old, zipfile.ZipFile(file.with_name("new"), "w") as new:
            for each in old.infolist():
                if each.filename.endswith("/data/0"):
                    with new.open(zipfile.ZipInfo(each.filename), "w", force_zip64=True) as stream:
                        stream.write(b"\0" * 16)
                else:
                    new.writestr(each.filename, old.read(each))
            bomb = zipfile.ZipInfo("archive/bomb")
            bomb.compress_type = zipfile.ZIP_DEFLATED
            with new.open(bomb, "w", force_zip64=True) as stream:
                for _ in range(64):
                    stream.write(b"\0" * (1 << 20))
        file.with_name("new").rename(file)

    rewrite(folder, "state.pt", write)


def gz_bomb(place: Path, canary: Path) -> None:
    """An eighth of a megabyte that is 144 of them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with (place / "bomb.txt.gz").open("wb") as stream:
        for _ in range(144):
            stream.write(packer.compress(b"a" * (1 << 20)))
        stream.write(packer.flush())


def zst_bomb(place: Path, canary: Path) -> None:
    import zstandard

    with zstandard.open(place / "bomb.txt.zst", "wb") as stream:
        for _ in range(256):
            stream.write(b"a" * (1 << 20))


def model_args(**changes: Any) -> Spoil:
    def content(_: Path) -> Any:
        whole = nanogpt_content(SIZES)
        whole["model_args"] = whole["model_args"] | changes
        return whole

    return torch_file(content)


def escaping_tensors(place: Path, canary: Path) -> None:
    whole = nanogpt_content(SIZES)
    whole["model"][ESCAPES] = torch.zeros(2)
    whole["config"][ESCAPES] = ESCAPES
    torch.save(whole, place / "ckpt.pt")


def all_escapes(content: dict) -> None:
    """A run's record in which every text acts on what it is shown in."""
    for key, value in content.items():
        if isinstance(value, str) and key not in ("status", "config_hash", "created", "folder"):
            content[key] = ESCAPES
    content["overrides"] = {ESCAPES: ESCAPES, "softmax": ESCAPES}
    content["name"] = ESCAPES
