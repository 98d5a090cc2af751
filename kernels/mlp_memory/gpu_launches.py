"""The launches of the MLP memory's kernels: what the operators take, and how a course through its chunks goes."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from recurra.kernels import tiles
from recurra.kernels.mlp_memory.fitting import blocks
from recurra.kernels.mlp_memory.gpu_forward import read_chunks, write_chunks


class Inputs(NamedTuple):
    """What the operator takes, with a gradient for each: see `gpu_forward`. What there is none of has no numbers.

    Tokens are ``(slots, rows, chunk, ...)``, gates ``(..., 1 or dim)``, bridges ``(slots, rows, levels, chunk, dim)``.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    threshold: Tensor
    write: Tensor  # w
    leaving: Tensor  # λ
    fading: Tensor  # μ
    entering: Tensor  # A
    passing: Tensor  # B
    keep: Tensor  # α
    carry: Tensor  # β
    kept: Tensor  # κ
    scores: Tensor  # P
    matrix: Tensor
    bridges: Tensor
    bridges_m: Tensor
    gain: Tensor
    shift: Tensor
    fresh_a: Tensor
    fresh_b: Tensor
    start_a: Tensor
    start_b: Tensor
    weights_a: Tensor
    weights_b: Tensor
    momentum_a: Tensor
    momentum_b: Tensor


TOKENS = ("query", "key", "value", "threshold", "write", "leaving", "fading", "entering", "passing", "keep", "carry",
          "kept", "scores", "matrix", "bridges", "bridges_m")  # fmt: skip


READ = ("query", "key", "write", "entering", "passing", "scores", "matrix", "bridges", "bridges_m")


def group_of(slots: int) -> int:
    """Give the slots of a group."""
    return slots if slots <= 8 else max(8, math.ceil(math.sqrt(slots)))


class Launches:
    """The launches of one call: sizes, and what they share."""

    def __init__(
        self, inputs: Inputs, opens: Tensor, resets: Tensor, residual: bool, epsilon: float, bias: int, power: float,
        narrow: bool,
    ) -> None:  # fmt: skip
        self.inputs = inputs = Inputs(*(x.contiguous() for x in inputs))
        slots, rows, chunk, keys = inputs.query.shape
        active, values = inputs.weights_b.shape[1:]
        self.slots, self.rows, self.opens, self.resets = slots, rows, opens.contiguous(), resets.contiguous()
        self.momentum = inputs.momentum_a.numel() > 0
        dtype = torch.bfloat16 if narrow else inputs.query.dtype
        self.sizes = {
            "CHUNK": chunk,
            "KEYS": keys,
            "HIDDEN": inputs.weights_a.shape[2],
            "ACTIVE": active,
            "VALUES": values,
            "KEY_TILE": tiles.power(keys),
            "VALUE_TILE": tiles.power(values),
            "WIDE": inputs.write.shape[-1] > 1,
            "MOMENTUM": self.momentum,
            "FACTOR": tiles.language(tiles.factor(dtype)),
            "ACC": tiles.accumulator(inputs.query.dtype),
            **blocks(max(keys, values), chunk),
        }
        self.loss = {
            "WIDE_THRESHOLD": inputs.threshold.dim() > 0 and inputs.threshold.shape[-1] > 1,
            "THRESHOLD": inputs.threshold.numel() > 0,
            "NORM": inputs.gain.numel() > 0,
            "RESIDUAL": residual,
            "EPSILON": epsilon,
            "BIAS": bias,
            "POWER": power,
        }
        self.levels = {"LEVELS": inputs.bridges.shape[2] if inputs.bridges.numel() else 0}
        size = group_of(slots)
        self.groups = [slice(begin, min(begin + size, slots)) for begin in range(0, slots, size)]
        place = torch.arange(1, size + 1, device=opens.device).unsqueeze(1)
        # Of each slot, where its start lies in its group's weights; and whether an episode begins after it.
        self.starts = [
            torch.where(opens[group], place[: group.stop - group.start], 0).cummax(0).values for group in self.groups
        ]
        self.ends = torch.cat((resets[1:], torch.zeros_like(resets[:1])))
        self.states = tuple(x.new_empty(size + 2, *x.shape) for x in (inputs.weights_a, inputs.weights_b))
        self.momenta = tuple(
            x.new_empty(size + 1, *x.shape) if self.momentum else x for x in (inputs.momentum_a, inputs.momentum_b)
        )
        self.before, self.surprises = inputs.value.new_empty(2, size, *inputs.value.shape[1:]).unbind()

    def part(self, name: str, group: slice) -> Tensor:
        """Give a group's part of an input."""
        tensor: Tensor = getattr(self.inputs, name)
        return tensor[group] if tensor.numel() and name in TOKENS else tensor

    def parts(self, group: slice, *names: str) -> dict[str, Tensor]:
        """Give a group's parts of inputs by name."""
        return {name: self.part(name, group) for name in names}

    @property
    def weights(self) -> dict[str, Tensor]:
        """What the kernels call weights and momentum."""
        return dict(zip(("states_a", "states_b", "momenta_a", "momenta_b"), self.states + self.momenta, strict=True))

    def write(self, index: int) -> None:
        """Write a group's chunks, from what lies in the first places of its weights and momentum."""
        group = self.groups[index]
        names = ("key", "value", "threshold", "leaving", "fading", "keep", "carry", "kept", "gain", "shift", "fresh_a",
                 "fresh_b")  # fmt: skip
        write_chunks[(self.rows,)](
            **self.parts(group, *names), **self.weights, starts=self.starts[index], resets=self.ends[group],
            before=self.before, surprises=self.surprises, slots=group.stop - group.start,
            **self.sizes, **self.loss,
        )  # fmt: skip

    def read(self, index: int, read: Tensor) -> None:
        """Read a group's chunks, once they are written."""
        group = self.groups[index]
        read_chunks[(self.rows, group.stop - group.start)](
            **self.parts(group, *READ), **self.weights, starts=self.starts[index], surprises=self.surprises,
            read=read[group], **self.sizes, **self.levels,
        )  # fmt: skip

    def first(self) -> None:
        """Put what the piece begins with in its place."""
        reset, inputs = self.resets[0, :, None, None], self.inputs
        for states, start, fresh, weights in zip(
            self.states, (inputs.start_a, inputs.start_b), (inputs.fresh_a, inputs.fresh_b),
            (inputs.weights_a, inputs.weights_b), strict=True,
        ):  # fmt: skip
            states[0], states[1] = start, torch.where(reset, fresh, weights)
        if self.momentum:
            for momenta, momentum in zip(self.momenta, (inputs.momentum_a, inputs.momentum_b), strict=True):
                momenta[0] = momentum.masked_fill(reset, 0.0)

    def keep(self, index: int, kept: list[Tensor]) -> None:
        """Keep what a group begins with."""
        for states, to in zip(self.states, kept[:2], strict=True):
            to[index] = states[:2]
        if self.momentum:
            for momenta, to in zip(self.momenta, kept[2:], strict=True):
                to[index] = momenta[0]

    def take(self, index: int, kept: list[Tensor]) -> None:
        """Put what a group begins with back in its place."""
        for states, begun in zip(self.states, kept[:2], strict=True):
            states[:2] = begun[index]
        if self.momentum:
            for momenta, begun in zip(self.momenta, kept[2:], strict=True):
                momenta[0] = begun[index]

    def next(self, index: int) -> None:
        """Put what the next group begins with in its place."""
        group, rows = self.groups[index], torch.arange(self.rows, device=self.opens.device)
        for states in self.states:
            start = states[self.starts[index][-1], rows]
            states[1] = states[group.stop - group.start + 1].clone()
            states[0] = start
        if self.momentum:
            for momenta in self.momenta:
                momenta[0] = momenta[group.stop - group.start].clone()
