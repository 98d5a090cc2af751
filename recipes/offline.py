"""Learning from recorded streams: what to do is what was done, or what was worth doing.

One step of the Lightning trainer is one piece of several episodes, side by side; where pieces go on from each other the
memory's state does too, detached between them, and is in the checkpoint.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional

from recurra.agents import RATE
from recurra.agents.encoder import Leaves
from recurra.envs.trajectories import Piece, Pieces, Store, pieces
from recurra.errors import UserError
from recurra.memory import state as states
from recurra.recipes.conservative import Conservative
from recurra.recipes.optimising import Learning
from recurra.recipes.settings import OfflineOptions


class Recorded(NamedTuple):
    """A piece as tensors ``(batch, time, ...)``.

    Attributes:
        seen: the leaves of the observations.
        before: the actions before each, in numbers.
        actions: what was done, as policies have it.
        rewards: what that earned.
        to_go: the returns from each step on.
        first: True where nothing from before counts.
        present: False for padding.
    """

    seen: Leaves
    before: Tensor
    actions: Tensor
    rewards: Tensor
    to_go: Tensor
    first: Tensor
    present: Tensor

    @property
    def last(self) -> Tensor:
        """Which steps are followed by padding, or by nothing."""
        return self.present & ~functional.pad(self.present[:, 1:], (0, 1))


class Offline(Learning):
    """An agent of recorded streams, what it learns from, and the steps.

    Args:
        agent: what learns.
        store: the episodes; None until `open`.
        options: see `OfflineOptions`.
        updates: how many pieces to learn from.
        seed: of the pieces.
        show: the command that measures what was learnt, but for the run.

    Raises:
        UserError: if an option does not go with the actions.
    """

    options: OfflineOptions

    def __init__(self, agent: RATE, *, options: OfflineOptions, updates: int, seed: int, show: str) -> None:
        super().__init__(agent, options=options, updates=updates)
        self.agent: RATE
        self.seed, self.show = seed, show
        self.conservative = None if options.conservative is None else Conservative(agent, options.conservative)
        self.store: Store | None = None
        self.pieces: Pieces | None = None
        self.longest, self.recent = math.inf, list[float]()
        self.state: Any = None
        self.before: Tensor | None = None
        figures = ("loss", "value") if self.conservative else ("loss",)
        self.chooses = agent.actions.log_std is None
        if options.shortest and not self.chooses:
            raise UserError("reading.shortest is of actions that are chosen, not of a Box of them: leave it out")
        agreement = ("accuracy", "last_accuracy") if self.chooses else ("error",)
        self.shown = (*figures, *agreement, "gradient_norm", "learning_rate")

    def open(self, store: Store) -> None:
        """Learn from these episodes, from the first piece on.

        Raises:
            UserError: if there are none.
        """
        self.store = store
        self.longest = math.inf
        if self.options.shortest and len(store):
            self.longest = max(self.options.shortest, int(store.lengths.min()))
        self._cut(0, 0)

    def _cut(self, epoch: int, index: int) -> None:
        """Cut pieces out of the episodes that are not too long yet."""
        assert self.store is not None
        options, fit = self.options, np.flatnonzero(self.store.lengths <= self.longest)
        self.pieces = pieces(
            self.store.select(fit), batch=options.streams, steps=options.steps, seed=self.seed, begin=options.begin,
            epoch=epoch, index=index,
        )  # fmt: skip

    def _promote(self, foretold: float) -> None:
        """Go on to longer episodes, where the last actions of those so far are foretold."""
        assert self.store is not None
        window = self.options.window
        self.recent = [*self.recent, foretold][-window:]
        known = len(self.recent) == window and sum(self.recent) >= self.options.promote_at * window
        if known and self.longest < self.store.lengths.max():
            self.longest, self.recent, self.state, self.before = 2 * self.longest, [], None, None
            self._cut(0, 0)

    def next(self, run: str) -> str:
        """Give the command that measures what was learnt."""
        return self.show.format(run=run)

    @property
    def steps_per_update(self) -> int:
        """Steps in a piece of all rows, padding counted."""
        return self.options.streams * self.options.steps

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Read a piece, and learn from it."""
        piece = self.piece()
        memory = self.state
        features, after = self.agent.read(
            piece.seen, piece.before, piece.to_go, memory, first=piece.first, present=piece.present
        )
        if self.options.begin == "onward":
            self.state = states.detach(after)
        choice = self.agent.decide(features)
        figures = {}
        if self.conservative is None:
            loss = -choice.policy.log_prob(piece.actions)[piece.present].mean()
        else:
            loss, value = self.conservative.loss(choice.numbers, piece, memory)
            figures["value"] = value.item()
        step = self.improve(loss)
        if self.conservative is not None:
            self.conservative.follow(self.agent)
        agreement = self._agreement(choice.policy, piece)
        self.metrics = {"loss": loss.item(), **figures, **agreement, **step}
        if math.isfinite(self.longest):
            self._promote(agreement["last_accuracy"])

    def piece(self) -> Recorded:
        """Give the next piece."""
        assert self.pieces is not None, "open a store first"
        drawn = next(self.pieces)
        most = int(drawn.present.any(0).sum()) + 1  # what comes after is padding everywhere; that all ended, shows
        shown = Piece(*(_first(part, most) for part in drawn))
        kind = self.agent.actor.weight.dtype
        actions = self.agent.actions.from_environment(shown.actions)
        told = self.agent.actions.features(actions)
        absent = ~torch.as_tensor(shown.present, device=self.device)
        actions[absent] = 0  # what stands for padding need not be an action
        if self.before is None or self.options.begin != "onward":
            self.before = self.agent.actions.no_features(len(told))
        shifted = torch.cat((self.before.unsqueeze(1).to(told), told[:, :-1]), 1)
        self.before = told[:, -1]
        rewards, to_go, first, present = (torch.as_tensor(part, device=self.device) for part in shown[2:])
        return Recorded(
            self.agent.observe(shown.observations), shifted, actions, rewards.to(kind), to_go.to(kind), first, present
        )

    def _agreement(self, policy: Distribution, piece: Recorded) -> dict[str, float]:
        """Compare the likeliest actions with what was done: the share that agrees, or how far they are apart."""
        likeliest = policy.mode if self.chooses else policy.mean
        if not self.chooses:
            error = (likeliest - piece.actions).abs().flatten(2).mean(2)
            return {"error": error[piece.present].mean().item()}
        same = (likeliest == piece.actions).reshape(*piece.present.shape, -1).all(-1)
        return {
            "accuracy": same[piece.present].float().mean().item(),
            "last_accuracy": same[piece.last].float().mean().item(),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add all that learning goes on from: the place in the store, and what memory carries."""
        super().on_save_checkpoint(checkpoint)
        assert self.pieces is not None
        checkpoint["offline"] = {
            "done": self.done,
            "position": list(self.pieces.position),
            "longest": self.longest,
            "recent": self.recent,
            "state": None if self.state is None else dict(states.fields(self.state)),
            "before": self.before,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from where `on_save_checkpoint` was called."""
        saved = checkpoint["offline"]
        self.done, self.before = saved["done"], saved["before"]
        self.longest, self.recent = saved["longest"], saved["recent"]
        self._cut(*saved["position"])
        if saved["state"] is not None:
            self.state = states.rebuild(saved["state"], self.agent.memory.initial_state(self.options.streams))


def _first(part: Any, steps: int) -> Any:
    """Take the first steps of arrays ``(batch, time, ...)``, in dicts and tuples where they are."""
    if isinstance(part, dict):
        return {name: _first(inner, steps) for name, inner in part.items()}
    return tuple(_first(inner, steps) for inner in part) if isinstance(part, tuple) else part[:, :steps]
