"""What sample.py does: load a model, continue prompts or read a text, print or draw what came of it."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from minigpt import files
from minigpt.data.dataset_folder import open_prepared
from minigpt.device import choose_device
from minigpt.errors import UserError, shown
from minigpt.exchange.trained import TrainedModel, load_trained
from minigpt.generation import heatmaps
from minigpt.generation.colour import Painter, depth_of
from minigpt.generation.config import FILE, VAL, SampleConfig
from minigpt.generation.continuing import Sample, continue_texts, encode, end_tokens
from minigpt.generation.decoding import stream
from minigpt.generation.growing import GrowingText, Piece
from minigpt.generation.pictures import PICTURED
from minigpt.generation.scoring import Scores, joined, score_text
from minigpt.screen import hand_out, readable, say

BETWEEN = "\n---------------\n"
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}


def sample(config: SampleConfig) -> None:
    """Do what ``config`` asks: print samples, and on stderr how fast they came; or show a text; or converse.

    Raises UserError for a model that is missing or torn, and for a text its vocabulary cannot express.
    """
    prompts = _prompts(config)
    device = choose_device(config.device)
    trained = load_trained(config.checkpoint or "", device, plugins=config.plugins)
    folder = heatmaps.new_folder(config.out, trained.folder) if config.show_heatmaps else None
    began = time.perf_counter()
    if config.colorize_text is not None:
        _show_text(config, trained, folder)
        return
    if config.interactive:
        _converse(config, trained)
        return
    if config.stream is not False and not config.several and config.format == "text" and folder is None:
        count, texts = _stream(config, trained, prompts[0], _painter(config)), list[heatmaps.Shown]()
    else:
        count, texts = _print_samples(config, trained, prompts, drawn=folder is not None)
    _report(count, trained, time.perf_counter() - began, device)
    if folder is not None:
        _draw(config, trained, folder, texts)


def _stream(config: SampleConfig, trained: TrainedModel, prompt: str, painter: Painter | None) -> int:
    """Print a prompt and its continuation as it comes; returns how many tokens that took."""
    tokens = encode(prompt, trained.tokenizer)
    hand_out(prompt)
    growing, scores = GrowingText(trained.tokenizer, tokens, _stop(config)), list[Scores]()
    ends, count = end_tokens(trained.tokenizer, config.stop_at_eot), 0
    alternatives = None if painter is None else 0
    arriving = stream(
        trained.model, [tokens], config.max_new_tokens, config, [config.seed],
        vocab_size=trained.tokenizer.vocab_size, alternatives=alternatives,
    )  # fmt: skip
    try:
        for step in arriving:
            count += 1
            scores += [] if step.scores is None else [step.scores]
            token = int(step.tokens)
            if token in ends or growing.add(token):
                break
            _hand_on(growing.released(), painter, scores)
        growing.finish()
        _hand_on(growing.released(last=True), painter, scores)
    finally:  # whatever interrupts, the terminal keeps no colour
        _put("\n" if painter is None else painter.end() + "\n")
    return count


def _hand_on(pieces: Iterator[Piece], painter: Painter | None, scores: list[Scores]) -> None:
    for piece in pieces:
        if painter is None:
            hand_out(piece.text)
        else:
            known = Scores(*(part[0] for part in joined(scores[piece.first : piece.last], dim=1)))
            _put(painter.piece(readable(piece.text), Piece(0, piece.last - piece.first, ""), known))


def _print_samples(
    config: SampleConfig, trained: TrainedModel, prompts: list[str], drawn: bool
) -> tuple[int, list[heatmaps.Shown]]:
    """Print whole samples as their batches are done; returns how many tokens they have, and what is to be drawn."""
    painter = _painter(config)
    scored = config.format == "jsonl" or painter is not None or drawn
    found = continue_texts(
        trained, prompts, config.max_new_tokens, config, config.seed, num_samples=config.num_samples,
        stop=_stop(config), stop_at_eot=config.stop_at_eot,
        alternatives=(heatmaps.TOP if drawn else 0) if scored else None,
        where="start" if config.prompts is None else "prompts",
    )  # fmt: skip
    count, texts = 0, list[heatmaps.Shown]()
    for number, each in enumerate(found):
        count += len(each.continuation.tokens)
        if drawn:
            texts.append(_of_sample(each))
        if config.format == "jsonl":
            print(json.dumps(as_json(each)), flush=True)
            continue
        hand_out(BETWEEN if number else "")
        if painter is None:
            hand_out(f"{each.prompt}{each.continuation.text}")
        else:
            _put(_painted(painter, each.prompt, each.continuation.pieces, each.continuation.scores))
    if config.format == "text":
        hand_out("\n")
    return count, texts


def as_json(sample: Sample) -> dict[str, object]:
    """A sample as a line of JSON Lines. logprobs: of the model itself, null where they are no numbers."""
    found = sample.continuation
    logprobs = [] if found.scores is None else [round(each, 6) for each in found.scores.logprob.tolist()]
    return {
        "prompt": sample.prompt,
        "text": found.text,
        "tokens": found.tokens,
        "seed": sample.seed,
        "logprobs": [each if abs(each) < float("inf") else None for each in logprobs],
        "finish_reason": found.finish,
    }


def _show_text(config: SampleConfig, trained: TrainedModel, folder: Path | None) -> None:
    """Print a text coloured by what the model thinks of each of its tokens, which are all read in one forward."""
    tokens, title = _text(config, trained)
    if len(tokens) < 2:
        raise UserError("colorize_text: expected at least two tokens, the first has nothing before it")
    wanted = heatmaps.TOP if folder else 0
    scores = score_text(trained.model, torch.tensor(tokens), trained.tokenizer.vocab_size, wanted)
    first, *others = tokens
    growing = GrowingText(trained.tokenizer, [first])
    for token in others:
        growing.add(token)
    growing.finish()
    before, pieces = trained.tokenizer.decode([first]), tuple(growing.pieces())
    painter = _painter(config)
    assert painter is not None
    _put(_painted(painter, before, pieces, scores) + "\n")
    bits = -float(scores.logprob.double().mean()) / 0.6931471805599453
    say(f"{len(others)} tokens: {bits:.4f} bits each, {trained.folder}", file=sys.stderr)
    if folder is not None:
        _draw(config, trained, folder, [heatmaps.Shown(title, before, others, pieces, scores)])


def _text(config: SampleConfig, trained: TrainedModel) -> tuple[list[int], str]:
    """The tokens to colour, and a word about where they are from."""
    asked = config.colorize_text or ""
    if asked.startswith(VAL):
        path = Path(asked.removeprefix(VAL))
        prepared = open_prepared(path.name, path.parent)
        if prepared.tokenizer.hash != trained.tokenizer.hash:
            raise UserError(
                f"colorize_text: {path} has another tokenizer than the model. Give the dataset it was trained on"
            )
        length = min(trained.model.spec.block_size + 1, prepared.meta.val.tokens)
        return prepared.val.windows(np.zeros(1, dtype=np.int64), length)[0].tolist(), f"{path.name}, validation split"
    text = _read(asked, "colorize_text")
    title = asked.removeprefix(FILE) if asked.startswith(FILE) else "a text"
    return encode(text, trained.tokenizer, "colorize_text"), title


def _converse(config: SampleConfig, trained: TrainedModel) -> None:
    """A prompt a line, and its continuation as it comes; until an empty line or the end of the input."""
    keyboard = sys.stdin.isatty()
    if keyboard:
        say("a prompt, then Enter; Ctrl-C stops a continuation, an empty line or Ctrl-D ends", file=sys.stderr)
    painter = _painter(config)
    while True:
        if keyboard:
            hand_out("> ")
        prompt = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
        if not prompt:
            if keyboard:
                hand_out("\n")
            return
        try:
            _stream(config, trained, prompt, painter)
        except KeyboardInterrupt:
            continue
        except UserError as error:
            say(error, lines=True, file=sys.stderr)


def _painter(config: SampleConfig) -> Painter | None:
    """What colours the output, its legend printed; None for output as it is."""
    if config.colorize_output is None:
        return None
    painter = Painter(config.colorize_output, depth_of(sys.stdout))
    _put(painter.legend() + "\n")
    return painter


def _painted(painter: Painter, before: str, pieces: tuple[Piece, ...], scores: Scores | None) -> str:
    parts = [painter.paint(readable(before), None)]
    parts += [painter.piece(readable(piece.text), piece, scores) for piece in pieces]
    return "".join([*parts, painter.end()])


def _put(text: str) -> None:
    """Write what has been made readable, and colours around it."""
    coding = sys.stdout.encoding or "utf-8"
    print(text.encode(coding, "backslashreplace").decode(coding), end="", flush=True)


def _of_sample(sample: Sample) -> heatmaps.Shown:
    found = sample.continuation
    assert found.scores is not None
    title = f"after '{shown(sample.prompt, 60)}', seed {sample.seed}"
    return heatmaps.Shown(title, sample.prompt, found.tokens, found.pieces, found.scores)


def _draw(config: SampleConfig, trained: TrainedModel, folder: Path, texts: list[heatmaps.Shown]) -> None:
    found = [each for each in texts if each.tokens]
    if not found:
        say("show_heatmaps: no sample has a token, there is nothing to draw", file=sys.stderr)
        return
    written = heatmaps.write(folder, found, trained.tokenizer, config.colorize_output or "probability")
    longer = any(len(each.tokens) > PICTURED for each in found)
    of = f" (of the first {PICTURED} steps; the page has all)" if longer else ""
    say(f"{written[0]} and {len(written) - 1} pictures beside it{of}", file=sys.stderr)


def _prompts(config: SampleConfig) -> list[str]:
    if config.prompts is None:
        return [_read(config.start, "start")]
    lines = _read(config.prompts, "prompts").replace("\r\n", "\n").split("\n")
    if not any(lines):
        raise UserError(f"prompts: {config.prompts.removeprefix(FILE)} has no line with text")
    return [line for line in lines if line]


def _read(value: str, key: str) -> str:
    """A text, or what FILE:<path> holds."""
    if not value.startswith(FILE):
        return value
    try:
        return files.read_text(Path(value.removeprefix(FILE)))
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def _stop(config: SampleConfig) -> list[str]:
    return [re.sub(r"\\[nt\\]", lambda found: _ESCAPES[found[0]], each) for each in config.stop]


def _report(count: int, trained: TrainedModel, seconds: float, device: torch.device) -> None:
    meta = trained.meta
    known = [(key, meta[key]) for key in ("step", "val_loss") if key in meta]
    reached = ", ".join(f"{key} {value:.4f}" if isinstance(value, float) else f"{key} {value}" for key, value in known)
    speed = f"{count} tokens in {seconds:.2f} s: {count / seconds:.0f} tokens/s on {device}"
    say(f"{speed}; {trained.folder}" + (f" ({reached})" if reached else ""), file=sys.stderr)
