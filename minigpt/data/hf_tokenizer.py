"""Hugging Face's tokenizers: a ``tokenizer.json`` from elsewhere as one of ours, whole, in datasets and checkpoints.

Accepted are vocabularies whose tokens stand for the bytes of the text: byte-level ones (GPT-2, Llama 3, Qwen) and those
in the manner of SentencePiece (Llama 2, Gemma), with or without byte fallback. Ones that change the text (lower case,
dropped spaces) are refused: bits per byte and generated text would be wrong. The file is a stranger's: it is checked
before the Rust library, which panics on some, sees it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minigpt.data import byte_alphabet
from minigpt.data.rust import calmly
from minigpt.data.tiktoken_bpe import LARGEST, PROBE
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError, shown
from minigpt.schema import options, typed

ENDS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>")
BEGINS = ("<s>", "<|begin_of_text|>", "<bos>")
LONGEST_TEMPLATE = 1 << 20  # characters; published ones have up to ten thousand
MODELS = ("BPE", "Unigram")
STEPS = {
    "normalizer": ("Sequence", "NFC", "Prepend", "Replace"),
    "pre_tokenizer": ("Sequence", "Split", "ByteLevel", "Metaspace", "Digits", "Punctuation", "UnicodeScripts"),
    "decoder": ("Sequence", "Replace", "ByteLevel", "Metaspace", "ByteFallback", "Fuse", "Strip"),
}
"""The steps of each kind that leave the text as it is; all others lose some of it."""
MOST_STEPS = 24
_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


class HuggingFaceTokenizer(Tokenizer):
    """A tokenizer as Hugging Face's library describes it.

    content: what tokenizer.json holds. eot, bos: the text of the tokens that end and begin a text, None: one of the
    usual names, if there is one. chat_template: Jinja text. where: what messages name. A vocabulary that puts a space
    in front of every text, as Llama 2's does, has it in front of what it decodes.
    """

    kind = "huggingface"
    at_once = 1 << 19  # the library keeps some 130 bytes of notes for every character

    def __init__(
        self,
        content: Mapping[str, Any],
        eot: str | None = None,
        bos: str | None = None,
        chat_template: str | None = None,
        where: str = "tokenizer",
    ):
        vocabulary, special, plain = _checked(content, where)
        self.content = {key: value for key, value in content.items() if key not in ("padding", "truncation")}
        self._codec = _load(self.content, special | plain, where)
        known = vocabulary | plain | special
        self.vocab_size = max(known.values()) + 1
        self._eot, self.eot_token = _named(eot, ENDS, known, special, f"{where}: eos_token")
        self._bos, self.bos_token = _named(bos, BEGINS, known, special, f"{where}: bos_token")
        self._unknown = _unknown(self.content["model"], vocabulary)
        self._text_of = _bytes_of(self.content, vocabulary)
        self._text_of |= {token: text.encode("utf-8", "replace") for text, token in (plain | special).items()}
        others = (self.eot_token, self.bos_token, self._unknown)
        self._no_text = [*special.values(), *(token for token in others if token is not None)]
        if chat_template is not None and len(chat_template) > LONGEST_TEMPLATE:
            raise UserError(f"{where}: chat_template: {len(chat_template)} characters, at most {LONGEST_TEMPLATE}")
        self.chat_template = chat_template
        self._where = where
        self.prefix = self._tried(where)

    def encode(self, text: str) -> np.ndarray:
        return self._encode(text, marked=False)

    def encode_marked(self, text: str) -> np.ndarray:
        return self._encode(text, marked=True)

    def _encode(self, text: str, marked: bool) -> np.ndarray:
        text = text if text.isascii() else text.encode("utf-8", "replace").decode()
        with calmly(self._where):
            self._codec.encode_special_tokens = not marked
            ids = self._codec.encode_batch_fast([text], add_special_tokens=False)[0].ids
        tokens = np.array(ids, dtype=np.int64)
        if self._unknown is not None and (tokens == self._unknown).any():
            before = self._decode(tokens[: int(np.argmax(tokens == self._unknown))])[-24:]
            raise UserError(f"{self._where}: its vocabulary cannot express what follows '{shown(before)}' in the text")
        return tokens

    def _decode(self, tokens: np.ndarray) -> str:
        return b"".join(self._text_of.get(token, b"") for token in tokens.tolist()).decode("utf-8", "replace")

    def token_bytes(self) -> np.ndarray:
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token, text in self._text_of.items():
            lengths[token] = len(text)
        lengths[self._no_text] = 0
        return lengths

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "vocab_size": self.vocab_size,
            "eot": self._eot,
            "bos": self._bos,
            "chat_template": self.chat_template,
            "tokenizer": self.content,
        }

    def _tried(self, where: str) -> tuple[int, ...]:
        """Encode and decode a text, which has to come back; what the file puts in front of a text."""
        with calmly(where, quiet=True):
            self._codec.encode_special_tokens = True
            alone = self._codec.encode("a", add_special_tokens=False).ids
            whole = self._codec.encode("a", add_special_tokens=True).ids
            tried = self._codec.encode_batch_fast([PROBE, "the text", "a"], add_special_tokens=False)
        for text, encoding in zip((PROBE, "the text", "a"), tried, strict=True):
            back = self._decode(np.array(encoding.ids, dtype=np.int64))
            if self._unknown not in encoding.ids and back not in (text, f" {text}"):
                raise UserError(
                    f"{where}: changes the text: '{shown(text, 60)}' comes back as '{shown(back, 60)}'. minigpt takes "
                    "tokenizers whose tokens stand for the text as it is"
                )
        starts = (i for i in range(len(whole) - len(alone) + 1) if whole[i : i + len(alone)] == alone)
        return tuple(whole[: next(starts, 0)])


@options
class HuggingFaceState:
    """The JSON of a HuggingFaceTokenizer. tokenizer: the content of its tokenizer.json."""

    kind: str
    vocab_size: int
    eot: str | None
    bos: str | None
    chat_template: str | None
    tokenizer: Any


def from_state(data: Any, path: str) -> HuggingFaceTokenizer:
    """The tokenizer its JSON describes."""
    state = typed(HuggingFaceState, data, path)
    tokenizer = HuggingFaceTokenizer(state.tokenizer, state.eot, state.bos, state.chat_template, path)
    if tokenizer.vocab_size != state.vocab_size:
        raise UserError(f"{path}.vocab_size: {state.vocab_size} expected, but there are {tokenizer.vocab_size} tokens")
    return tokenizer


def _checked(content: Any, where: str) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Vocabulary, special and other added tokens, text -> id, of a tokenizer.json that the library can be given."""
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or "vocab" not in model:
        raise UserError(f"{where}: expected Hugging Face's tokenizer.json, with a 'model' that has a 'vocab'")
    kind = model.get("type", "BPE")
    if kind not in MODELS:
        why = " (a WordPiece or WordLevel one drops the spaces)" if kind in ("WordPiece", "WordLevel") else ""
        raise UserError(f"{where}: model.type '{shown(kind)}' is not one minigpt takes{why}: {' or '.join(MODELS)}")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise UserError(f"{where}: its tokens mark the parts of words, not spaces, so the text does not come back")
    if model.get("dropout"):
        raise UserError(f"{where}: model.dropout makes the tokens random; set it to null")
    for section in ("normalizer", "pre_tokenizer", "decoder"):
        _check_steps(content.get(section), STEPS[section], f"{where}: {section}")
    vocabulary = _vocabulary(model, where)
    special: dict[str, int] = {}
    plain: dict[str, int] = {}
    for added in _list(content.get("added_tokens"), f"{where}: added_tokens"):
        text = added.get("content") if isinstance(added, dict) else None
        if not isinstance(text, str) or not text or not _is_token(added.get("id")):
            raise UserError(f"{where}: added_tokens: expected entries with a 'content' and an 'id', got {shown(added)}")
        if added.get("special") is True:
            special[text] = added["id"]
        elif vocabulary.get(text) != added["id"]:
            plain[text] = added["id"]
    if not vocabulary:
        raise UserError(f"{where}: model.vocab is empty")
    taken = [*vocabulary.values(), *(t for text, t in (special | plain).items() if text not in vocabulary)]
    if len(set(taken)) != len(taken):
        raise UserError(f"{where}: two tokens have the same id")
    return vocabulary, special, plain


def _vocabulary(model: Mapping[str, Any], where: str) -> dict[str, int]:
    vocab = model["vocab"]
    if isinstance(vocab, list):  # of a Unigram: pieces with their scores
        pairs = (p if isinstance(p, list) and len(p) == 2 and isinstance(p[0], str) else None for p in vocab)
        vocab = {pair[0]: i for i, pair in enumerate(pairs) if pair}
        if len(vocab) != len(model["vocab"]):
            raise UserError(f"{where}: model.vocab: expected pairs of a piece and its score, each piece once")
    if not isinstance(vocab, dict) or not all(isinstance(t, str) and _is_token(i) for t, i in vocab.items()):
        raise UserError(f"{where}: model.vocab: expected tokens with ids in 0 .. {LARGEST - 1}")
    for merge in _list(model.get("merges"), f"{where}: model.merges"):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not (type(parts[0]) is type(parts[1]) is str):
            raise UserError(f"{where}: model.merges: expected pairs of tokens, got {shown(merge)}")
        left, right = parts
        if left not in vocab or right not in vocab or left + right not in vocab:
            raise UserError(f"{where}: model.merges: {shown(merge)} joins what is not in the vocabulary")
    return vocab


def _check_steps(node: Any, choices: tuple[str, ...], where: str) -> None:
    """Refuse steps that lose text, that multiply it, or that are too many."""
    steps = list(_steps(node, where))
    if len(steps) > MOST_STEPS:
        raise UserError(f"{where}: {len(steps)} steps, expected at most {MOST_STEPS}")
    grows = 0
    for step in steps:
        kind = step.get("type")
        if kind not in choices:
            raise UserError(
                f"{where}: the step '{shown(kind)}' is not one minigpt takes, as text would not come back as it was: "
                f"{', '.join(choices)}"
            )
        added = step.get("content") if kind == "Replace" else step.get("prepend") if kind == "Prepend" else ""
        if not isinstance(added, str) or len(added) > 8:
            raise UserError(f"{where}: {kind}: expected a text of at most 8 characters, got '{shown(added)}'")
        grows += (kind == "Replace" and len(added) > 1) or kind == "ByteLevel"
    if grows > 2:
        raise UserError(f"{where}: steps that make the text longer stand in it {grows} times")


def _steps(node: Any, where: str, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    if node is None:
        return
    if not isinstance(node, dict) or depth > 8:
        raise UserError(f"{where}: expected a step with a 'type', got {shown(node)}")
    yield node
    for part in ("normalizers", "pretokenizers", "decoders"):
        for inner in _list(node.get(part), where):
            yield from _steps(inner, where, depth + 1)


def _load(content: Mapping[str, Any], added: Mapping[str, int], where: str) -> Any:
    from tokenizers import Tokenizer as Codec

    with calmly(where, quiet=True):
        codec = Codec.from_str(json.dumps(content))
        numbered = {text: codec.token_to_id(text) for text in added}
    for text, token in added.items():
        if numbered[text] != token:  # the library numbers them anew where ids leave gaps
            raise UserError(f"{where}: added_tokens: '{shown(text)}' has the id {token}, which leaves a gap before it")
    return codec


def _bytes_of(content: Mapping[str, Any], vocabulary: Mapping[str, int]) -> dict[int, bytes]:
    """Token -> the bytes of text it stands for, as the file's decoder would write them."""
    kinds = {step.get("type") for part in ("pre_tokenizer", "decoder") for step in _steps(content.get(part), part)}
    if "ByteLevel" in kinds:
        read = {token: byte_alphabet.to_bytes(text) for text, token in vocabulary.items()}
        return {token: text.encode() if read[token] is None else read[token] for text, token in vocabulary.items()}  # type: ignore[misc]
    fallback = content["model"].get("byte_fallback") is True
    spaces = [r for part in ("normalizer", "pre_tokenizer", "decoder") for r in _space(content.get(part), part)]
    texts = {}
    for text, token in vocabulary.items():
        byte = _FALLBACK.fullmatch(text) if fallback else None
        for space in spaces:
            text = text.replace(space, " ")
        texts[token] = bytes([int(byte[1], 16)]) if byte else text.encode("utf-8", "replace")
    return texts


def _space(node: Any, where: str) -> Iterator[str]:
    """What a space is written as in the vocabulary."""
    for step in _steps(node, where):
        pattern = step.get("pattern")
        pattern = pattern.get("String") if isinstance(pattern, dict) else None
        if step.get("type") == "Metaspace":
            yield str(step.get("replacement") or "\u2581")
        elif step.get("type") == "Replace" and step.get("content") == " " and isinstance(pattern, str) and pattern:
            yield pattern  # of a decoder
        elif step.get("type") == "Replace" and pattern == " " and step.get("content"):
            yield step["content"]


def _unknown(model: Mapping[str, Any], vocabulary: Mapping[str, int]) -> int | None:
    """The token for what the vocabulary cannot express."""
    if isinstance(model["vocab"], list):
        return model.get("unk_id") if isinstance(model.get("unk_id"), int) else None
    unknown = model.get("unk_token")
    return vocabulary.get(unknown) if isinstance(unknown, str) else None


def _named(
    given: str | None, usual: tuple[str, ...], known: Mapping[str, int], special: Mapping[str, int], where: str
) -> tuple[str | None, int | None]:
    """A token by its text, or else the usual one."""
    if given is None:
        given = next((name for name in usual if name in special), None)
    if given is not None and given not in known:
        raise UserError(f"{where}: '{shown(given)}' is not in the vocabulary")
    return given, known[given] if given is not None else None


def _list(value: Any, where: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise UserError(f"{where}: expected a list, got {shown(value)}")
    return value or []


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST
