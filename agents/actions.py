"""From a network's numbers to distributions over actions, and from actions to what the environment takes."""

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal
from torch.nn import functional

from recurra.agents.spaces import codes


class Actions(nn.Module):
    """Policies over a space of actions.

    A Discrete has a categorical policy, a MultiDiscrete one for each entry, and so has a MultiBinary, of 0 and 1. A Box
    has a Gaussian for each entry, of a standard deviation that is learnt and the same everywhere; what is drawn is
    clipped to the bounds, and rounded where actions are whole numbers.

    Attributes:
        width: how many numbers say what to do.
    """

    choices: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.log_std: nn.Parameter | None = None
        if isinstance(space, spaces.Box):
            self.width = int(np.prod(space.shape))
            self.log_std = nn.Parameter(torch.zeros(space.shape))
            return
        counts, self.lowest = codes(space)
        self.width, most = int(counts.sum()), int(counts.max())
        # Where each entry's choices lie among the numbers; entries of fewer than most are filled up with the one after.
        choices, start = np.full((counts.size, most), self.width), 0
        for row, count in zip(choices, counts.flat, strict=True):
            row[:count] = np.arange(start, start + count)
            start += count
        self.register_buffer("choices", torch.from_numpy(choices.reshape(*counts.shape, most)), persistent=False)

    def policy(self, numbers: Tensor) -> Distribution:
        """Give the policy that numbers ``(..., width)`` describe; actions are ``(..., *shape)``, integers from 0."""
        if self.log_std is not None:
            mean = numbers.reshape(*numbers.shape[:-1], *self.log_std.shape)
            normal = Normal(mean, self.log_std.to(mean.dtype).exp().expand_as(mean), validate_args=False)
            return Independent(normal, self.log_std.dim(), validate_args=False)
        if self.choices.dim() == 1:
            return Categorical(logits=numbers, validate_args=False)
        logits = functional.pad(numbers, (0, 1), value=-torch.inf)[..., self.choices]
        return Independent(Categorical(logits=logits, validate_args=False), self.choices.dim() - 1, validate_args=False)

    def to_environment(self, actions: Tensor) -> np.ndarray:
        """Turn a policy's actions into what the environment takes."""
        array = actions.cpu().numpy()
        if not isinstance(self.space, spaces.Box):
            taken = array + self.lowest
            return taken if isinstance(self.space, spaces.Discrete) else taken.astype(self.space.dtype)
        if self.space.dtype.kind != "f":
            array = array.round()
        return array.clip(self.space.low, self.space.high).astype(self.space.dtype)
