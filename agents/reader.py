"""A reader of text: an embedding, a network of memories, a head; it reads streams without end at constant memory."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recurra.agents.hub import OnHub
from recurra.agents.tokens import Bytes, NotText, Text, Tokens, Vocabulary
from recurra.errors import UserError
from recurra.memory import Memory, stack
from recurra.memory import state as states

BYTES = 256

#: The most tokens that `Reader.stream` reads at once, however long the pieces are; on a CPU, what its caches hold.
AT_ONCE, AT_ONCE_ON_CPU = 8192, 2048

#: The most tokens of a question, with the full stop before it.
LONGEST_QUESTION = 256

#: The most tokens of an answer; it ends before that at the first full stop.
LONGEST_ANSWER = 24


class ReaderState(NamedTuple):
    """What a reader keeps of each document.

    Attributes:
        memory: the memory's state.
        features: ``(batch, dim)``, which foretell the next byte; 0 after what was read to be asked about.
        read: ``(batch,)`` int64, how many bytes of the document have been read; of tokens that are given as they are,
            as to `Reader.forward`, each counts as one.
        tokens: ``(batch,)`` int64, how many tokens they were.
        bits: ``(batch,)`` float64, how many bits they took, each foretold from those before it; 0 where the reader
            answers questions and foretells nothing.
    """

    memory: Any
    features: Tensor
    read: Tensor
    tokens: Tensor
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
        vocabulary: how many tokens there are: 256 bytes, or a probe's; with a tokenizer, what it says.
        tokenizer: the content of a file of the ``tokenizers`` library; None reads bytes.
        answers: whether it is one that answers questions, and does not foretell what comes.

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
        tokenizer: str | None = None,
        answers: bool = False,
    ) -> None:
        super().__init__()
        self.tokens: Tokens = (Text() if answers else Bytes()) if tokenizer is None else Vocabulary(tokenizer)
        vocabulary = vocabulary if tokenizer is None else self.tokens.size
        self.config: dict[str, Any] = {
            "memory": memory,
            "dim": dim,
            "layers": layers,
            "expansion": expansion,
            "memory_options": dict(memory_options or {}),
            "vocabulary": vocabulary,
            "tokenizer": tokenizer,
            "answers": answers,
        }
        self.embedding = nn.Embedding(vocabulary, dim)
        self.memory: Memory = stack(
            memory, dim, layers=layers, expansion=expansion, memory_options=self.config["memory_options"]
        )
        if self.memory.team:
            raise UserError(f"memory {memory} is shared by a team, and a reader reads alone")
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
            tokens=torch.zeros(batch, dtype=torch.long, device=place["device"]),
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
        read, tokens_read, bits = _count(state, scores.detach(), first, present)
        return scores, ReaderState(memory, after, read, tokens_read, bits)

    def foretell(self, tokens: Tensor, *, first: Tensor | None = None) -> Tensor:
        """Give the logits of each token from those before it, of streams that begin here; see `forward`."""
        return self._foretell(tokens, self.initial_state(len(tokens)), first, None)[0]

    def _foretell(
        self, tokens: Tensor, state: ReaderState, first: Tensor | None, present: Tensor | None
    ) -> tuple[Tensor, Any, Tensor]:
        """Give the logits of each token before it came, the memory's next state, and the features after the last."""
        before, memory, after = self._take(tokens, state, first, present)
        return self.head(before).to(state.features.dtype), memory, after

    def _take(
        self, tokens: Tensor, state: ReaderState, first: Tensor | None, present: Tensor | None
    ) -> tuple[Tensor, Any, Tensor]:
        """Give the features before each token, the memory's next state, and the features after the last."""
        features, memory = self.memory(self.embedding(tokens.int()), state.memory, first=first, present=present)
        before, after = _before(features.to(state.features.dtype), state.features, first, present)
        return before, memory, after

    def answer(
        self, tokens: Tensor, asked: Tensor, state: ReaderState | None = None, *, first: Tensor | None = None
    ) -> tuple[Tensor, ReaderState]:
        """Read a piece of each stream, and foretell some of its tokens: what learning to answer needs.

        Args:
            tokens: ``(batch, time)``.
            asked: ``(batch, time)`` bool, which tokens to foretell, each from those before it.
            state: what an earlier call returned; None means the beginning.
            first: ``(batch, time)`` bool, True on the first token of a document.

        Returns:
            The logits of those tokens ``(count, vocabulary)``, stream by stream, and the next state.
        """
        state = self.initial_state(len(tokens)) if state is None else state
        before, memory, after = self._take(tokens, state, first, None)
        logits = self.head(before[asked]).to(state.features.dtype)
        return logits, state._replace(memory=memory, features=after)

    @torch.inference_mode()
    def stream(self, pieces: Iterable[bytes], state: ReaderState | None = None) -> Iterator[ReaderState]:
        """Read a document piece by piece, as far as it goes, and give the state after each piece.

        With a vocabulary, the last word of a piece is read with the next: ``read`` says how far it came.

        Args:
            pieces: the document, cut anywhere.
            state: of an earlier reading that is to be continued, of one stream; None for a new document.

        Raises:
            UserError: if the state is of several streams, the reader's tokens are no bytes, or what is read no text.
        """
        state = self.initial_state(1) if state is None else state
        if len(state.read) != 1:
            raise UserError(f"a stream is read with the state of one stream, got one of {len(state.read)}")
        yield from self.side_by_side([pieces], state)

    @torch.inference_mode()
    def side_by_side(self, documents: list[Iterable[bytes]], state: ReaderState | None = None) -> Iterator[ReaderState]:
        """Read documents in one batch, a piece of each at a time, and give the state of all after each; see `stream`.

        Raises:
            UserError: if the state is not of as many streams, or what is read is no text.
        """
        state = self.initial_state(len(documents)) if state is None else state
        if len(state.read) != len(documents):
            raise UserError(f"the state is of {len(state.read)} documents, there are {len(documents)}")
        read_on = self.absorb if self.config["answers"] else self.advance
        for rows, counts in self.encode(documents, read=state.read.tolist()):
            tokens, present = padded(rows, state.read.device)
            most = AT_ONCE_ON_CPU if tokens.device.type == "cpu" else AT_ONCE
            at_once, before = max(1, most // len(rows)), state.read
            for part, there in zip(tokens.split(at_once, 1), present.split(at_once, 1), strict=True):
                if part.shape[1]:
                    state = read_on(part, state, present=None if there.all() else there)
            state = state._replace(read=before + torch.tensor(counts, device=before.device))
            yield state

    def encode(self, documents: list[Iterable[bytes]], *, read: list[int]) -> Iterator[tuple[list[Tensor], list[int]]]:
        """Turn documents into tokens, a piece of each at a time.

        A vocabulary sees a document as if a space stood before it, so that its first word is a word like any other.

        Args:
            documents: each cut anywhere.
            read: of each, how many bytes before these have been read.

        Yields:
            Of each document its next tokens ``(time,)``, none where it has ended, and how many bytes they are.

        Raises:
            UserError: if the reader's tokens are no bytes.
            NotText: if what is read is no text.
        """
        if self.config["tokenizer"] is None and self.config["vocabulary"] != BYTES:
            raise UserError(
                f"this reader knows {self.config['vocabulary']} tokens, which are no bytes: it reads no text"
            )
        words = self.config["tokenizer"] is not None
        device = self.head.weight.device
        held = [b" " if words and not before else b"" for before in read]
        invented = [len(part) for part in held]
        sources = [iter(document) for document in documents]
        going, at = [True] * len(sources), list(read)
        while any(going):
            found, counts = [], []
            for row, source in enumerate(sources):
                piece = next(source, None) if going[row] else b""
                if piece is None:
                    going[row], end = False, len(held[row])
                    end = 0 if end == invented[row] else end  # nothing but the space that is none of the document's
                else:
                    held[row] += piece
                    end = self.tokens.cut(held[row]) if going[row] else 0
                text, held[row] = held[row][:end], held[row][end:]
                try:
                    found.append(torch.tensor(self.tokens.encode(text), dtype=torch.int32, device=device))
                except NotText as error:
                    raise NotText(at[row] + error.at - invented[row], row) from None
                counts.append(len(text) - (invented[row] if text else 0))
                at[row] += counts[-1]
                invented[row] = 0 if text else invented[row]
            if any(going) or any(counts):
                yield found, counts

    def absorb(self, tokens: Tensor, state: ReaderState, *, present: Tensor | None = None) -> ReaderState:
        """Read tokens for the memory alone, which is all that questions need; see `advance`.

        Features are 0 then: what answers a question is foretold from those of its own tokens.
        """
        memory = self.memory.absorb(self.embedding(tokens.int()), state.memory, present=present)
        return _grown(state, tokens, present, memory, torch.zeros_like(state.features))

    def advance(self, tokens: Tensor, state: ReaderState, *, present: Tensor | None = None) -> ReaderState:
        """Read tokens; a reader that answers foretells nothing of them.

        Args:
            tokens: ``(batch, time)``, each counted as a byte.
            state: before them.
            present: ``(batch, time)`` bool, False for padding.
        """
        if self.config["answers"]:
            _, memory, after = self._take(tokens, state, None, present)
            return _grown(state, tokens, present, memory, after)
        return self(tokens, state, present=present)[1]

    @torch.inference_mode()
    def ask(self, questions: list[str], state: ReaderState) -> list[str]:
        """Ask about what has been read; the state stays as it is.

        Args:
            questions: as many as are wanted; one stream answers all, of several streams each answers its own.
            state: of the streams.

        Raises:
            UserError: if the reader was not trained to answer, a question is empty or too long, or there are not as
                many as streams.
        """
        asked = self.check(questions)
        if len(state.read) not in (1, len(questions)):
            raise UserError(f"{len(state.read)} streams answer a question each, got {len(questions)}")
        if not asked:
            return []
        if len(state.read) == 1:
            state = states.select(state, torch.zeros(len(asked), dtype=torch.long, device=state.read.device))
        tokens, present = padded([torch.tensor(row) for row in asked], state.read.device)
        state = self.advance(tokens, state, present=present)
        answers: list[list[int]] = [[] for _ in asked]
        for _ in range(LONGEST_ANSWER):
            likeliest = self.head(state.features).argmax(-1)
            state = self.advance(likeliest.unsqueeze(1), state)
            for answer, token in zip(answers, likeliest.tolist(), strict=True):
                answer.append(token)
            if all("." in self.tokens.decode(answer) for answer in answers):
                break
        said = (self.tokens.decode(answer).split(".")[0] for answer in answers)
        return [text.replace("\0", "").strip() for text in said]

    def check(self, questions: list[str]) -> list[list[int]]:
        """Give the tokens of questions, each after a full stop: a document may end in the midst of a sentence.

        A space before it keeps it apart from one that the document ends with: ".." is nothing that texts have.

        Raises:
            UserError: if there are questions and the reader was not trained to answer; or one is empty, no text, or
                longer than `LONGEST_QUESTION` tokens. It may span segments of a segment memory, as documents do.
        """
        if questions and not self.config["answers"]:
            raise UserError("this reader was not trained to answer questions: train one with recurra train babilong")
        asked = []
        for question in map(str.strip, questions):
            said = f"{question[:40]}…" if len(question) > 40 else question
            if not question:
                raise UserError("a question is empty")
            try:
                asked.append(self.tokens.encode(f" . {question}".encode(errors="surrogateescape")))
            except NotText as error:
                raise UserError(f"the question {said!r} is no UTF-8 text: write it anew") from error
            if len(asked[-1]) > LONGEST_QUESTION:
                raise UserError(f"a question has at most {LONGEST_QUESTION} tokens, {said!r} has {len(asked[-1])}")
        return asked

    def fingerprint(self) -> str:
        """Give a name that no other reader has: of its config and weights."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.inference_mode()
    def write(
        self, count: int, state: ReaderState | None = None, *, temperature: float = 0.8, seed: int = 0
    ) -> tuple[bytes, ReaderState]:
        """Go on with a text.

        Args:
            count: how many tokens to write, which are bytes where the reader has no vocabulary.
            state: after what is gone on with, of one stream; None begins a text.
            temperature: of drawing; 0 takes the likeliest.
            seed: of drawing.

        Returns:
            What was written, and the state after it.

        Raises:
            UserError: if the temperature is below 0, the state is of several streams, or the reader answers questions.
        """
        if state is not None and len(state.read) != 1:
            raise UserError(f"a text is gone on with from the state of one stream, got one of {len(state.read)}")
        if temperature < 0:
            raise UserError(f"temperature must be at least 0, got {temperature}")
        if self.config["answers"] and count:
            raise UserError("this reader was trained to answer questions, not to go on with a text")
        generator = torch.Generator(self.head.weight.device).manual_seed(seed)
        state = self.initial_state(1) if state is None else state
        written: list[int] = []
        for _ in range(count):
            logits = self.head(state.features).double()
            if temperature:
                token = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
            else:
                token = logits.argmax(-1)
            _, state = self(token.unsqueeze(1), state)
            written.append(int(token))
        if self.config["tokenizer"] is None:
            return bytes(written), state
        return self.tokens.decode(written).encode(), state


def padded(rows: list[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Put tokens of different numbers side by side: ``(batch, time)``, and which of them are present."""
    counts = torch.tensor([len(row) for row in rows], device=device)
    tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    return tokens, torch.arange(tokens.shape[1], device=device) < counts.unsqueeze(1)


def _grown(state: ReaderState, tokens: Tensor, present: Tensor | None, memory: Any, features: Tensor) -> ReaderState:
    """Give the state after tokens of which nothing was foretold."""
    count = tokens.shape[1] if present is None else present.sum(1)
    return state._replace(memory=memory, features=features, read=state.read + count, tokens=state.tokens + count)


def _count(
    state: ReaderState, scores: Tensor, first: Tensor | None, present: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Count the bytes, tokens and bits of the document that each row now is in."""
    counted = torch.ones_like(scores, dtype=torch.bool) if present is None else present
    read, tokens, bits = state.read, state.tokens, state.bits
    if first is not None:
        counted = counted & (first.cumsum(1) == first.sum(1, keepdim=True))
        read, tokens, bits = (part.masked_fill(first.any(1), 0) for part in (read, tokens, bits))
    taken = -scores.double().masked_fill(~counted, 0.0).sum(1) / math.log(2)
    count = counted.sum(1)
    return read + count, tokens + count, bits + taken


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
