"""Learning to foretell text: truncated back-propagation through time over documents that are read side by side.

One step of the Lightning trainer is one piece of every row. The memory's state goes on from piece to piece, detached
between them, and is in the checkpoint: gradients stop at a piece's border, memory does not.
"""

import math
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from recurra.agents import Reader
from recurra.envs.documents import Batches, Source
from recurra.memory import state as states
from recurra.recipes import processes
from recurra.recipes.optimising import adamw, improve
from recurra.recipes.settings import ReadingOptions


class Reading(lightning.LightningModule):
    """A reader, the documents it learns from, and the steps.

    Args:
        reader: what learns.
        documents: what it learns from.
        options: see `ReadingOptions`.
        updates: how many pieces to learn from.
        seed: of the documents' order.
    """

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
        super().__init__()
        self.automatic_optimization = False
        self.agent, self.options, self.updates, self.done = reader, options, updates, 0
        self.batches = Batches(documents, streams=options.streams, length=options.piece, seed=seed)
        self.state: Any = None
        self.metrics: dict[str, float] = {}

    #: Whether a checkpoint holds all that learning goes on from.
    saves = True

    def close(self) -> None:
        """Do nothing: documents need no closing."""

    def next(self, run: str) -> str:
        """Give the command that shows what was learnt."""
        return f"recurra read text:shakespeare/macbeth --reader {run} --continue 400"

    @property
    def steps(self) -> int:
        """Bytes read."""
        return self.done * self.steps_per_update

    @property
    def steps_per_update(self) -> int:
        """Bytes in a piece of all rows."""
        return self.options.streams * self.options.piece

    def configure_optimizers(self) -> Any:
        """Give AdamW and its schedule."""
        return adamw(self.agent, self.options, updates=self.updates)

    def train_dataloader(self) -> DataLoader:
        """Give the numbers of the pieces that are left: the reading itself goes on from where it stands."""
        return DataLoader(range(self.done, self.updates), batch_size=None)  # type: ignore[arg-type]

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

        step = improve(self, loss, gradient_norm=self.options.gradient_norm)
        self.done += 1
        self.metrics = {
            "bits_per_byte": processes.mean(loss).item() / math.log(2),
            **step,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add all that reading goes on from: the place in each document, and the memory's state."""
        checkpoint["agent"] = {"kind": type(self.agent).__name__, **self.agent.config}
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
