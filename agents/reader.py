"""A reader of bytes: an embedding, a network of memories, a head; it reads streams without end at constant memory."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recurra.agents.hub import OnHub
from recurra.errors import UserError
from recurra.memory import stack

BYTES = 256

#: The most bytes that `Reader.stream` reads at once, however long the pieces are.
AT_ONCE = 8192


class ReaderState(NamedTuple):
    """What a reader keeps of each document.

    Attributes:
        memory: the memory's state.
        features: ``(batch, dim)``, which foretell the next byte.
        read: ``(batch,)`` int64, how many bytes of the document have been read.
        bits: ``(batch,)`` float64, how many bits they took, each foretold from those before it.
    """

    memory: Any
    features: Tensor
    read: Tensor
    bits: Tensor


class Reader(OnHub, nn.Module):
    """Foretells each byte of a document from those before it.

    The first byte of a document is foretold too, from no features: so every byte is scored exactly once, however the
    stream is cut, and no piece needs a look at the next.

    Args:
        memory: a memory's name, or the dotted path ``package.module:Class`` of a user's own.
        dim: width of the network.
        layers: number of blocks.
        expansion: width of the blocks' MLPs over ``dim``; 0 leaves them out.
        memory_options: the memory's own options.
        vocabulary: how many tokens there are: 256 bytes, or a probe's.

    Raises:
        UserError: if the memory or an option of it is not supported.

    >>> reader = Reader(memory="gru", dim=16)
    >>> *_, state = reader.stream([b"To be, or ", b"not to be"])
    >>> state.read, bool(state.bits > 0)
    (tensor([19]), True)
    """

    def __init__(
        self,
        *,
        memory: str = "delta_net",
        dim: int = 128,
        layers: int = 2,
        expansion: float = 4.0,
        memory_options: dict[str, Any] | None = None,
        vocabulary: int = BYTES,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "memory": memory,
            "dim": dim,
            "layers": layers,
            "expansion": expansion,
            "memory_options": dict(memory_options or {}),
            "vocabulary": vocabulary,
        }
        self.embedding = nn.Embedding(vocabulary, dim)
        self.memory = stack(
            memory, dim, layers=layers, expansion=expansion, memory_options=self.config["memory_options"]
        )
        self.head = nn.Linear(dim, vocabulary)
        nn.init.normal_(self.embedding.weight, std=1.0)
        nn.init.normal_(self.head.weight, std=dim**-0.5)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Reader":
        """Build a reader, untrained, from what another's ``config`` says."""
        return cls(**config)

    def initial_state(self, batch: int) -> ReaderState:
        """Give the state before the first byte of ``batch`` documents."""
        place = self.memory.placement()
        return ReaderState(
            memory=self.memory.initial_state(batch),
            features=torch.zeros(batch, self.memory.dim, **place),
            read=torch.zeros(batch, dtype=torch.long, device=place["device"]),
            bits=torch.zeros(batch, dtype=torch.float64, device=place["device"]),
        )

    def forward(
        self,
        tokens: Tensor,
        state: ReaderState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, ReaderState]:
        """Score a piece of each stream.

        Args:
            tokens: ``(batch, time)`` of an integer type.
            state: what an earlier call returned; None means the beginning.
            first: ``(batch, time)`` bool, True on the first byte of a document.
            present: ``(batch, time)`` bool, False for padding.

        Returns:
            The logarithms of the probabilities given to the bytes that came ``(batch, time)``, 0 where absent, and
            the next state.
        """
        state = self.initial_state(len(tokens)) if state is None else state
        logits, memory, after = self._foretell(tokens, state, first, present)
        scores = logits.log_softmax(-1).gather(-1, tokens.long().unsqueeze(-1)).squeeze(-1)
        if present is not None:
            scores = scores.masked_fill(~present, 0.0)
        read, bits = _count(state, scores.detach(), first, present)
        return scores, ReaderState(memory, after, read, bits)

    def foretell(self, tokens: Tensor, *, first: Tensor | None = None) -> Tensor:
        """Give the logits of each token from those before it, of streams that begin here; see `forward`."""
        return self._foretell(tokens, self.initial_state(len(tokens)), first, None)[0]

    def _foretell(
        self, tokens: Tensor, state: ReaderState, first: Tensor | None, present: Tensor | None
    ) -> tuple[Tensor, Any, Tensor]:
        """Give the logits of each token before it came, the memory's next state, and the features after the last."""
        features, memory = self.memory(self.embedding(tokens.int()), state.memory, first=first, present=present)
        features = features.to(state.features.dtype)
        before, after = _before(features, state.features, first, present)
        return self.head(before).to(state.features.dtype), memory, after

    @torch.inference_mode()
    def stream(self, pieces: Iterable[bytes], state: ReaderState | None = None) -> Iterator[ReaderState]:
        """Read a document piece by piece, as far as it goes, and give the state after each piece.

        Args:
            pieces: the document, cut anywhere.
            state: of an earlier reading that is to be continued, of one stream; None for a new document.

        Raises:
            UserError: if the state is of several streams, or the reader's tokens are no bytes.
        """
        if self.config["vocabulary"] != BYTES:
            raise UserError(
                f"this reader knows {self.config['vocabulary']} tokens, which are no bytes: it reads no text"
            )
        device = self.head.weight.device
        state = self.initial_state(1) if state is None else state
        if len(state.read) != 1:
            raise UserError(f"a stream is read with the state of one stream, got one of {len(state.read)}")
        for piece in pieces:
            for tokens in torch.from_numpy(np.frombuffer(piece, np.uint8).copy()).to(device).split(AT_ONCE):
                _, state = self(tokens.unsqueeze(0), state)
            yield state

    @torch.inference_mode()
    def write(
        self, count: int, state: ReaderState | None = None, *, temperature: float = 1.0, seed: int = 0
    ) -> tuple[bytes, ReaderState]:
        """Go on with a text by ``count`` bytes, drawn at ``temperature`` (0: always the likeliest)."""
        if temperature < 0:
            raise UserError(f"temperature must be at least 0, got {temperature}")
        generator = torch.Generator(self.head.weight.device).manual_seed(seed)
        state = self.initial_state(1) if state is None else state
        written = bytearray()
        for _ in range(count):
            logits = self.head(state.features).double()
            if temperature:
                token = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
            else:
                token = logits.argmax(-1)
            _, state = self(token.byte().unsqueeze(1), state)
            written.append(int(token))
        return bytes(written), state


def _count(state: ReaderState, scores: Tensor, first: Tensor | None, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """Count the bytes and bits of the document that each row now is in."""
    counted = torch.ones_like(scores, dtype=torch.bool) if present is None else present
    read, bits = state.read, state.bits
    if first is not None:
        counted = counted & (first.cumsum(1) == first.sum(1, keepdim=True))
        read, bits = read.masked_fill(first.any(1), 0), bits.masked_fill(first.any(1), 0.0)
    taken = -scores.double().masked_fill(~counted, 0.0).sum(1) / math.log(2)
    return read + counted.sum(1), bits + taken


def _before(features: Tensor, carried: Tensor, first: Tensor | None, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """Give each token the features of the present token before it in its document, and those after the last."""
    batch, time, dim = features.shape
    if present is not None:  # an absent token's features are those of the last present one: look up where that is
        index = torch.arange(1, time + 1, device=features.device).expand(batch, time)
        last = index.masked_fill(~present, 0).cummax(1).values
        features = torch.cat((carried.unsqueeze(1), features), 1).gather(1, last.unsqueeze(-1).expand(-1, -1, dim))
        if first is not None:  # ... unless a document began since
            begun = index.masked_fill(~first, 0).cummax(1).values
            features = features.masked_fill((begun > last).unsqueeze(-1), 0.0)
    before = torch.cat((carried.unsqueeze(1), features), 1)
    if first is None:
        return before[:, :-1], before[:, -1]
    return before[:, :-1].masked_fill(first.unsqueeze(-1), 0.0), before[:, -1]
