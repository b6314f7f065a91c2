"""Hugging Face's tokenizer files, in and out: ``tokenizer.json`` and the ``tokenizer_config.json`` beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigpt.data import byte_alphabet, tokenizers
from minigpt.data.bpe import BpeTokenizer, hf_pattern
from minigpt.data.hf_tokenizer import HuggingFaceTokenizer
from minigpt.data.rust import calmly
from minigpt.data.tiktoken_bpe import EOT, GPT2_PATTERN, PROBE, TiktokenTokenizer
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from minigpt.errors import UserError, shown
from minigpt.files import read_json, read_text

FILE, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"


def read_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer of a ``tokenizer.json``, minigpt's or Hugging Face's, or of the folder that holds it.

    Beside Hugging Face's, tokenizer_config.json says which tokens end and begin a text, and it or chat_template.jinja
    how a conversation is spelt. What ``to_huggingface`` wrote of a char, byte or bpe tokenizer is that tokenizer again.
    Raises UserError for a file that is neither, is damaged, or changes text.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    content = read_json(file)
    if isinstance(content, Mapping) and "kind" in content:
        return tokenizers.from_json(content, str(file))
    config = read_json(file.with_name(CONFIG)) if file.with_name(CONFIG).is_file() else {}
    if not isinstance(config, dict):
        raise UserError(f"{file.with_name(CONFIG)}: expected an object, got {shown(config)}")
    eot, bos = (_text_of(config.get(name), f"{file.with_name(CONFIG)}: {name}") for name in ("eos_token", "bos_token"))
    template = _template(file, config)
    ours = _ours(content)
    if ours is not None and (template, bos) == (None, None) and eot in (None, EOT):
        return ours
    return HuggingFaceTokenizer(content, eot, bos, template, str(file))


def to_huggingface(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of a tokenizer.json with which Hugging Face's library gives the same tokens for the same text.

    Raises UserError where its engine cannot follow the tokenizer's pattern.
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return dict(tokenizer.content)
    if isinstance(tokenizer, CharTokenizer):
        return _char(tokenizer)
    if isinstance(tokenizer, ByteTokenizer):
        ranks = {bytes([byte]): byte for byte in range(256)}
        return _byte_pairs(ranks, {}, None)
    if isinstance(tokenizer, TiktokenTokenizer):
        content = _byte_pairs(tokenizer.ranks, tokenizer.special_tokens, tokenizer.pattern)
        _check_same(content, tokenizer)
        return content
    raise UserError(f"tokenizer: the kind '{tokenizer.kind}' has no form as Hugging Face's tokenizer.json")


def huggingface_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of the tokenizer_config.json that goes with ``to_huggingface``."""
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    if tokenizer.eot_token is not None:
        config["eos_token"] = tokenizer.decode([tokenizer.eot_token])
    if tokenizer.bos_token is not None:
        config["bos_token"] = tokenizer.decode([tokenizer.bos_token])
    if tokenizer.chat_template is not None:
        config["chat_template"] = tokenizer.chat_template
    return config


def _char(tokenizer: CharTokenizer) -> dict[str, Any]:
    """Every character a word of its own. What is not among them is an error there, as it is here."""
    each = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
    vocab = {character: token for token, character in enumerate(tokenizer.characters)}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}
    return _content(model, [], pre_tokenizer=each, decoder={"type": "Fuse"})


def _byte_pairs(ranks: Mapping[bytes, int], special: Mapping[str, int], pattern: str | None) -> dict[str, Any]:
    """A byte-level BPE. pattern: None takes the text as it is."""
    model: dict[str, Any] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": True,  # a word that is a token is that token, as tiktoken has it
        "vocab": {byte_alphabet.to_characters(token): rank for token, rank in ranks.items()},
        "merges": [[byte_alphabet.to_characters(part) for part in pair] for pair in merge_pairs(ranks)],
    }
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    steps: list[dict[str, Any]] = [level]
    if pattern is not None:
        regex = {"Regex": hf_pattern(pattern)}
        steps = [{"type": "Split", "pattern": regex, "behavior": "Removed", "invert": True}, level]
    added = [
        {"id": token, "content": text, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for text, token in sorted(special.items(), key=lambda item: item[1])
    ]
    model["vocab"] |= {entry["content"]: entry["id"] for entry in added}  # the library keeps ids of what is in there
    return _content(model, added, pre_tokenizer={"type": "Sequence", "pretokenizers": steps}, decoder=level)


def merge_pairs(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """All pairs that merge, in order: tiktoken joins any two tokens whose bytes together are a token."""
    found = []
    for token, rank in ranks.items():
        cuts = ((token[:i], token[i:]) for i in range(1, len(token)))
        found += [
            (rank, ranks[left], ranks[right], left, right) for left, right in cuts if left in ranks and right in ranks
        ]
    return [(left, right) for *_, left, right in sorted(found)]


def _content(
    model: dict[str, Any], added: list[dict[str, Any]], *, pre_tokenizer: dict[str, Any], decoder: dict[str, Any]
) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }


def _check_same(content: dict[str, Any], tokenizer: TiktokenTokenizer) -> None:
    from tokenizers import Tokenizer as Codec

    texts = (PROBE, "It's 12345 o'CLOCK!\r\n\r\n\t  x=y;  // \u00a0\u00a0z\n\n\n")
    with calmly("tokenizer: as Hugging Face's", quiet=True):
        codec = Codec.from_str(json.dumps(content))
        same = all(codec.encode(t, add_special_tokens=False).ids == tokenizer.encode(t).tolist() for t in texts)
    if not same:
        raise UserError(
            f"tokenizer: Hugging Face's library cannot follow the pattern of '{tokenizer.encoding}', other tokens come "
            "out"
        )


def _ours(content: Any) -> Tokenizer | None:
    """The char, byte or bpe tokenizer that ``to_huggingface`` wrote as this content; None for any other."""
    model = content.get("model") if isinstance(content, dict) else None
    model = model if isinstance(model, dict) else {}
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not all(isinstance(token, int) for token in vocab.values()):
        return None
    by_token = sorted(vocab, key=lambda text: vocab[text])
    try:
        if model.get("type") == "WordLevel":
            found: Tokenizer = CharTokenizer("".join(by_token))
        elif len(vocab) == 256:
            found = ByteTokenizer()
        elif by_token[-1:] != [EOT] or model.get("ignore_merges") is not True:
            return None
        else:
            texts = {text: byte_alphabet.to_bytes(text) for text in by_token if text != EOT}
            ranks = {content: vocab[text] for text, content in texts.items() if content is not None}
            found = BpeTokenizer("bpe", GPT2_PATTERN, ranks, {EOT: len(ranks)})
        return found if to_huggingface(found) == content else None
    except (UserError, KeyError):
        return None


def _text_of(token: Any, where: str) -> str | None:
    """The text of a token, which configurations give as text or as an object with a ``content``."""
    token = token.get("content") if isinstance(token, dict) else token
    if token is not None and not isinstance(token, str):
        raise UserError(f"{where}: expected text, got {shown(token)}")
    return token


def _template(file: Path, config: Mapping[str, Any]) -> str | None:
    if file.with_name(TEMPLATE).is_file():
        return read_text(file.with_name(TEMPLATE))
    template = config.get("chat_template")
    if isinstance(template, list):  # several by name
        named = [t for t in template if isinstance(t, dict) and t.get("name") == "default"]
        template = named[0].get("template") if named else None
    if template is not None and not isinstance(template, str):
        raise UserError(f"{file.with_name(CONFIG)}: chat_template: expected text, got {shown(template)}")
    return template
