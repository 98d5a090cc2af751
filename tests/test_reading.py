"""Learning to read: pieces of documents side by side, memory carried from piece to piece, every byte scored once."""

import math

import pytest
import torch

from recurra.agents import Reader, load
from recurra.envs.documents import expand
from recurra.memory import state as states
from recurra.recipes import read, settings, train
from recurra.recipes.reading import score
from recurra.recipes.settings import ReadingRecipe
from recurra.recipes.training import build

SMALL = {"dim": 16, "layers": 1, "memory": "gru", "threads": 1, "reading.streams": 4, "reading.piece": 32}


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("the rain in spain stays mainly in the plain. " * 300)
    return path


def test_learns_what_repeats(book, tmp_path):
    options = {**SMALL, "steps": 40_000, "documents": [str(book)], "held_out": [str(book)], "reading.warm_up": 10}
    result = train("byte-lm", root=str(tmp_path), **options)
    assert result["metrics"]["held_out_bits_per_byte"] < 1.0
    (row,) = read(str(book), reader=result["run"])["documents"]
    assert row["bits_per_byte"] < 1.0
    assert isinstance(load(result["run"]), Reader)


def test_score_is_what_streaming_gives(tmp_path):
    torch.manual_seed(0)
    reader = Reader(memory="delta_net", dim=16, layers=1, memory_options={"heads": 1}).eval()
    texts = [b"one", b"", b"a longer document than the first " * 20, b"x"]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_bytes(text)
    bits = count = 0.0
    for text in texts:
        for state in reader.stream([text]):
            bits, count = bits + float(state.bits), count + int(state.read)
    assert score(reader, expand(tmp_path), streams=3, length=50) == pytest.approx(bits / count, abs=1e-6)


def test_memory_goes_on_between_pieces_and_gradients_do_not(book):
    recipe = ReadingRecipe(documents=[str(book)], steps=256, memory="gru", dim=16, layers=1)
    recipe.reading = settings.ReadingOptions(streams=2, piece=16)
    module = build(recipe)
    first, second = next(module.batches), next(module.batches)
    tokens = [torch.as_tensor(piece.tokens) for piece in (first, second)]
    flags = [torch.as_tensor(piece.first) for piece in (first, second)]
    whole, _ = module.agent(torch.cat(tokens, 1), first=torch.cat(flags, 1))
    _, state = module.agent(tokens[0], first=flags[0])
    continued, _ = module.agent(tokens[1], states.detach(state), first=flags[1])
    torch.testing.assert_close(continued, whole[:, 16:], rtol=1e-4, atol=1e-5)
    assert all(not tensor.requires_grad for _, tensor in states.fields(states.detach(state)))


def test_the_rate_rises_and_falls(book):
    recipe = ReadingRecipe(documents=[str(book)], steps=200 * 64, memory="none", dim=8, layers=1)
    recipe.reading = settings.ReadingOptions(streams=4, piece=16, warm_up=20, learning_rate=1.0)
    (optimizer,), (schedule,) = build(recipe).configure_optimizers()
    rates = []
    for _ in range(recipe.updates):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(1 / 20)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (19, 20)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    decayed, kept = (group["params"] for group in optimizer.param_groups)
    assert all(parameter.dim() > 1 for parameter in decayed)
    assert all(parameter.dim() == 1 for parameter in kept)


def test_first_bits_are_those_of_a_guess(book):
    reader = Reader(memory="none", dim=16, layers=1)
    torch.nn.init.zeros_(reader.head.weight)
    assert score(reader, expand(str(book))) == pytest.approx(math.log2(256), abs=1e-4)
