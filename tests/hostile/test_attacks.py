"""A stranger's files: none runs code, writes outside its folder or hangs, and each ends in a clear error."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from tests.hostile.attacks import (
    ANCHORS,
    ESCAPES,
    EXPORT,
    IMPORT,
    LIST,
    OF_CKPT,
    OF_HF,
    OF_RUN,
    REPORT,
    RESUME,
    SAFETENSORS,
    SAMPLE,
    SHOW,
    START,
    TRAIN,
    Attack,
    Payload,
    all_escapes,
    appended,
    both,
    edited,
    escaping_tensors,
    gz_bomb,
    hf_weights,
    in_best,
    infinite,
    linked,
    model_args,
    moved_out,
    nested_dicts,
    nested_tuples,
    nothing,
    packed_state,
    pipe,
    python_code,
    python_tag,
    raw_pickle,
    reshaped,
    sparse,
    state,
    system,
    text,
    torch_file,
    torch_zip,
    vouched,
    zst_bomb,
)  # fmt: skip
from tests.hostile.world import World, called, copied, inside, snapshot, watched

PICKLES = [
    Attack("a payload as ckpt.pt", "ckpt", torch_file(Payload), OF_CKPT),
    Attack("a payload in the old format of torch", "ckpt", raw_pickle("ckpt.pt"), OF_CKPT),
    Attack("a payload in a torch file of the old kind", "ckpt",
           torch_file(Payload, _use_new_zipfile_serialization=False), OF_CKPT),
    Attack("os.system by name in a torch file", "ckpt", torch_zip(system), OF_CKPT),
    Attack("a payload among the configuration", "ckpt",
           torch_file(lambda canary: {"model": {}, "model_args": {}, "config": Payload(canary)}), OF_CKPT),
    Attack("a pickle of few bytes and endless entries", "ckpt", torch_zip(lambda _: nested_dicts()), OF_CKPT),
    Attack("a ckpt.pt that claims a layer of no size", "ckpt", model_args(n_embd=2**40), OF_CKPT[2:]),
    Attack("a ckpt.pt that claims endless layers", "ckpt", model_args(n_layer=10**9), OF_CKPT[2:]),
    Attack("a ckpt.pt of other tensors than it claims", "ckpt", model_args(n_layer=3, n_embd=16), OF_CKPT[2:]),
    Attack("a ckpt.pt that is a list", "ckpt", torch_file(lambda _: [1, 2]), (SAMPLE, IMPORT)),
    Attack("a payload as state.pt", "run", in_best("state.pt", lambda c: b"\x80\x02" + system(c)), (RESUME,)),
    Attack("a payload as tokenizer.json", "run", in_best("tokenizer.json", system), OF_RUN),
    Attack("a payload as meta.pkl", "nano", raw_pickle("meta.pkl"), (TRAIN,)),
    Attack("a newer payload as meta.pkl", "nano", raw_pickle("meta.pkl", 5), (TRAIN,)),
    Attack("a meta.pkl of endless tuples", "nano",
           lambda place, _: (place / "meta.pkl").write_bytes(nested_tuples()) and None, (TRAIN,)),
    Attack("weights of Hugging Face as a pickle alone", "hf",
           lambda place, c: (place / "model.safetensors").rename(place / "pytorch_model.bin").write_bytes(system(c)),
           (*OF_HF, SHOW)),
]  # fmt: skip
WEIGHTS = [
    *(Attack(f"safetensors: {name}", "run", in_best("model.safetensors", content), (SAMPLE, (EXPORT, START)[turn % 2]))
      for turn, (name, content) in enumerate(SAFETENSORS.items())),
    *(Attack(f"safetensors of Hugging Face: {name}", "hf", hf_weights(content), (IMPORT, SHOW))
      for name, content in SAFETENSORS.items() if name != "an unknown type"),
    Attack("safetensors of Hugging Face: an unknown type", "hf", hf_weights(SAFETENSORS["an unknown type"]), OF_HF),
]  # fmt: skip
DESCRIPTIONS = [
    Attack("_target_ in model.json", "run", vouched("model.json", lambda c: c.update(_target_="os.system")), OF_RUN),
    Attack("an import path for a part", "run",
           vouched("model.json", lambda c: c["default"].update(norm={"name": "os.system"})), OF_RUN),
    Attack("a plugin of the folder's own", "run",
           both(vouched("model.json", lambda c: c.update(plugins=["evil"])), text("evil.py", python_code),
                vouched("model.json", lambda c: c["default"].update(norm={"name": "evil"}))), OF_RUN),
    Attack("model.json nested too deep", "run", in_best("model.json", lambda _: b'{"a":' * 50000 + b"1" + b"}" * 50000),
           (*OF_RUN, START)),
    Attack("a model no machine holds", "run", vouched("model.json", lambda c: c.update(vocab_size=2**40)), OF_RUN),
    Attack("a size of 400 digits", "run",
           in_best("model.json", lambda _: b'{"d_model": 1' + b"0" * 400 + b"}"), OF_RUN),
    Attack("a number that is none", "run", in_best("model.json", lambda _: b'{"d_model": NaN}'), OF_RUN),
    Attack("auto_map and code beside it", "hf",
           both(edited("config.json", lambda c: c.update(auto_map={"AutoModel": "evil.Evil"}, trust_remote_code=True,
                                                         model_type="evil", architectures=["Evil"])),
                text("evil.py", python_code), text("configuration_evil.py", python_code)), OF_HF),
    Attack("a tokenizer class of the folder's own", "hf",
           both(edited("tokenizer_config.json", lambda c: c.update(auto_map={"AutoTokenizer": ["evil.T", None]},
                                                                   tokenizer_class="evil.T")),
                text("evil.py", python_code)), OF_HF, refused=False),
    Attack("a config.json of endless layers", "hf",
           edited("config.json", lambda c: c.update(num_hidden_layers=10**9)), OF_HF),
    Attack("a config.json of no size", "hf", edited("config.json", lambda c: c.update(hidden_size=2**62)), OF_HF),
    Attack("a config.json of text for numbers", "hf",
           edited("config.json", lambda c: c.update(hidden_size=ESCAPES, rms_norm_eps="x")), OF_HF),
    Attack("a config.json that is a list", "hf", edited("config.json", lambda c: [c]), OF_HF),
    Attack("a config.json of other sizes than the tensors", "hf",
           edited("config.json", lambda c: c.update(intermediate_size=7)), OF_HF),
    Attack("config.yaml with a Python tag", "run", appended("config.yaml", python_tag), (RESUME,)),
    Attack("config.yaml with _target_", "run", appended("config.yaml", "_target_: os.system\n"), (RESUME,)),
    Attack("config.yaml with anchors without end", "run", appended("config.yaml", ANCHORS), (RESUME,)),
    Attack("config.yaml that asks the environment", "run", appended("config.yaml", "x: ${oc.env:HOME}\n"), (RESUME,)),
    Attack("config.yaml with plugins of its own", "run",
           both(lambda place, _: (place / "config.yaml").write_text(
               re.sub(r"plugins: \[\]", "plugins: [evil]", (place / "config.yaml").read_text())) and None,
                text("evil.py", python_code)), (RESUME,)),
    Attack("config.yaml that leads out of its folder", "run",
           lambda place, _: (place / "config.yaml").write_text(
               re.sub(r"name: words", "name: ../../outside", (place / "config.yaml").read_text())) and None, (RESUME,)),
    Attack("a machine with a Python tag", "nothing", text("my.yaml", python_tag),
           ("report ppa runs={run} hardware={place}/my.yaml",
            "inspect --json directory={run} hardware={place}/my.yaml")),
    Attack("a machine with anchors without end", "nothing", text("my.yaml", ANCHORS),
           ("report ppa runs={run} hardware={place}/my.yaml",)),
    Attack("a search with a Python tag", "nothing", text("my.yaml", python_tag), ("search search={place}/my.yaml",)),
    Attack("an exploration with a Python tag", "nothing", text("my.yaml", python_tag),
           ("train -m explorations={place}/my.yaml",)),
    Attack("a task that calls a function", "nothing",
           both(text("t.yaml", "task: t\ndataset_path: json\ndoc_to_text: !function utils.doc_to_text\n"),
                text("utils.py", python_code)), ("evaluate {run} tasks=[t] include_path={place} device=cpu",)),
    Attack("a task whose data are a script", "nothing",
           both(text("t.yaml", "task: t\ndataset_path: script.py\ntest_split: test\ndoc_to_text: x\n"),
                text("script.py", python_code)), ("evaluate {run} tasks=[t] include_path={place} device=cpu",)),
    Attack("a task that includes what lies elsewhere", "nothing",
           text("t.yaml", "task: t\ninclude: ../outside/secret.txt\n"),
           ("evaluate {run} tasks=[t] include_path={place} device=cpu",)),
    Attack("a task of anchors without end", "nothing", text("t.yaml", "task: t\n" + ANCHORS),
           ("evaluate {run} tasks=[t] include_path={place} device=cpu",)),
]  # fmt: skip
TOKENIZERS = [
    Attack("tokenizer.json of another kind", "run", vouched("tokenizer.json", lambda c: c.update(kind="os.system")),
           OF_RUN),
    Attack("tokenizer.json of more tokens than the model", "run",
           vouched("tokenizer.json", lambda c: c.update(characters="".join(map(chr, range(200, 999))))), OF_RUN),
    Attack("a token numbered 2^40", "hf", edited("tokenizer.json", lambda c: c.update(
        added_tokens=[{"id": 2**40, "content": "x", "special": True}])), OF_HF),
    Attack("a normaliser that multiplies text", "hf", edited("tokenizer.json", lambda c: c.update(
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"}] * 20})), OF_HF),
    Attack("steps nested too deep", "hf", edited("tokenizer.json", lambda c: c.update(
        normalizer=deep_steps(60))), OF_HF),
    Attack("tokenizer.json of 20 GB", "hf", sparse("tokenizer.json"), OF_HF),
    Attack("tokenizer.json that is a list", "hf", edited("tokenizer.json", lambda c: [c]), OF_HF),
    Attack("a vocabulary that is no vocabulary", "hf",
           edited("tokenizer.json", lambda c: c["model"].update(vocab={"a": -1, "b": "x"})), OF_HF),
    Attack("characters that steer a terminal", "run",
           vouched("tokenizer.json", lambda c: c.update(characters="a" + "".join(dict.fromkeys("\x1b\x07\x9b‮⁦\x00"))
                                                        + c["characters"][7:].replace("a", ""))),
           (SAMPLE + " temperature=100",), refused=False, terminal=True),
]  # fmt: skip
RECORDS = [
    Attack("a record in which all texts act", "run", edited("run.json", all_escapes),
           (LIST, LIST + " csv=true", LIST + " json=true", REPORT, "report curves runs={place}"), refused=False),
    Attack("a prompt that is markup", "run", vouched("tokenizer.json", lambda c: c.update(
        characters="".join(dict.fromkeys("<script>alert(1)</script>" + c["characters"]))[: len(c["characters"])])),
           ("sample checkpoint={place} start=<script>alert(1)</script> max_new_tokens=2 device=cpu show_heatmaps=true "
            "out=drawn",), refused=False),
    Attack("steps of cleaning with a Python tag", "nothing", text("steps.yaml", python_tag),
           ("prepare source={data}/../words.txt name=x folder={place} clean={place}/steps.yaml",)),
    Attack("steps of cleaning with anchors without end", "nothing", text("steps.yaml", ANCHORS),
           ("prepare source={data}/../words.txt name=x folder={place} clean={place}/steps.yaml",)),
    *(Attack(f"run.json: {name}", "run", lambda place, _, c=content: (place / "run.json").write_bytes(c) and None,
             (LIST, REPORT), refused=False)
      for name, content in {
          "empty": b"", "torn": b'{"name": "x", "sta', "no UTF-8": b'{"name": "\xff\xfe"}', "a list": b"[]",
          "nested": b"[" * 200000, "endless number": b'{"step": ' + b"9" * 5000 + b"}", "NaN": b'{"val_loss": NaN}',
      }.items()),
    Attack("run.json that cannot be gone on with", "run",
           lambda place, _: (place / "run.json").write_bytes(b"[1") and None, (RESUME,)),
    Attack("tensors whose names act", "ckpt", escaping_tensors, (SHOW, "inspect directory={place}"), refused=False),
    Attack("an optimizer's state of another shape", "run", state(reshaped), (RESUME,)),
    Attack("an optimizer's state of text", "run", state(infinite), (RESUME,)),
    Attack("a state that is a list", "run", state(lambda c: [1]), (RESUME,)),
    Attack("a state that unpacks to gigabytes", "run", packed_state, (RESUME,), refused=False),
    Attack("counts of a dataset that are none", "data",
           edited("meta.json", lambda c: c["train"].update(tokens=2**62)), (TRAIN,)),
    Attack("negative counts of a dataset", "data", edited("meta.json", lambda c: c["val"].update(tokens=-5)), (TRAIN,)),
    Attack("an unknown type of tokens", "data", edited("meta.json", lambda c: c.update(dtype="object")), (TRAIN,)),
    Attack("a file of tokens cut short", "data",
           lambda place, _: (place / "train.bin").write_bytes(b"\1\0" * 5) and None, (TRAIN,)),
    Attack("tokens outside the vocabulary", "data",
           lambda place, _: (place / "train.bin").write_bytes(b"\xff" * (place / "train.bin").stat().st_size) and None,
           (TRAIN,)),
]  # fmt: skip
PLACES = [
    Attack("shards elsewhere", "hf",
           both(lambda place, _: (place / "model.safetensors").unlink(),
                text("model.safetensors.index.json", '{"weight_map": {"a": "../outside/model.safetensors"}}')),
           (*OF_HF, SHOW)),
    Attack("shards by an absolute path", "hf",
           both(lambda place, _: (place / "model.safetensors").unlink(),
                text("model.safetensors.index.json", '{"weight_map": {"a": "/etc/passwd"}}')), (*OF_HF, SHOW)),
    Attack("weights that are a link", "hf", linked("model.safetensors"), OF_HF),
    Attack("a config.json that is a link", "hf", linked("config.json"), OF_HF),
    Attack("a tokenizer.json that is a link", "hf", linked("tokenizer.json"), OF_HF),
    Attack("a record that is a link", "run", linked("run.json"), (RESUME,)),
    Attack("metrics that are a link", "run", linked("metrics.jsonl"), (RESUME,)),
    Attack("metrics that are a hard link", "run", linked("metrics.jsonl", hard=True), (RESUME,), refused=False),
    Attack("a lock that is a link", "run", linked(".lock"), (RESUME,)),
    Attack("checkpoints that lie elsewhere", "run",
           moved_out("checkpoint"), (RESUME,)),
    Attack("a last checkpoint that lies elsewhere", "run",
           moved_out("checkpoint/last"), (RESUME,)),
    Attack("weights that are a pipe", "run", pipe("checkpoint/best/model.safetensors"), OF_RUN),
    Attack("a record that is a pipe", "run", pipe("run.json"), (RESUME,)),
    Attack("a ckpt.pt that is a pipe", "ckpt", pipe("ckpt.pt"), OF_CKPT),
    Attack("a dataset that leads elsewhere", "nothing", nothing,
           ("train data.name=../outside data.folder={data} training.max_steps=1 device=cpu",
            "train data=words data.name=/etc training.max_steps=1 device=cpu",
            "prepare source={data}/words/tokenizer.json name=../evil folder={place}")),
    Attack("names that lead elsewhere", "nothing", nothing,
           ("train data.name=words data.folder={data} training.max_steps=1 device=cpu name=../../outside/evil",
            "train -m data.name=words data.folder={data} training.max_steps=1 device=cpu study=../../outside/evil "
            "seed=1,2",
            "search search=demo data.name=words data.folder={data} study=/tmp/evil",
            "train data.name=words data.folder={data} plugins=[../outside/evil]")),
    Attack("a prompt without end", "nothing", sparse("prompt.txt"),
           ("sample checkpoint={run} start=FILE:{place}/prompt.txt device=cpu",
            "sample checkpoint={run} prompts=FILE:/dev/zero device=cpu",
            "prepare source={data}/words/tokenizer.json name=x folder={place} tokenizer=tiktoken "
            "encoding={place}/prompt.txt")),
    Attack("a text that unpacks to gigabytes", "nothing", gz_bomb,
           ("prepare source={place}/bomb.txt.gz name=bomb folder={place}",)),
    Attack("a text that another program unpacks to gigabytes", "nothing", zst_bomb,
           ("prepare source={place}/bomb.txt.zst name=bomb folder={place}",)),
    Attack("a table that is none", "nothing", lambda place, _: (place / "x.parquet").write_bytes(b"PAR1" * 9) and None,
           ("prepare source={place}/x.parquet name=x folder={place}",)),
    Attack("lines of JSON nested too deep", "nothing", text("x.jsonl", "[" * 100000 + "]" * 100000),
           ("prepare source={place}/x.jsonl name=x folder={place}",)),
    Attack("a GGUF file to read", "nothing",
           lambda place, _: (place / "m.gguf").write_bytes(b"GGUF\3\0\0\0" + b"\xff" * 64) and None,
           ("sample checkpoint={place}/m.gguf", "import source={place}/m.gguf out=imported",
            "export checkpoint={place}/m.gguf out=exported", "train init_from={place}/m.gguf")),
    Attack("a torn database of a study", "nothing",
           both(text("out/s/study.db", "SQLite format 3\0" + "x" * 4000),
                text("out/s/study.yaml", python_tag)),
           ("train -m data.name=words data.folder={data} training.max_steps=1 device=cpu out={place}/out study=s "
            "model.n_layer=99999,2",)),
]  # fmt: skip
ATTACKS = PICKLES + WEIGHTS + DESCRIPTIONS + TOKENIZERS + RECORDS + PLACES


def deep_steps(depth: int) -> dict:
    step: dict = {"type": "NFC"}
    for _ in range(depth):
        step = {"type": "Sequence", "normalizers": [step]}
    return step


def test_there_are_more_than_fifty():
    assert len(ATTACKS) > 50
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


@pytest.fixture
def stage(world: World, tmp_path):
    """stage(attack) -> (place, words to fill into its commands): a copy of what it spoils, beside an ``outside``."""

    def stage(attack: Attack) -> tuple[Path, dict[str, str]]:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "secret.txt").write_text("not yours\n")
        place = tmp_path / "place"
        sources = {"run": world.run, "hf": world.hf, "ckpt": world.ckpt}
        sources |= {"data": world.data / "words", "nano": world.data / "nano"}
        if attack.of == "nothing":
            place.mkdir()
        else:
            copied(sources[attack.of], place)
        attack.spoil(place, tmp_path / "canary")
        words = {"place": str(place), "run": str(world.run), "data": str(world.data)}
        return place, words | {"name": place.name, "folder": str(place.parent)}

    return stage


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_strangers_file(attack, stage, tmp_path):
    _, words = stage(attack)
    (tmp_path / "work").mkdir()
    before = snapshot(tmp_path / "outside")
    for command in attack.commands:
        line = [word.format(**words) for word in command.split()]
        with inside(tmp_path / "work"), watched():
            done = called(*line, terminal=attack.terminal)
        assert not done.error, f"{line}: {done.error}"
        assert not (tmp_path / "canary").exists(), f"{line}: it ran"
        assert snapshot(tmp_path / "outside") == before, f"{line}: it wrote outside its folder"
        acting = [c for c in done.text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t"]
        assert not acting, f"{line}: {acting} reach the screen"
        if attack.refused:
            assert done.code == 2, f"{line}: {done.text}"
            assert 0 < len(done.text.strip().splitlines()) <= 3, done.text
            assert len(done.text) < 2000, done.text
    for page in [*tmp_path.rglob("*.html"), *tmp_path.rglob("*.md")]:
        assert "<script>alert" not in page.read_text(), f"{page}: markup came through"
