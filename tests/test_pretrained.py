"""Pretrained language models as readers: made from a folder, trained by their recipe, saved whole and asked."""

import json
from pathlib import Path

import pytest
import torch

from recurra import agents
from recurra.agents import PretrainedReader, tokens
from recurra.errors import UserError
from recurra.recipes import cli

transformers = pytest.importorskip("transformers")
OPTIONS = {"slots": 2, "segment": 32}


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request, tmp_path_factory) -> Path:
    """A small model of each family and a vocabulary, as transformers writes them."""
    folder = tmp_path_factory.mktemp(request.param)
    written = tokens.learn(["Where is Mary? Mary is in the garden."] * 9, 280)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokens.Tokenizer.from_str(written))
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    if request.param == "gpt2":
        config = transformers.GPT2Config(vocab_size=280, n_positions=64, n_embd=16, n_layer=2, n_head=2)
        transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    else:
        config = transformers.LlamaConfig(
            vocab_size=280, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=True,
        )  # fmt: skip
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("memory", ["rmt", "armt"])
def test_a_reader_of_a_model_reads_as_the_model_does_within_a_segment(model, memory):
    options = {"memory_options": {"slots": 1, "segment": 40}} if memory == "armt" else {"memory_options": OPTIONS}
    reader = PretrainedReader.from_pretrained(str(model), memory=memory, **options).eval()
    text = b"Mary is in the garden."
    ids = torch.tensor([reader.tokens.encode(text)])
    with torch.no_grad():
        ours = reader.foretell(ids)[:, 1:].log_softmax(-1)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(model)(ids).logits[:, :-1].log_softmax(-1)
    if memory == "armt":  # memory tokens stand at a segment's tail: nothing is there to be seen before
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    *_, whole = reader.stream([text * 9])
    *_, cut = reader.stream([text * 4 + text[:7], text[7:] + text * 4])
    assert whole.read == cut.read == len(text) * 9
    torch.testing.assert_close(whole.bits, cut.bits, rtol=1e-4, atol=1e-4)


def test_it_is_saved_whole(model, tmp_path):
    torch.manual_seed(1)
    reader = PretrainedReader.from_pretrained(str(model), memory_options=OPTIONS, answers=True).eval()
    agents.save(reader, tmp_path / "reader")
    config = json.loads((tmp_path / "reader" / "config.json").read_text())
    assert config["kind"] == "PretrainedReader"
    again = agents.load(tmp_path / "reader")
    assert isinstance(again, PretrainedReader)
    assert again.fingerprint() == reader.fingerprint()
    *_, state = reader.stream([b"Mary is in the garden."])
    assert again.ask(["Where is Mary?"], state) == reader.ask(["Where is Mary?"], state)


def test_its_recipe_trains_evaluates_and_answers(model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {
        "pretrained": str(model), "memory_options.slots": "2", "memory_options.segment": "32", "env.tasks": "[qa1]",
        "reading.tokens": "256", "reading.segment": "128", "reading.piece": "256", "reading.segments": "[1]",
        "steps": "1024", "threads": "1", "checkpoint_every": "1",
    }  # fmt: skip
    command = ["train", "babilong-hf", *(word for name, value in settings.items() for word in (f"--{name}", value))]
    assert cli.main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["steps"] == 1024
    run = told["run"]
    assert cli.main(["eval", run, "--grid.length", "0", "--episodes", "2", "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"][0]
    assert row["memory"] == "armt"
    Path("story.txt").write_text("Mary went to the garden. John went to the office.")
    assert cli.main(["read", "story.txt", "--reader", run, "--question", "Where is Mary?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["documents"][0]["answers"]


def test_mistakes(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="no pretrained language model"):
        PretrainedReader.from_pretrained(str(tmp_path / "none"))
    with pytest.raises(UserError, match="rmt or armt"):
        PretrainedReader.from_pretrained(str(model), memory="gru")
    with pytest.raises(UserError, match="positions"):
        PretrainedReader.from_pretrained(str(model), memory_options={"segment": 512})
    config = json.loads((model / "config.json").read_text())
    tokenizer = tokens.learn([f"word{i}" for i in range(4000)], 400)
    with pytest.raises(UserError, match="more tokens than the model"):
        PretrainedReader(model=config, tokenizer=tokenizer, memory_options=OPTIONS)
    with pytest.raises(UserError, match="transformers builds no language model"):
        PretrainedReader(model={"model_type": "nonesuch"}, tokenizer=(model / "tokenizer.json").read_text())
    monkeypatch.setattr("recurra.agents.pretrained.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"recurra\[hf\]"):
        PretrainedReader.from_pretrained(str(model))
