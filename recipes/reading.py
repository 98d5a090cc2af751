"""Learning to foretell text: truncated back-propagation through time over documents that are read side by side.

One step of the Lightning trainer is one piece of every row. The memory's state goes on from piece to piece, detached
between them, and is in the checkpoint: gradients stop at a piece's border, memory does not.
"""

import math
from typing import Any

import torch

from recurra.agents import Reader
from recurra.envs.documents import Batches, Source
from recurra.memory import state as states
from recurra.recipes import processes
from recurra.recipes.optimising import Learning
from recurra.recipes.settings import ReadingOptions


class Reading(Learning):
    """A reader, the documents it learns from, and the steps.

    Args:
        reader: what learns.
        documents: what it learns from.
        options: see `ReadingOptions`.
        updates: how many pieces to learn from.
        seed: of the documents' order.
    """

    options: ReadingOptions
    shown = ("bits_per_byte", "gradient_norm", "learning_rate")

    def __init__(
        self,
        reader: Reader,
        documents: list[Source],
        *,
        options: ReadingOptions,
        updates: int,
        seed: int,
    ) -> None:
        super().__init__(reader, options=options, updates=updates)
        self.batches = Batches(documents, streams=options.streams, length=options.piece, seed=seed)
        self.state: Any = None

    def next(self, run: str) -> str:
        """Give the command that shows what was learnt."""
        return f"recurra read text:shakespeare/macbeth --reader {run} --continue 400"

    @property
    def steps_per_update(self) -> int:
        """Bytes in a piece of all rows."""
        return self.options.streams * self.options.piece

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Read one piece of every row, and learn from it."""
        piece = next(self.batches)
        own = processes.rows(self, self.options.streams)
        tokens, first = (torch.as_tensor(part[own], device=self.device) for part in (piece.tokens, piece.first))
        if self.state is None:
            self.state = self.agent.initial_state(len(tokens))
        scores, state = self.agent(tokens, self.state, first=first)
        self.state = states.detach(state)
        loss = -scores.mean()

        step = self.improve(loss)
        self.metrics = {
            "bits_per_byte": processes.mean(loss).item() / math.log(2),
            **step,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add all that reading goes on from: the place in each document, and the memory's state."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["reading"] = {
            "done": self.done,
            "batches": self.batches.state_dict(),
            "state": None if self.state is None else dict(states.fields(processes.join(self.state))),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from where `on_save_checkpoint` was called."""
        saved = checkpoint["reading"]
        self.done = saved["done"]
        self.batches.load_state_dict(saved["batches"])
        if saved["state"] is not None:
            everyones = states.rebuild(saved["state"], self.agent.initial_state(self.options.streams))
            self.state = states.select(everyones, processes.rows(self, self.options.streams))


@torch.inference_mode()
def score(reader: Reader, documents: list[Source], *, streams: int = 16, length: int = 512) -> float:
    """Read whole documents, each from its start to its end, and give the mean bits that a byte took."""
    device = reader.head.weight.device
    state, bits, count = None, 0.0, 0
    for piece in Batches(documents, streams=min(streams, len(documents)), length=length, epochs=1):
        tokens, first, present = (
            torch.as_tensor(part, device=device) for part in (piece.tokens, piece.first, piece.present)
        )
        scores, state = reader(tokens, state, first=first, present=present)
        bits -= float(scores.double().sum()) / math.log(2)
        count += int(present.sum())
    return bits / count
