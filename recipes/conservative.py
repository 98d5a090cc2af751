"""Conservative Q-learning: what was done is worth what came of it, what was not done is worth no more."""

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.agents import RATE
from recurra.errors import UserError
from recurra.recipes.settings import ConservativeOptions

if TYPE_CHECKING:
    from recurra.recipes.offline import Recorded


class Conservative(nn.Module):
    """CQL(H) of discrete actions (Kumar et al. 2020, arXiv 2006.04779, Equation 4), with a memory.

    The agent's numbers are Q(s, ·), its likeliest action the best. With Q' a target network, which follows Q slowly::

        y_t = r_t + γ Q'(s_{t+1}, argmax Q(s_{t+1}, ·)),   r_t alone where the episode ends
        loss = mean (Q(s_t, a_t) - y_t)² / 2 + α mean (log Σ_a exp Q(s_t, a) - Q(s_t, a_t))

    The best action is Q's own, as in double Q-learning (van Hasselt et al. 2015, arXiv 1509.06461). A step whose next
    lies in another piece has no first term. An episode that was cut counts as ended.

    Args:
        agent: Q.
        options: see `ConservativeOptions`.

    Raises:
        UserError: if actions are not discrete.
    """

    def __init__(self, agent: RATE, options: ConservativeOptions) -> None:
        super().__init__()
        if type(agent.action_space).__name__ != "Discrete":
            raise UserError(f"conservative Q-learning is of Discrete actions, not of {agent.action_space}")
        self.options = options
        self.target: Any = copy.deepcopy(agent).requires_grad_(False)

    def loss(self, values: Tensor, piece: "Recorded", memory: Any) -> tuple[Tensor, Tensor]:
        """Give the loss, and the mean Q of what was done.

        Args:
            values: ``(batch, time, actions)``, Q of the piece.
            piece: what happened.
            memory: what Q read the piece from.
        """
        done = values.gather(2, piece.actions.unsqueeze(2)).squeeze(2)
        with torch.no_grad():
            features, _ = self.target.read(
                piece.seen, piece.before, piece.to_go, memory, first=piece.first, present=piece.present
            )
            later = self.target.decide(features).numbers.gather(2, values.argmax(2, keepdim=True)).squeeze(2)
            goes_on = functional.pad(later[:, 1:], (0, 1)).masked_fill(piece.last, 0.0)
            aims = piece.rewards + self.options.discount * goes_on
        # The last step of a row that is full may go on in another piece.
        known = piece.present.clone()
        known[:, -1] = False
        apart = (done - aims).square()[known].mean() / 2 if bool(known.any()) else done.sum() * 0.0
        over = (values.logsumexp(2) - done)[piece.present].mean()
        return apart + self.options.weight * over, done[piece.present].mean()

    @torch.no_grad()
    def follow(self, agent: RATE) -> None:
        """Move the target a little towards the agent."""
        for mine, other in zip(self.target.parameters(), agent.parameters(), strict=True):
            mine.lerp_(other, self.options.following)
