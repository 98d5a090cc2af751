"""The recipe of associative recall: a memory learns it, what is measured is what it can, mistakes are told."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recurra.agents import Reader
from recurra.envs.probes import Recall
from recurra.errors import UserError
from recurra.memory import state as states
from recurra.recipes import evaluate, read, train
from recurra.recipes.loading import reader as load_reader

SMALL = {
    "env.pairs": [2, 4],
    "env.keys": 8,
    "env.values": 8,
    "dim": 32,
    "layers": 1,
    "memory_options": {"heads": 1},
    "reading.learning_rate": 0.01,
    "threads": 1,
}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    return train("recall", root=str(tmp_path_factory.mktemp("runs")), steps=70_000, **SMALL)


def test_a_memory_learns_to_recall(learnt):
    assert learnt["metrics"]["accuracy_2"] > 0.95
    assert learnt["metrics"]["accuracy_4"] > 0.95
    result = evaluate(learnt["run"])
    assert result["task"] == "recall"
    assert [row["pairs"] for row in result["rows"]] == [2, 4]
    assert all(row["success_rate"] > 0.95 for row in result["rows"])


def test_without_a_memory_there_is_nothing_to_tell(tmp_path):
    options = {**SMALL, "memory": "none", "memory_options": {}, "env.pairs": [8]}
    run = train("recall", root=str(tmp_path), steps=50_000, **options)["run"]
    assert evaluate(run)["success_rate"] < 0.3  # a chance of 1/8, and no value is asked for that was not shown


def test_evaluation_counts_the_answers(learnt):
    """As the reader's own scores say, one episode and one byte of probability after another."""
    result = evaluate(learnt["run"], env={"noise": 1.0}, grid={"pairs": [3]}, episodes=7, environments=2, seed=5)
    task = Recall(pairs=3, noise=1.0, keys=8, values=8)
    rng, right, asked = np.random.default_rng([5, 3, 1]), 0, 0
    reader = load_reader(learnt["run"])
    for count in (2, 2, 2, 1):
        drawn = task.draw(count, rng)
        for tokens, wanted in zip(drawn.tokens, drawn.asked, strict=True):
            state = None
            for token, is_asked in zip(torch.as_tensor(tokens), wanted, strict=True):
                everything = torch.arange(task.vocabulary).unsqueeze(1)
                many = (
                    reader.initial_state(task.vocabulary)
                    if state is None
                    else states.select(state, [0] * len(everything))
                )
                scores, _ = reader(everything, many)
                right += bool(is_asked) and int(scores.argmax()) == int(token)
                asked += bool(is_asked)
                _, state = reader(token.reshape(1, 1), state)
    assert asked == 7 * 3
    assert result["success_rate"] == pytest.approx(right / asked)
    (row,) = result["rows"]
    assert row["mean_length"] == task.length
    assert row["state_bytes"] == states.nbytes(reader.memory.initial_state(1))


def test_a_report_draws_accuracy_by_pairs(learnt, tmp_path):
    result = evaluate(learnt["run"], grid={"pairs": [2, 4, 8]}, episodes=3, report=str(tmp_path / "report"))
    page = Path(result["report"]).read_text()
    assert "in recall" in page
    assert all(f"<td>{row['pairs']}</td>" in page and f"{row['state_bytes']:,}" in page for row in result["rows"])
    assert "<svg" in (tmp_path / "report" / "plot.svg").read_text()


def test_episodes_in_a_stream_are_read_as_alone():
    torch.manual_seed(0)
    reader = Reader(memory="delta_net", dim=16, layers=1, memory_options={"heads": 1}, vocabulary=30).double()
    tokens = torch.randint(30, (3, 20))
    first = torch.zeros(3, 20, dtype=torch.bool)
    first[:, [0, 8]] = True
    together = reader.foretell(tokens, first=first)
    apart = torch.cat((reader.foretell(tokens[:, :8]), reader.foretell(tokens[:, 8:])), 1)
    torch.testing.assert_close(together, apart)


def test_mistakes_are_told(learnt, tmp_path):
    run = learnt["run"]
    with pytest.raises(UserError, match=r"recall has no option 'pears'; did you mean 'pairs'\?"):
        evaluate(run, env={"pears": 3})
    with pytest.raises(UserError, match="recall's options are numbers"):
        evaluate(run, env={"pairs": "four"})
    with pytest.raises(UserError, match="leave keys, values and fillers as they were trained"):
        evaluate(run, env={"keys": 9})
    with pytest.raises(UserError, match=r"pairs must lie in 1\.\.8"):
        evaluate(run, grid={"pairs": [9]})
    with pytest.raises(UserError, match="leave out --video"):
        evaluate(run, video=str(tmp_path / "video"))
    with pytest.raises(UserError, match="which are no bytes: it reads no text"):
        read(__file__, reader=run)
    for wrong, message in [
        ({"env.pairs": [200]}, "pairs must lie in"),
        ({"env.pairs": []}, "names no numbers"),
        ({"env.noise": -1}, "noise must not be negative"),
        ({"evaluation.every": 5}, "leave evaluation.every out"),
        ({"reading.streams": 3, "devices": 2}, "cannot be shared out"),
    ]:
        with pytest.raises(UserError, match=message):
            train("recall", root=str(tmp_path), **wrong)
    assert not list(tmp_path.iterdir())


def test_a_reader_of_text_is_not_asked_to_recall(learnt, tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("to be or not to be " * 50)
    options = {"documents": [str(book)], "held_out": [], "dim": 8, "layers": 1, "memory": "gru", "reading.streams": 2}
    run = train("byte-lm", root=str(tmp_path), steps=600, **{**options, "reading.piece": 32})["run"]
    with pytest.raises(UserError, match="was not trained to recall"):
        evaluate([learnt["run"], run])
