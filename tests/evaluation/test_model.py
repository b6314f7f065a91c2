"""The class the harness asks: what it demands at the border of context and continuation, and what its own ``hf`` class
answers with the same weights."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.evaluator import evaluate

from minigpt.data.hf_files import to_huggingface
from minigpt.data.hf_tokenizer import HuggingFaceTokenizer
from minigpt.data.tokenizers import CharTokenizer
from minigpt.errors import UserError
from minigpt.evaluation.model import MiniGPTLM
from minigpt.evaluation.tasks import load_tasks
from minigpt.exchange.trained import TrainedModel
from tests.evaluation.conftest import random_gpt


@pytest.fixture(scope="session")
def ours(trained) -> MiniGPTLM:
    return MiniGPTLM.of(trained)


@pytest.fixture(scope="session")
def theirs(exported):
    """The harness's own class for models of transformers."""
    pytest.importorskip("accelerate", reason="the harness's hf class needs accelerate: pip install accelerate")
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(exported), device="cpu", batch_size=3, dtype="float32", max_length=48)


def asks(kind: str, *arguments) -> list[Instance]:
    return [Instance(kind, {}, each, i, ("task", i, 1)) for i, each in enumerate(arguments)]


def answers(lm, folder):
    """task -> what the model answered to every question, and the scores."""
    found = evaluate(lm=lm, task_dict=load_tasks(["mine"], str(folder)).load(["mine"]), log_samples=True)
    said = {task: [sample["filtered_resps"] for sample in samples] for task, samples in found["samples"].items()}
    scores = {f"{t}.{k}": v for t, r in found["results"].items() for k, v in r.items() if isinstance(v, float)}
    return said, scores


def test_the_same_weights_score_the_same_in_the_harness_own_class(ours, theirs, tasks):
    (said, scores), (expected, expected_scores) = (answers(lm, tasks) for lm in (ours, theirs))
    assert set(said) == {"my_choice", "my_pairs", "my_word", "my_text", "my_answer"}
    assert said["my_answer"] == expected["my_answer"]
    assert any(text for (text,) in said["my_answer"])
    for task in ("my_choice", "my_pairs", "my_word"):
        for mine, other in zip(said[task], expected[task], strict=True):
            assert [greedy for _, greedy in mine] == [greedy for _, greedy in other]
            torch.testing.assert_close([n for n, _ in mine], [n for n, _ in other], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(said["my_text"], expected["my_text"], rtol=1e-5, atol=1e-4)
    assert set(scores) == set(expected_scores)
    for name, value in scores.items():
        if "stderr" not in name:
            assert value == pytest.approx(expected_scores[name], rel=1e-5), name


PAIRS = [
    ("The keys of a ", "dictionary"),  # the space belongs to the continuation
    ("The keys of a", " dictionary"),
    ("The keys of a dictio", "nary"),  # the border is inside a token
    ("A list\n\n", " is"),
    ("It moves \t", "to"),
    ("", "The keys"),
    ("naïve €", "ly"),
]


@pytest.mark.parametrize(("context", "continuation"), PAIRS)
def test_text_is_cut_into_tokens_as_the_harness_does(ours, theirs, context, continuation):
    (mine,) = ours.loglikelihood(asks("loglikelihood", (context, continuation)))
    (other,) = theirs.loglikelihood(asks("loglikelihood", (context, continuation)), disable_tqdm=True)
    assert mine == (pytest.approx(other[0], abs=1e-4), other[1])
    if context:
        assert ours._encode_pair(context, continuation) == theirs._encode_pair(context, continuation)


def test_a_space_at_the_end_of_a_context_does_not_change_its_tokens(ours):
    before, after = ours._encode_pair("The keys of a ", "dictionary")
    assert ours.tok_decode(before) == "The keys of a"
    assert ours.tok_decode(after) == " dictionary"
    assert before + after == ours.tok_encode("The keys of a dictionary")


def test_a_border_that_a_merge_swallows_leaves_something_to_ask_for(ours):
    text = ours.tok_decode([max(range(256, 320), key=lambda token: len(ours.tok_decode([token])))])
    assert ours._encode_pair(text[:-1], text[-1])[1]
    (total, _), (spaces, _) = ours.loglikelihood(asks("loglikelihood", (text[:-1], text[-1]), (" \n ", "a")))
    assert total < 0
    assert spaces < 0


def test_an_empty_continuation_is_said(ours):
    with pytest.raises(UserError, match="continuation is empty"):
        ours.loglikelihood(asks("loglikelihood", ("a", "")))


def test_every_text_is_foretold_whole(ours):
    texts = ["The keys of a dictionary. " * 30, "a", ""]
    long, short, nothing = ours.loglikelihood_rolling(asks("loglikelihood_rolling", *((text,) for text in texts)))
    (whole, _) = ours.loglikelihood(asks("loglikelihood", ("", texts[0])))[0]
    assert long == pytest.approx(whole, rel=0.05)  # cut into other windows
    assert short == pytest.approx(ours.loglikelihood(asks("loglikelihood", ("", "a")))[0][0], abs=1e-5)
    assert nothing == 0


def generate(lm, options, context="The keys"):
    return lm.generate_until(asks("generate_until", (context, options)))[0]


def test_generation_stops_at_the_first_of_several_strings(ours):
    whole = generate(ours, {"max_gen_toks": 20})
    assert whole
    middle, later = whole[4:6], whole[7:9]
    first = min(whole.find(middle), whole.find(later))
    assert generate(ours, {"max_gen_toks": 20, "until": [later, middle]}) == whole[:first]
    assert generate(ours, {"max_gen_toks": 20, "until": middle}) == whole[: whole.find(middle)]
    assert generate(ours, {"max_new_tokens": 20, "until": [""]}) == whole


def test_sampled_texts_come_again_and_greedy_ones_ignore_the_rest(ours):
    hot = {"max_gen_toks": 20, "do_sample": True, "temperature": 3.0, "top_k": 0}
    greedy = generate(ours, {"max_gen_toks": 20})
    assert generate(ours, hot) == generate(ours, hot) != greedy
    assert generate(ours, hot | {"do_sample": False, "top_p": 0.5}) == greedy
    assert generate(ours, {"max_gen_toks": 20, "temperature": 0.0}) == greedy


def test_prompts_are_cut_from_the_left_and_must_have_room(ours):
    generate(ours, {"max_gen_toks": 40}, context="The keys of a dictionary. " * 30)
    generate(ours, {"max_gen_toks": 2}, context="")
    with pytest.raises(UserError, match="max_gen_toks=48 leaves nothing of the model's context of 48"):
        generate(ours, {"max_gen_toks": 48})
    with pytest.raises(UserError, match=r"generation_kwargs.num_beams: unknown key"):
        generate(ours, {"num_beams": 4})


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat(trained, template: str) -> MiniGPTLM:
    tokenizer = trained.tokenizer
    content = to_huggingface(tokenizer)
    mark = {"id": tokenizer.vocab_size, "content": "<|im_start|>", "special": True, "normalized": False}
    content["added_tokens"] = [
        *content["added_tokens"],
        mark | dict.fromkeys(("single_word", "lstrip", "rstrip"), False),
    ]
    chatty = HuggingFaceTokenizer(content, eot="<|endoftext|>", chat_template=template)
    return MiniGPTLM.of(dataclasses.replace(trained, model=random_gpt(chatty.vocab_size), tokenizer=chatty))


def test_a_chat_template_is_used_where_there_is_one(trained, ours):
    lm = chat(trained, TEMPLATE)
    text = lm.apply_chat_template([{"role": "user", "content": "Which keys?"}])
    assert text == "<|im_start|>user\nWhich keys?\n<|im_start|>assistant\n"
    assert lm.tok_encode(text)[0] == lm.text.vocab_size - 1  # the mark, not its letters
    assert lm.chat_template(True) == TEMPLATE
    with pytest.raises(UserError, match="this model's tokenizer has none"):
        ours.chat_template(True)


@pytest.mark.parametrize(
    "template", ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ raise_exception('no') }}", "{% if %}"]
)
def test_a_strangers_template_runs_nothing(trained, template):
    with pytest.raises(UserError, match="chat template of the tokenizer"):
        chat(trained, template).apply_chat_template([{"role": "user", "content": "hi"}])


def test_tokens_that_begin_a_text_stand_before_every_context(trained):
    tokenizer = trained.tokenizer
    content = to_huggingface(tokenizer)
    begin = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [tokenizer.eot_token], "tokens": ["<|endoftext|>"]}}
    pieces = [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    content["post_processor"] = {
        "type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": begin,
    }  # fmt: skip
    marked = HuggingFaceTokenizer(content, eot="<|endoftext|>", bos="<|endoftext|>")
    lm = MiniGPTLM.of(dataclasses.replace(trained, tokenizer=marked))
    before, after = lm._encode_pair("The keys", " of")
    assert before[0] == lm.prefix_token_id == tokenizer.eot_token
    assert after == tokenizer.encode(" of").tolist()
    assert lm.tok_encode("of", add_special_tokens=False)[0] != tokenizer.eot_token


def test_a_tokenizer_without_a_token_between_documents_begins_with_a_newline():
    lines, letters = CharTokenizer("\nabc"), CharTokenizer("abc")
    for tokenizer, first in ((lines, 0), (letters, 0)):
        lm = MiniGPTLM.of(TrainedModel(random_gpt(4), tokenizer, {}, None))
        assert lm.eot_token_id is None
        assert lm.prefix_token_id == first
        assert lm.loglikelihood(asks("loglikelihood", ("", "ab")))[0][0] < 0
    with pytest.raises(UserError, match="not one of the 3 characters"):
        lm.loglikelihood(asks("loglikelihood", ("é", "a")))


def test_what_the_harness_command_line_says_is_checked(checkpoint):
    lm = MiniGPTLM.create_from_arg_string(
        f"checkpoint={checkpoint}", {"batch_size": "auto:4", "device": "cuda:0", "max_batch_size": 2}
    )
    assert lm.scorer.batches.size is None
    assert lm.scorer.batches.largest == 2
    for wrong, message in {
        "chekpoint=x": "Did you mean 'checkpoint'",
        "": "model_args.checkpoint: missing",
        f"checkpoint={checkpoint},batch_size=0": "batch_size: 0 is out of range",
        f"checkpoint={checkpoint},batch_size=many": "batch_size: expected a whole number or auto",
        "checkpoint=2026": "2026: no such folder",
    }.items():
        with pytest.raises(UserError, match=message):
            MiniGPTLM.create_from_arg_string(wrong)


def test_answers_are_kept_per_model_where_the_harness_keeps_them(checkpoint, trained, tmp_path, tasks):
    from lm_eval.evaluator import simple_evaluate

    other = MiniGPTLM.of(TrainedModel(random_gpt(trained.model.spec.vocab_size), trained.tokenizer, {}, tmp_path))
    totals = []
    for lm in (MiniGPTLM.of(trained), other, MiniGPTLM.of(trained)):
        manager = load_tasks(["my_text"], str(tasks))
        found = simple_evaluate(lm, tasks=["my_text"], task_manager=manager, use_cache=str(tmp_path / "kept"))
        totals.append(found["results"]["my_text"]["bits_per_byte,none"])
        assert lm is not other or lm.scorer.passes
    assert totals[0] == totals[2] != totals[1]
    assert lm.scorer.passes == 0  # the third took what the first had found
    assert len(list(tmp_path.glob("kept*.db"))) == 2
    assert "minigpt" in lm.tokenizer_name
    assert sys.modules["lm_eval.api.model"].CachingLM.__module__ == "minigpt.evaluation.model"
