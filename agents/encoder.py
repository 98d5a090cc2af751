"""From what an environment shows to features: a part for each leaf of the observation space, joined by one layer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.nn import functional

from recurra.agents.moments import Moments
from recurra.agents.spaces import codes, is_image, leaves
from recurra.errors import UserError, nearest
from recurra.memory.base import hide

#: What an agent reads at once: a tensor for each leaf of the observation space, and for each thing from before.
Leaves = tuple[Tensor, ...]


class OneHot(nn.Module):
    """Whole numbers ``(..., *shape)`` as a code each ``(..., width)``; a number that is out of range has none.

    >>> OneHot(np.array([2, 3]), np.array([0, 5]))(torch.tensor([1, 5])).int()
    tensor([0, 1, 1, 0, 0], dtype=torch.int32)

    Args:
        counts: ``shape``, how many values each number takes.
        lowest: ``shape``, the lowest of them.
    """

    owner: Tensor
    values: Tensor

    def __init__(self, counts: np.ndarray, lowest: np.ndarray) -> None:
        super().__init__()
        self.axes, self.size, self.width = counts.ndim, counts.size, int(counts.sum())
        owner = np.repeat(np.arange(counts.size), counts.flat)
        values = np.concatenate([np.arange(count) for count in counts.flat] or [np.zeros(0)])
        self.register_buffer("owner", torch.from_numpy(owner), persistent=False)
        self.register_buffer("values", torch.from_numpy(values + lowest.flatten()[owner]).long(), persistent=False)

    def forward(self, leaf: Tensor) -> Tensor:
        """Compare each number with the values that it may have."""
        flat = leaf.reshape(*leaf.shape[: leaf.dim() - self.axes], self.size)
        return flat[..., self.owner] == self.values


class Numbers(nn.Module):
    """Numbers ``(..., *shape)`` as they are ``(..., width)``, bytes scaled to 0..1; or normalised.

    Normalised are numbers less their running mean, over their running standard deviation, cut off at 10 of it.

    >>> Numbers(())(torch.tensor([1.0, 2.0]))
    tensor([[1.],
            [2.]])

    Args:
        shape: of what is given.
        normalize: keep `Moments`, which the owner updates, and normalise by them.
    """

    def __init__(self, shape: tuple[int, ...], *, normalize: bool = False) -> None:
        super().__init__()
        self.axes, self.width = len(shape), math.prod(shape)
        self.moments = Moments(shape) if normalize else None

    def forward(self, leaf: Tensor) -> Tensor:
        """Lay the numbers in a row."""
        if self.moments is not None:
            leaf = ((leaf.double() - self.moments.mean) / (self.moments.deviation() + 1e-8)).clamp(-10, 10)
        flat = leaf.reshape(*leaf.shape[: leaf.dim() - self.axes], self.width)
        return flat / 255 if leaf.dtype == torch.uint8 else flat


class Picture(nn.Module):
    """Pictures ``(..., height, width)``, with channels first, last or none, through a small convolutional network.

    Layers of 3 by 3 that halve the picture until its longer side is 4 at most, two layers at least, so that the
    7 by 7 cells of a grid world and the 84 by 84 points of an Atari game both come out as a few hundred numbers.

    Args:
        shape: of one picture; of three axes the channels are the shorter of first and last.

    >>> Picture((84, 84, 3)).width, Picture((4, 84, 84)).width, Picture((7, 7, 3)).width
    (576, 576, 512)
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = len(shape)
        self.channels_first = self.axes == 3 and shape[0] < shape[2]
        channels = 1 if self.axes == 2 else shape[0] if self.channels_first else shape[2]
        height, width = shape[1:] if self.channels_first else shape[:2]
        layers: list[nn.Module] = []
        wide = 16
        while max(height, width) > 4 or len(layers) < 4:
            stride = 2 if max(height, width) > 4 else 1
            layer = nn.Conv2d(channels, wide, 3, stride, padding=1)
            nn.init.orthogonal_(layer.weight, math.sqrt(2.0))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.ReLU()]
            height, width = -(-height // stride), -(-width // stride)
            channels, wide = wide, min(2 * wide, 64)
        self.layers = nn.Sequential(*layers)
        self.width = channels * height * width

    def forward(self, leaf: Tensor) -> Tensor:
        """Look at each picture by itself."""
        lead = leaf.shape[: leaf.dim() - self.axes]
        pictures = leaf.reshape(-1, *leaf.shape[len(lead) :])
        if self.axes == 2:
            pictures = pictures.unsqueeze(1)
        elif not self.channels_first:
            pictures = pictures.movedim(-1, 1)
        weight = next(self.parameters())
        return self.layers(pictures.to(weight.dtype) / 255).reshape(*lead, self.width)


class Residual(nn.Module):
    """Planes of numbers ``(..., channels, height, width)``, such as a grid world's, through SRMT's residual network.

    As in Sagirova et al. 2025 (arXiv 2501.13200) a layer of 3 by 3 and residual blocks of two, each after its ReLU,
    and one ReLU more; nothing is made smaller. The released code has 8 filters and one block for Bottleneck, with a
    width of 16 after the encoder's last layer, and 64 filters and 8 blocks for lifelong pathfinding, with 512.

    Args:
        shape: of the planes.
        filters: of each layer.
        blocks: how many.

    Raises:
        UserError: if a number is less than 1, or 0 blocks.

    >>> Residual((3, 5, 5), filters=8, blocks=1).width
    200
    """

    def __init__(self, shape: tuple[int, ...], *, filters: int = 8, blocks: int = 1) -> None:
        super().__init__()
        for name, count, least in (("filters", filters, 1), ("blocks", blocks, 0)):
            if not isinstance(count, int) or count < least:
                raise UserError(f"encoder_options.{name} must be a whole number of at least {least}, got {count!r}")
        self.axes, self.width = 3, filters * shape[1] * shape[2]
        self.entry = _convolution(shape[0], filters)
        self.blocks: list[nn.Module] = nn.ModuleList(  # type: ignore[assignment]
            nn.Sequential(nn.ReLU(), _convolution(filters, filters), nn.ReLU(), _convolution(filters, filters))
            for _ in range(blocks)
        )

    def forward(self, leaf: Tensor) -> Tensor:
        """Look at each agent's planes by themselves."""
        lead = leaf.shape[: leaf.dim() - 3]
        x = self.entry(leaf.reshape(-1, *leaf.shape[len(lead) :]).to(self.entry.weight.dtype))
        for block in self.blocks:
            x = x + block(x)
        return functional.relu(x).reshape(*lead, self.width)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.orthogonal_(layer.weight, math.sqrt(2.0))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


Part = OneHot | Numbers | Picture | Residual

#: How numbers in planes are encoded: laid in a row, or by `Residual`.
ENCODERS = ("plain", "residual")


def part(space: Space, *, normalize: bool = False, residual: Mapping[str, Any] | None = None) -> Part:
    """Give what encodes a leaf; ``residual`` are the options of what encodes planes of numbers, if that is wanted.

    Raises:
        UserError: if there are no such options.
    """
    if is_image(space):
        return Picture(space.shape or ())
    if residual is not None and isinstance(space, spaces.Box) and len(space.shape) == 3:
        for name in residual.keys() - {"filters", "blocks"}:
            raise UserError(f"encoder_options has no {name!r}: {nearest(name, ['filters', 'blocks'])}")
        return Residual(space.shape, **residual)
    if isinstance(space, spaces.Box):
        return Numbers(space.shape, normalize=normalize and space.dtype != np.bool_)
    return OneHot(*codes(space))


class Encoder(nn.Module):
    """Turns the leaves of observations, ``(batch, ..., *leaf_shape)`` each, into features ``(batch, ..., dim)``.

    Args:
        space: of observations.
        dim: width of the features.
        previous: parts for more leaves, of what was before the observation; they count as 0 where an episode begins.
        normalize: normalise numbers by their running moments; pictures, planes and codes stay as they are.
        residual: options of `Residual`, which then encodes planes of numbers ``(channels, height, width)``, with a ReLU
            after the last layer instead of a tanh; None lays their numbers in a row.

    Raises:
        UserError: if observations of the space hold nothing, or no planes where they are to be encoded.

    >>> Encoder(spaces.Dict(place=spaces.Box(-1, 1, (2,)), colour=spaces.Discrete(3)), 8).join
    Linear(in_features=5, out_features=8, bias=True)
    """

    def __init__(
        self,
        space: Space,
        dim: int,
        *,
        previous: Sequence[Part] = (),
        normalize: bool = False,
        residual: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        parts: Sequence[Part] = [part(leaf, normalize=normalize, residual=residual) for _, leaf in leaves(space)]
        if residual is not None and not any(isinstance(one, Residual) for one in parts):
            raise UserError(f"encoder residual is of planes of numbers, such as a grid world's; {space} has none")
        if not any(one.width for one in parts):
            raise UserError(f"observations of {space} hold nothing to see")
        self.seen, self.bend = len(parts), functional.tanh if residual is None else functional.relu
        self.parts = nn.ModuleList([*parts, *previous])
        self.join = nn.Linear(sum(one.width for one in (*parts, *previous)), dim)

    def forward(self, tokens: Leaves, *, first: Tensor | None = None, present: Tensor | None = None) -> Tensor:
        """Encode; what absent observations hold does not matter, not even to gradients."""
        dtype = self.join.weight.dtype
        numbers = [self._numbers(one, leaf, present).to(dtype) for one, leaf in zip(self.parts, tokens, strict=True)]
        if first is not None:
            numbers[self.seen :] = [hide(before, ~first) for before in numbers[self.seen :]]
        joined = torch.cat(numbers, -1) if len(numbers) > 1 else numbers[0]
        return self.bend(self.join(hide(joined, present)))

    def _numbers(self, one: nn.Module, leaf: Tensor, present: Tensor | None) -> Tensor:
        if isinstance(one, Residual) and present is not None:
            leaf = leaf.masked_fill(~present[..., None, None, None], 0.0)
        return one(leaf)

    def watch(self, tokens: Leaves, *, first: Tensor, present: Tensor) -> None:
        """Take tokens into account in the moments of what is normalised, where they are present and say something."""
        for index, (one, leaf) in enumerate(zip(self.parts, tokens, strict=True)):
            if isinstance(one, Numbers) and one.moments is not None:
                one.moments.update(leaf[present if index < self.seen else present & ~first])
