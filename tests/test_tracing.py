"""Where an answer was read is the gradient of the whole reading, found block by block."""

import pytest
import torch

from recurra import agents
from recurra.agents import Reader, tracing
from recurra.envs.documents import expand
from recurra.envs.documents.babilong import Babilong
from recurra.errors import UserError
from recurra.recipes import cli

TEXT = b"Mary is in the garden. It rains, and the wind blows. John went to the kitchen with the milk in his hand."


@pytest.mark.parametrize(
    ("memory", "options"),
    [("gru", {}), ("delta_net", {"heads": 2, "chunk": 4}), ("yaad", {"chunk": 4}), ("rmt", {"segment": 8})],
)
def test_blocks_give_the_gradient_of_the_whole_reading(memory, options, monkeypatch):
    monkeypatch.setattr(tracing, "AT_ONCE", 20)
    torch.manual_seed(0)
    reader = Reader(memory=memory, dim=16, layers=1, memory_options=options, answers=True).double()
    question = "Where is Mary?"
    found = tracing.trace(reader, [TEXT[:33], TEXT[33:]], question, part=7)

    embedded = []
    handle = reader.embedding.register_forward_hook(lambda *given: embedded.append(given[2]) or given[2].retain_grad())
    said = f" . {question}".encode(), f" {found.answer}.".encode()
    tokens = torch.tensor([list(TEXT + said[0] + said[1])])
    foretold = torch.zeros_like(tokens, dtype=torch.bool)
    foretold[:, -len(said[1]) :] = True
    logits, _ = reader.answer(tokens, foretold)
    logits.log_softmax(-1).gather(-1, tokens[0, -len(said[1]) :, None]).sum().backward()
    handle.remove()
    norms = embedded[0].grad[0].norm(dim=-1)
    starts = [0, *found.ends[:-1]]
    expected = [float(norms[start:end].norm()) for start, end in zip(starts, found.ends, strict=True)]
    assert found.ends[-1] == len(TEXT)
    assert "".join(found.texts).encode() == TEXT
    assert max(expected) > 0
    torch.testing.assert_close(torch.tensor(found.weights), torch.tensor(expected), rtol=1e-8, atol=1e-14)


def test_the_heaviest_parts_stand_in_the_documents_order():
    trace = tracing.Trace("?", "!", [1, 2, 3, 4], [0.1, 0.9, 0.0, 0.5], list("abcd"))
    assert trace.heaviest(2) == [1, 3]
    assert trace.heaviest(9) == [0, 1, 3]  # what weighs nothing is not shown


def test_facts_are_marked_where_they_stand():
    document = Babilong("qa2", expand("text:test"), length=3000, seed=3).document(0)
    text, question = b"".join(document.pieces()), document.questions[0]
    for place, fact in zip(document.places(question), sorted(question.support), strict=True):
        assert text[place:].startswith(document.facts[fact].encode())


def test_the_shipped_reader_hangs_on_the_fact(tmp_path, capsys):
    prose = b" The weather was as it had been all those years, and nobody minded."
    text = b"Mary went to the garden." + 9 * prose + b" Then Mary travelled to the office." + 9 * prose
    found = tracing.trace(agents.load("babilong-qa1"), [text], "Where is Mary?", part=64)
    assert found.answer == "office"
    heaviest = max(range(len(found.weights)), key=found.weights.__getitem__)
    assert "Mary travelled" in "".join(found.texts[max(0, heaviest - 1) : heaviest + 2])

    (tmp_path / "a.txt").write_bytes(text)
    command = ["read", str(tmp_path / "a.txt"), "--reader", "babilong-qa1", "--question", "Where is Mary?"]
    assert cli.main([*command, "--trace", str(tmp_path / "page")]) == 0
    assert "where it was read" in capsys.readouterr().out
    page = (tmp_path / "page" / "index.html").read_text()
    assert "office" in page
    assert (tmp_path / "page" / "trace-1.svg").exists()


def test_an_evaluation_shows_traces_in_its_report(tmp_path, capsys):
    command = ["eval", "babilong-qa1", "--episodes", "1", "--grid.length", "1k", "--report", str(tmp_path), "--trace"]
    assert cli.main(command) == 0
    capsys.readouterr()
    assert "Where it was read" in (tmp_path / "index.html").read_text()
    assert (tmp_path / "trace-1.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["read", "-", "--reader", "babilong-qa1", "--question", "Where?", "--trace", "x"], "save it to a file first"),
        (["read", "text:test", "--reader", "babilong-qa1", "--trace", "x"], "a question"),
        (["eval", "babilong-qa1", "--trace"], "--report DIR"),
        (["eval", "babilong-qa7"], "did you mean 'babilong-qa1'"),
    ],
)
def test_mistakes(arguments, message, capsys):
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_nothing_to_read_and_a_reader_that_does_not_answer():
    with pytest.raises(UserError, match="the document is empty"):
        tracing.trace(Reader(memory="gru", dim=8, answers=True), [b""], "Where?")
    with pytest.raises(UserError, match="not trained to answer"):
        tracing.trace(Reader(memory="gru", dim=8), [b"x"], "Where?")
