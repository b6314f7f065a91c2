"""The class that lm-evaluation-harness knows as ``minigpt``: its requests in, answers of a trained model out.

Importing this imports lm_eval, which takes seconds: only where something is evaluated.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import lm_eval.api.model
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM, TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from minigpt.data.network import within
from minigpt.data.tokenizers import Tokenizer
from minigpt.device import choose_device
from minigpt.errors import UserError, shown
from minigpt.evaluation.generating import Ask, continued
from minigpt.evaluation.scoring import Scorer
from minigpt.exchange.trained import TrainedModel, load_trained
from minigpt.model import GPT
from minigpt.schema import PositiveInt, options, plain, typed

MAX_GEN_TOKENS = 256  # the harness's own default
TEMPLATE_SECONDS = 10.0
"""How long a tokenizer's template, which is a stranger's program, may take for one question."""
LONGEST_CHAT = 1 << 24
"""Characters it may make of one."""


@options
class ModelArguments:
    """What ``--model_args`` takes.

    checkpoint: a run's folder or a checkpoint's. plugins: modules that register its parts, one or several with ``+``
    between them. share_prefixes: read a context once for all its continuations. batch_size, max_batch_size, device: the
    harness's own options.
    """

    checkpoint: str
    plugins: str = ""
    share_prefixes: bool = True
    batch_size: int | str | None = None
    max_batch_size: PositiveInt | None = None
    device: str | None = None


@register_model("minigpt")
class MiniGPTLM(TemplateLM):
    """A trained model, asked by the harness: ``--model minigpt --model_args checkpoint=out/<run>``.

    Contexts and continuations are encoded together and cut where the context's own tokens end; contexts that are too
    long lose their left end. In place of an empty context stands the token that begins a text, or the one between
    documents; a tokenizer without either has a newline there, or else its first token.
    """

    def __init__(self, **arguments: Any):
        given = typed(ModelArguments, {key: _as_given(key, value) for key, value in arguments.items()}, "model_args")
        plugins = [name for name in given.plugins.split("+") if name]
        self._set_up(load_trained(given.checkpoint, _device(given.device), plugins), given)

    @classmethod
    def of(cls, trained: TrainedModel, batch_size: int | str | None = None, **options: Any) -> MiniGPTLM:
        """The class around a model in memory, which must be in eval mode. options: of :meth:`_set_up`."""
        lm = cls.__new__(cls)
        lm._set_up(trained, ModelArguments(checkpoint=str(trained.folder), batch_size=batch_size), **options)
        return lm

    def _set_up(
        self,
        trained: TrainedModel,
        arguments: ModelArguments,
        give_up: Callable[[], bool] = lambda: False,
        progress: bool | None = None,
    ) -> None:
        """give_up: asked before every batch; True ends the evaluation by an exception. progress: whether bars are shown
        (None: where somebody watches)."""
        super().__init__()
        self.gpt: GPT = trained.model
        self.text: Tokenizer = trained.tokenizer
        self._device = self.gpt.device
        self.batch_size = arguments.batch_size if arguments.batch_size is not None else "auto"
        self.scorer = Scorer(
            self.gpt,
            _rows(self.batch_size),
            largest=arguments.max_batch_size,
            share=arguments.share_prefixes,
            give_up=give_up,
        )
        self.max_length = self.gpt.spec.block_size
        self.max_gen_toks = MAX_GEN_TOKENS
        self._progress = sys.stderr.isatty() if progress is None else progress
        self._in_template = False

    @property
    def eot_token_id(self) -> int | None:  # type: ignore[override]
        """The token between documents; None where the tokenizer has none."""
        return self.text.eot_token

    @property
    def prefix_token_id(self) -> int:
        """What a text without context follows."""
        tokenizer = self.text
        if (begins := tokenizer.eot_token if tokenizer.bos_token is None else tokenizer.bos_token) is not None:
            return begins
        try:
            return int(tokenizer.encode("\n")[0])
        except UserError:
            return 0

    @property
    def tokenizer_name(self) -> str:
        """Fingerprints the harness's cache of requests."""
        return f"minigpt-{self.text.kind}-{self.text.hash[:16]}"

    @property
    def cache_key(self) -> str:
        """What tells this model's answers from another's: the hash of its parts, its weights and its tokenizer."""
        digest = hashlib.sha256(json.dumps([plain(self.gpt.spec), self.text.hash], sort_keys=True).encode())
        for name, tensor in sorted(self.gpt.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Text -> tokens, behind those that the tokenizer puts in front of every text.

        add_special_tokens: False leaves those out; None leaves them out where the text brings the beginning along.
        """
        encode = self.text.encode_marked if self._in_template else self.text.encode
        begins = self.text.bos_token is not None and string.startswith(self.text.decode([self.text.bos_token]))
        before = () if add_special_tokens is False or (add_special_tokens is None and begins) else self.text.prefix
        return [*before, *encode(string).tolist()]

    def tok_decode(self, tokens: Sequence[int]) -> str:
        """Tokens -> text."""
        return self.text.decode(list(tokens))

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The harness's way: spaces that end the context belong to the continuation; both are encoded as one text and
        cut after as many tokens as the context alone has. Where a merge across the border leaves nothing to ask for,
        the continuation is encoded by itself."""
        if not context.rstrip():
            return [self.prefix_token_id], self.tok_encode(context + continuation, add_special_tokens=False)
        before, after = super()._encode_pair(context, continuation)
        return before, after or self.tok_encode(continuation, add_special_tokens=False)

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(context, continuation) -> its log-probability in nats, and whether greedy decoding gives it."""
        for request in requests:
            if not request.args[1]:
                raise UserError(f"task {shown(request.task_name, 40)}: a continuation is empty, its probability is 1")
        return super().loglikelihood(list(requests), disable_tqdm=True)

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """requests: ((context, continuation) as text or None, context tokens, continuation tokens)."""
        with self._bar(len(requests), "log-likelihoods") as bar:

            def told(number: int, found: tuple[float, bool]) -> None:
                if requests[number][0] is not None:  # a window of a longer text, which is kept as a whole
                    self.cache_hook.add_partial("loglikelihood", requests[number][0], tuple(found))
                bar.update(1)

            found = self.scorer([request[1:] for request in requests], told)
        return [(each.total, each.greedy) for each in found]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """(text,) -> its log-probability in nats: every token once, each with as much context before it as fits."""
        windows: list[tuple[None, list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            tokens = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, context_len=1):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(number)
        totals = [0.0] * len(requests)
        for number, (total, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[number] += total
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """(context, options) -> what the model goes on with, up to the first of ``until``.

        options: until, max_gen_toks, do_sample, temperature, top_k, top_p. Without do_sample or a temperature the
        likeliest token is taken.
        """
        asks = [
            Ask.of(self.tok_encode(r.args[0]), r.args[1], self.max_gen_toks, self.prefix_token_id) for r in requests
        ]
        texts: dict[int, str] = {}
        with self._bar(len(asks), "texts") as bar:
            for number, text in continued(self.scorer, self.text, asks):
                texts[number] = text
                self.cache_hook.add_partial("generate_until", requests[number].args, text)
                bar.update(1)
        return [texts[number] for number in range(len(requests))]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Turns of a conversation as the text that the tokenizer's template makes of them; from then on, marks such as
        the end of a turn are read as the tokens they are."""
        from jinja2.exceptions import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def raise_exception(message: str) -> None:
            raise TemplateError(message)

        self._in_template = True
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = raise_exception
        begins, ends = ("" if t is None else self.text.decode([t]) for t in (self.text.bos_token, self.text.eot_token))
        template = self._template()

        def render() -> str:
            return environment.from_string(template).render(
                messages=chat_history,
                add_generation_prompt=add_generation_prompt,
                bos_token=begins,
                eos_token=ends,
            )

        try:
            text = within(TEMPLATE_SECONDS, render)
        except TimeoutError:
            raise UserError(f"chat template of the tokenizer: takes more than {TEMPLATE_SECONDS:g} s") from None
        except Exception as error:  # it is a stranger's, and may do anything that the sandbox lets it
            reason = "too large" if isinstance(error, MemoryError) else shown(error)
            raise UserError(f"chat template of the tokenizer: {reason}") from None
        if len(text) > LONGEST_CHAT:
            raise UserError(f"chat template of the tokenizer: makes {len(text)} characters of one question")
        return text

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The tokenizer's template, for the harness's records; None when none is asked for."""
        if not chat_template:
            return None
        if isinstance(chat_template, str):
            raise UserError(f"chat template '{shown(chat_template, 40)}': a tokenizer has one template, without a name")
        return self._template()

    def _template(self) -> str:
        if self.text.chat_template is None:
            raise UserError("chat template: this model's tokenizer has none. Leave it out: questions go in as they are")
        return self.text.chat_template

    def _bar(self, total: int, what: str) -> tqdm:
        return tqdm(total=total, desc=what, disable=not self._progress, file=sys.stderr)


class _CachePerModel(CachingLM):
    """The harness's ``--use_cache`` knows questions only: here each model has a file of its own."""

    def __init__(self, lm: Any, cache_db: str):
        key = getattr(lm, "cache_key", None)
        super().__init__(lm, cache_db if key is None else f"{cache_db.removesuffix('.db')}-{key}.db")


lm_eval.api.model.CachingLM = _CachePerModel  # type: ignore[misc]


def _as_given(key: str, value: Any) -> Any:
    """The harness reads ``checkpoint=2026`` as a number, and hands a list where several words were given."""
    if key in ("checkpoint", "plugins", "device") and value is not None:
        return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return value


def _rows(batch_size: int | str) -> int | None:
    """Rows of a batch, None for auto. ``auto:8`` is auto, which finds a size for every length anyway."""
    if isinstance(batch_size, str):
        if batch_size == "auto" or batch_size.startswith("auto:"):
            return None
        if not batch_size.isdigit():
            raise UserError(f"batch_size: expected a whole number or auto, got '{shown(batch_size, 40)}'")
        batch_size = int(batch_size)
    if batch_size < 1:
        raise UserError(f"batch_size: {batch_size} is out of range, expected >= 1, or auto")
    return batch_size


def _device(wanted: str | None) -> torch.device:
    """The harness asks for cuda:0 when nothing is said; where there is none, this takes what there is, as it does."""
    if wanted is None or (wanted.startswith("cuda") and not torch.cuda.is_available()):
        return choose_device("auto")
    return choose_device(wanted)
