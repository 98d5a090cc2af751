"""From a network's numbers to distributions over actions, and from actions to what the environment takes."""

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal
from torch.nn import functional

from recurra.agents.encoder import Numbers, OneHot, Part
from recurra.agents.spaces import codes


def exact(dtype: torch.dtype) -> torch.dtype:
    """Give the precision that policies and values are computed in: at least float32."""
    return torch.promote_types(dtype, torch.float32)


class Actions(nn.Module):
    """Policies over a space of actions.

    A Discrete has a categorical policy, a MultiDiscrete one for each entry, and so has a MultiBinary, of 0 and 1. A Box
    has a Gaussian for each entry, of a standard deviation that is learnt and the same everywhere; what is drawn is
    clipped to the bounds, and rounded where actions are whole numbers.

    Attributes:
        width: how many numbers say what to do.
    """

    choices: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.log_std: nn.Parameter | None = None
        if isinstance(space, spaces.Box):
            self.width, self.whole = int(np.prod(space.shape)), not np.issubdtype(space.dtype, np.floating)
            self.log_std = nn.Parameter(torch.zeros(space.shape))
            for side in ("low", "high"):
                bound = torch.as_tensor(getattr(space, side).astype(np.float32))
                self.register_buffer(side, bound, persistent=False)
            self.code: Part = Numbers(space.shape)
            return
        counts, self.lowest = codes(space)
        self.axes = counts.ndim
        self.width, most = int(counts.sum()), int(counts.max())
        self.code = OneHot(counts, np.zeros_like(counts))
        # Where each entry's choices lie among the numbers; entries of fewer than most are filled up with the one after.
        choices, start = np.full((counts.size, most), self.width), 0
        for row, count in zip(choices, counts.flat, strict=True):
            row[:count] = np.arange(start, start + count)
            start += count
        self.register_buffer("choices", torch.from_numpy(choices.reshape(*counts.shape, most)), persistent=False)

    def policy(self, numbers: Tensor) -> Distribution:
        """Give the policy that numbers ``(..., width)`` describe; actions are ``(..., *shape)``, integers from 0."""
        if self.log_std is not None:
            normal = Normal(*self._gaussian(numbers, self.log_std), validate_args=False)
            return Independent(normal, self.log_std.dim(), validate_args=False)
        choice = Categorical(logits=self._logits(numbers), validate_args=False)
        return Independent(choice, self.axes, validate_args=False) if self.axes else choice

    def noise(self, *shape: int) -> Tensor:
        """Draw what decides between actions, for a draw of each of ``shape``: see `draw`."""
        if self.log_std is not None:
            return torch.randn(*shape, *self.log_std.shape, dtype=exact(self.log_std.dtype), device=self.log_std.device)
        exponential = torch.empty(*shape, *self.choices.shape, device=self.choices.device).exponential_()
        return exponential.clamp_(min=torch.finfo(exponential.dtype).tiny).log_().neg_()

    def draw(self, numbers: Tensor, noise: Tensor) -> Tensor:
        """Draw actions from the policy that numbers describe, by a noise that is drawn before: many at once, or alone.

        Of log p - log E, E ~ Exp(1) for each choice of probability p, each is the greatest with probability p.
        """
        if self.log_std is not None:
            mean, deviation = self._gaussian(numbers, self.log_std)
            return torch.addcmul(mean, deviation, noise)
        return (self._logits(numbers) + noise).argmax(-1)

    def chosen(self, numbers: Tensor, noise: Tensor | None) -> Tensor:
        """Give the actions that noise draws; the likeliest where it is None."""
        return self.likeliest(numbers) if noise is None else self.draw(numbers, noise)

    def likeliest(self, numbers: Tensor) -> Tensor:
        """Give the likeliest actions of the policy that numbers describe."""
        return self._logits(numbers).argmax(-1) if self.log_std is None else self._gaussian(numbers, self.log_std)[0]

    def _gaussian(self, numbers: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        mean = numbers.reshape(*numbers.shape[:-1], *log_std.shape)
        return mean, log_std.to(mean.dtype).exp().expand_as(mean)

    def _logits(self, numbers: Tensor) -> Tensor:
        """Give a row of logits for each entry ``(..., *shape, most)``."""
        if self.axes == 0:
            return numbers
        return functional.pad(numbers, (0, 1), value=-torch.inf)[..., self.choices]

    def features(self, actions: Tensor) -> Tensor:
        """Describe a policy's actions in numbers ``(..., width)``: one-hot, or as they are clipped."""
        if self.log_std is None:
            return self.code(actions)
        return self.code((actions.round() if self.whole else actions).clamp(self.low, self.high))

    def no_features(self, batch: int) -> Tensor:
        """Give what stands for no action: zeros ``(batch, width)``."""
        if self.log_std is None:
            return torch.zeros(batch, self.width, dtype=torch.bool, device=self.choices.device)
        return torch.zeros(batch, self.width, dtype=exact(self.log_std.dtype), device=self.log_std.device)

    def from_environment(self, actions: np.ndarray) -> Tensor:
        """Turn what the environment takes into a policy's actions."""
        if self.log_std is None:
            return torch.as_tensor(actions - self.lowest, device=self.choices.device).long()
        return torch.as_tensor(actions, dtype=exact(self.log_std.dtype), device=self.log_std.device)

    def to_environment(self, actions: Tensor) -> np.ndarray:
        """Turn a policy's actions into what the environment takes."""
        array = actions.cpu().numpy()
        if not isinstance(self.space, spaces.Box):
            taken = array + self.lowest
            return taken if isinstance(self.space, spaces.Discrete) else taken.astype(self.space.dtype)
        return (array.round() if self.whole else array).clip(self.space.low, self.space.high).astype(self.space.dtype)
