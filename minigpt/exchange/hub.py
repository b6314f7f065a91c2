"""Models by name: from Hugging Face's hub where there is a network, from its cache where there is none."""

from __future__ import annotations

import os
import re
from pathlib import Path

from minigpt.data.network import ANSWER_SECONDS, within
from minigpt.errors import UserError, shown
from minigpt.files import read_json
from minigpt.screen import say

NAMES = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}
"""Short names -> the models' names there. Any other is hf:<owner>/<name>."""
PREFIX = "hf:"
FILES = ["config.json", "*.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"]
DOWNLOAD_SECONDS = 3600.0

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def is_name(word: str) -> bool:
    """Whether a word means a model of the hub: one of NAMES that is no folder here, or hf:<owner>/<name>."""
    return word.startswith(PREFIX) or (word in NAMES and not Path(word).exists())


def fetched(word: str) -> Path:
    """The local folder of a model of the hub, downloaded when it is not in the cache.

    Raises UserError when the hub does not answer within some seconds, or has no such model.
    """
    repository = NAMES.get(word, word.removeprefix(PREFIX))
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"{word}: expected hf:<owner>/<name>, or one of {', '.join(NAMES)}")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return _complete(Path(snapshot_download(repository, allow_patterns=FILES, local_files_only=True)))
    except (LocalEntryNotFoundError, FileNotFoundError, UserError):
        pass
    try:
        size = within(2 * ANSWER_SECONDS, lambda: _size(HfApi(), repository))
        say(f"{word}: downloading {repository}, {size / 1e6:.0f} MB")
        path = within(
            DOWNLOAD_SECONDS,
            lambda: snapshot_download(repository, allow_patterns=FILES, etag_timeout=ANSWER_SECONDS, max_workers=2),
        )
    except Exception as error:  # whatever a network, a proxy or the hub does
        raise UserError(
            f"{word}: {repository} could not be downloaded ({type(error).__name__}). "
            f"Fetch it where there is a network, and name its folder: init_from=<folder> (or source=, checkpoint=)"
        ) from None
    return _complete(Path(path))


def _size(api: object, repository: str) -> int:
    info = api.model_info(repository, files_metadata=True, timeout=ANSWER_SECONDS)  # type: ignore[attr-defined]
    return sum(each.size or 0 for each in info.siblings or () if each.rfilename.endswith((".safetensors", ".json")))


def _complete(folder: Path) -> Path:
    """The folder, unless a download was interrupted or the model has no safetensors."""
    index = folder / "model.safetensors.index.json"
    listed = read_json(index) if index.is_file() else {}
    names = listed.get("weight_map") if isinstance(listed, dict) else None
    names = {*map(str, names.values())} if isinstance(names, dict) else {"model.safetensors"}
    missing = [name for name in ("config.json", *sorted(names)) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: this model has no {shown(missing[0], 60)}, and safetensors alone are read")
    return folder
