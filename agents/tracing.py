"""Where an answer was read: how far what a reader says hangs on each part of a document, by gradients."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recurra.agents.reader import AT_ONCE, Reader, ReaderState
from recurra.errors import UserError
from recurra.memory import state as states


class Trace(NamedTuple):
    """What an answer hangs on.

    Attributes:
        question: as it was asked.
        answer: the reader's.
        ends: of each part of the document, after how many bytes it ends.
        weights: of each part, the norm of the gradient of the answer's log-probability by the embeddings of its tokens.
        texts: of each part, its tokens as text.
    """

    question: str
    answer: str
    ends: list[int]
    weights: list[float]
    texts: list[str]

    def heaviest(self, count: int) -> list[int]:
        """Give the numbers of the parts that weigh most, at most ``count``, in the order of the document."""
        ranked = sorted(range(len(self.weights)), key=lambda part: -self.weights[part])
        return sorted(part for part in ranked[:count] if self.weights[part] > 0)


def trace(reader: Reader, pieces: Iterable[bytes], question: str, *, part: int = 256) -> Trace:
    """Read a document, ask about it, and go back to what the answer hangs on.

    The document is read twice: onwards, keeping the state now and then, and backwards from one kept state to the one
    before, handing the gradient on. So memory grows with the tokens and the kept states, not with what a network
    computes.

    Args:
        reader: one that answers.
        pieces: the document, cut anywhere.
        question: what to ask at its end.
        part: bytes of a part, about.

    Raises:
        UserError: if the reader does not answer, or there is nothing to read.

    >>> reader = Reader(memory="gru", dim=16, answers=True)
    >>> found = trace(reader, [b"Mary is in the garden."], "Where is Mary?", part=8)
    >>> found.ends, min(found.weights) > 0
    ([8, 16, 22], True)
    """
    (asked,) = reader.check([question])
    state = reader.initial_state(1)
    blocks: list[tuple[ReaderState, Tensor, list[int]]] = []  # the state before each, its tokens, the parts' lengths
    parts: list[Tensor] = []
    texts: list[str] = []
    ends: list[int] = []

    def advance() -> ReaderState:
        tokens = torch.cat(parts).unsqueeze(0)
        blocks.append((state, tokens, [len(tokens_of) for tokens_of in parts]))
        parts.clear()
        return reader.advance(tokens, state)

    with torch.no_grad():
        for (tokens,), (count,) in reader.encode([_cut(pieces, part)], read=[0]):
            if not len(tokens):
                continue
            parts.append(tokens)
            texts.append(reader.tokens.decode(tokens.tolist()))
            ends.append(count + (ends[-1] if ends else 0))
            if sum(map(len, parts)) >= AT_ONCE:
                state = advance()
        if parts:
            state = advance()
    if not blocks:
        raise UserError("there is nothing to ask about: the document is empty")
    (answer,) = reader.ask([question], state)
    slopes = _of_answer(reader, state, asked, reader.tokens.encode(f" {answer}.".encode()))
    weights: list[float] = []
    for before, tokens, lengths in reversed(blocks):
        by_token, slopes = _back(reader, before, tokens, slopes)
        weights[:0] = [float(own.norm()) for own in by_token.split(lengths)]
    return Trace(question, answer, ends, weights, texts)


def _cut(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        for begin in range(0, len(piece), size):
            yield piece[begin : begin + size]


def _of_answer(reader: Reader, state: ReaderState, asked: list[int], said: list[int]) -> dict[str, Tensor]:
    """Give the gradient of log p(said) by the memory's state before the question, for each of its tensors."""
    given = _leaves(state.memory)
    tokens = torch.tensor([asked + said], device=state.read.device)
    foretold = torch.arange(tokens.shape[1], device=tokens.device)[None] >= len(asked)
    with torch.enable_grad():
        logits, _ = reader.answer(tokens, foretold, state._replace(memory=given))
        score = logits.log_softmax(-1).gather(-1, tokens[0, len(asked) :, None]).sum()
        return _slopes([score], [None], _inputs(given))


def _back(
    reader: Reader, before: ReaderState, tokens: Tensor, slopes: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Hand a gradient by the state after tokens ``(1, time)`` on to the one before: the tokens' norms ``(time,)``."""
    given = _leaves(before.memory)
    embedded = reader.embedding(tokens.int()).detach().requires_grad_()
    with torch.enable_grad():
        _, after = reader.memory(embedded, given)
        reached = _inputs(after)
        found = _slopes(list(reached.values()), [slopes[name] for name in reached], {"": embedded} | _inputs(given))
    return found.pop("")[0].norm(dim=-1), found


def _leaves(state: Any) -> Any:
    return states.transform(lambda x: x.detach().requires_grad_() if x.is_floating_point() else x, state)


def _inputs(state: Any) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in states.fields(state) if tensor.requires_grad}


def _slopes(outputs: list[Tensor], slopes: list[Any], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the gradients by tensors, under their names; 0 where nothing leads to one."""
    if not outputs:
        return {name: torch.zeros_like(tensor) for name, tensor in inputs.items()}
    found = torch.autograd.grad(outputs, list(inputs.values()), slopes, allow_unused=True, materialize_grads=True)
    return dict(zip(inputs, found, strict=True))
