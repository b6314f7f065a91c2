"""A tokenizer's chat template is a stranger's program: it reaches nothing, and ends."""

from __future__ import annotations

import pytest

from minigpt.data.bpe import train_bpe
from minigpt.data.hf_files import to_huggingface
from minigpt.data.hf_tokenizer import HuggingFaceTokenizer
from minigpt.errors import UserError
from minigpt.evaluation import model
from minigpt.evaluation.model import MiniGPTLM
from tests.hostile.world import watched

TEMPLATES = {
    "Python's insides": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a module by way of a function": "{{ cycler.__init__.__globals__.os.system('touch canary') }}",
    "a file": "{% include '/etc/passwd' %}",
    "no template": "{% for %}",
    "nested too deep": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "a range without end": "{% for i in range(10**9) %}x{% endfor %}",
    "loops in loops": "{% for i in range(90000) %}{% for j in range(900) %}{% endfor %}{% endfor %}",
    "a text without end": "{{ 'a' * 10**11 }}",
    "a long text": "{{ 'a' * 10**8 }}",
    "what is not there": "{{ 1 // 0 }}",
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_that_is_an_attack_is_refused_and_runs_nothing(template, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model, "TEMPLATE_SECONDS", 0.3)
    asked = MiniGPTLM.__new__(MiniGPTLM)
    content = to_huggingface(train_bpe(["some text " * 20], 260))
    asked.text = HuggingFaceTokenizer(content, chat_template=template)
    with watched(), pytest.raises(UserError, match="chat template") as refused:
        asked.apply_chat_template([{"role": "user", "content": "Who?"}])
    assert len(str(refused.value)) < 400
    assert list(tmp_path.iterdir()) == []
