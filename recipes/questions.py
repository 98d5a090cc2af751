"""Learning to answer questions about documents: of growing length first, then about streams that do not end.

Two kinds of updates. In a curriculum, documents of some segments each, whole, gradients flowing through all of them;
who answers goes on to longer ones. After its last stage every second update reads the next piece of each stream, with
the memory's state carried and detached: what was written many pieces ago is asked for. The loss is of answers alone,
and of what is written where that is asked for: a memory that writes prose drowns the facts in it.
"""

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recurra.agents import Reader, tokens
from recurra.agents.reader import ReaderState
from recurra.envs.documents import Source
from recurra.errors import UserError
from recurra.memory import gates
from recurra.memory import state as states
from recurra.recipes.optimising import Learning
from recurra.recipes.settings import QuestionsEnv, QuestionsOptions
from recurra.recipes.storytelling import Bank, Stream, Told, document, words


def tokenizer(env: QuestionsEnv, documents: list[Source]) -> str | None:
    """Learn or read the vocabulary that a recipe names; None for bytes.

    Raises:
        FileNotFoundError: if it names a file that is not there.
        UserError: if the file is no tokenizer's.
    """
    if env.tokens == "bytes":
        return None
    if env.tokens == "bpe":
        return tokens.learn(words(documents, env.tasks), env.vocabulary)
    if not Path(env.tokens).suffix:
        raise UserError(f"env.tokens must be bpe, bytes or the path of a tokenizers file, got {env.tokens!r}")
    return tokens.read(env.tokens)


class Questions(Learning):
    """A reader, the documents it learns from, and the steps.

    Args:
        reader: what learns.
        documents: books to hide facts in.
        tasks: which facts and questions.
        options: see `QuestionsOptions`.
        updates: how many to make.
        seed: of the documents.

    Raises:
        UserError: if there are no sentences in the books, or writes are to cost that the memory does not tell.
    """

    options: QuestionsOptions
    shown = ("loss", "accuracy", "stage", "stream_accuracy", "written", "gradient_norm", "learning_rate")

    def __init__(
        self,
        reader: Reader,
        documents: list[Source],
        *,
        tasks: Sequence[str],
        options: QuestionsOptions,
        updates: int,
        seed: int,
    ) -> None:
        super().__init__(reader, options=options, updates=updates)
        self.tasks, self.seed = list(tasks), seed
        if options.write_penalty and not _heard(reader):
            raise UserError(
                f"memory {reader.config['memory']} does not say how strongly it writes: --reading.write_penalty 0"
            )
        self.bank = Bank(documents, reader.tokens)
        if not len(self.bank):
            raise UserError("there are no sentences in the documents to hide facts in")
        self.streams = [
            Stream(
                tasks,
                self.bank,
                length=options.piece,
                mean=options.document,
                rates=(options.facts[0], options.facts[1]),
                seed=f"{seed}/stream/{row}",
                decoys=options.decoys,
            )
            for row in range(options.streams)
        ]
        self.stage = 0
        self.at_stage = 0  # updates
        self.shares: deque[float] = deque(maxlen=options.window)
        self.state: ReaderState | None = None

    def next(self, run: str) -> str:
        """Give the command that measures what was learnt."""
        return f"recurra eval {run} --grid.length 0,1k,4k,16k,128k"

    @property
    def steps_per_update(self) -> int:
        """Tokens of an update."""
        return self.options.tokens

    @property
    def graduated(self) -> bool:
        """Whether the last stage has been passed, and streams are read."""
        return self.stage == len(self.options.segments)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Learn from documents of the stage, or from the next piece of each stream."""
        streaming = self.graduated and self.done % 2 == 1
        rows = self._pieces() if streaming else self._documents()
        read, numbers, first = (np.stack(parts) for parts in zip(*rows, strict=True))
        within = streaming or first[:, 1:].any()  # documents begin elsewhere than with the piece
        asked = torch.as_tensor(numbers > 0, device=self.device)
        inputs = torch.as_tensor(read, device=self.device)
        with gates.heard() as costs:
            logits, state = self.agent.answer(
                inputs,
                asked,
                self.state if streaming else None,
                first=torch.as_tensor(first, device=self.device) if within else None,
            )
        if streaming:
            self.state = states.detach(state)
        written = self._written(costs)
        wanted = inputs[asked]
        # A piece may ask for nothing: then there is only what was written to learn from.
        loss = functional.cross_entropy(logits, wanted) if len(wanted) else logits.sum()
        step = self.improve(loss + self.options.write_penalty * written)
        share = _share(logits.detach().argmax(-1) == wanted, numbers)
        if not streaming and not self.graduated:
            self._promote(share)
        nothing = float("nan")
        self.metrics = {
            "loss": loss.item(),
            "accuracy": nothing if streaming else share,
            "stage": float(self.stage),
            "stream_accuracy": share if streaming else nothing,
            "written": written.item(),
            **step,
        }

    def _written(self, costs: list[Tensor]) -> Tensor:
        """Give the mean cost of writing over the layers; 0 of a memory that does not tell."""
        if not costs:
            return torch.zeros((), device=self.device)
        return torch.stack([cost.mean() for cost in costs]).mean()

    def _documents(self) -> list[Told]:
        """Make documents of the stage, later of all stages; they depend on nothing but seed, update and stage.

        Those of facts alone are a segment long at first, so that there is little to learn from, later as long as any.
        """
        rng = Random(f"{self.seed}/{self.done}/{self.stage}")
        segments = self.options.segments
        count = rng.choice(segments) if self.graduated else segments[self.stage]
        longer = rng.choice(segments) if self.graduated and not count else count
        length = max(1, longer) * self.options.segment
        return [
            document(
                rng.choice(self.tasks),
                self.bank,
                rng,
                length=length,
                facts_alone=count == 0,
                decoys=self.options.decoys,
            )
            for _ in range(self.options.tokens // length)
        ]

    def _pieces(self) -> list[Told]:
        """Read on in each stream."""
        if self.state is None:
            self.state = self.agent.initial_state(self.options.streams)
        return [next(stream) for stream in self.streams]

    def _promote(self, share: float) -> None:
        self.at_stage += 1
        if share == share:  # something was asked
            self.shares.append(share)
        earned = len(self.shares) == self.options.window and np.mean(self.shares) >= self.options.promote_at
        if earned or self.at_stage == self.options.promote_after:
            self.stage, self.at_stage = self.stage + 1, 0
            self.shares.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add all that learning goes on from: the stage, the place in each stream, and the memory's state there."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["questions"] = {
            "done": self.done,
            "stage": self.stage,
            "at_stage": self.at_stage,
            "shares": list(self.shares),
            "streams": [[stream.number, stream.piece] for stream in self.streams],
            "state": None if self.state is None else dict(states.fields(self.state)),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from where `on_save_checkpoint` was called."""
        saved = checkpoint["questions"]
        if checkpoint["agent"]["tokenizer"] != self.agent.config["tokenizer"]:
            raise UserError(
                "the checkpoint is of other documents, from which another vocabulary is learnt: name the same"
            )
        self.done, self.stage, self.at_stage = saved["done"], saved["stage"], saved["at_stage"]
        self.shares.extend(saved["shares"])
        for stream, place in zip(self.streams, saved["streams"], strict=True):
            stream.open(*place)
        if saved["state"] is not None:
            self.state = states.rebuild(saved["state"], self.agent.initial_state(self.options.streams))


@torch.no_grad()
def _heard(reader: Reader) -> bool:
    """Say whether a reader's memory tells how strongly it writes."""
    with gates.heard() as costs:
        reader.advance(torch.zeros(1, 1, dtype=torch.long), reader.initial_state(1))
    return bool(costs)


def _share(right: Tensor, numbers: NDArray[np.int64]) -> float:
    """Give the share of answers all of whose tokens are right; NaN where nothing was asked."""
    rows, columns = np.nonzero(numbers)
    if not len(rows):
        return float("nan")
    _, answer = np.unique(np.stack((rows, numbers[rows, columns]), 1), axis=0, return_inverse=True)
    wrong = np.zeros(answer.max() + 1, np.bool_)
    np.logical_or.at(wrong, answer.reshape(-1), ~right.cpu().numpy())
    return float(1 - wrong.mean())
