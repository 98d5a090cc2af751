"""Random cases to test a memory on: streams with resets and absent tokens, where to cut them, and how to read them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recurra.memory import state as states
from recurra.memory.base import Memory

Read = tuple[Tensor, Any]
"""What reading a stream gives: outputs and the final state."""


class Stream(NamedTuple):
    """Some tokens of each stream: x ``(batch, [agents,] time, dim)`` with its flags."""

    x: Tensor
    first: Tensor | None = None
    present: Tensor | None = None

    @property
    def time(self) -> int:
        """Number of tokens."""
        return self.x.shape[-2]

    def cut(self, begin: int, end: int) -> "Stream":
        """Take the tokens from ``begin`` to before ``end``."""
        flags = (flags if flags is None else flags[..., begin:end] for flags in self[1:])
        return Stream(self.x[..., begin:end, :], *flags)

    def row(self, row: int) -> "Stream":
        """Take one stream as a batch of one."""
        flags = (flags if flags is None else flags[row : row + 1] for flags in self[1:])
        return Stream(self.x[row : row + 1], *flags)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A random stream, and where to cut it.

    Of four seeds in a row the first gives everything (first, present, a carried state), the second has no ``first``,
    the third neither ``present`` nor a carried state, the fourth nothing but x. Where a memory has a grain, cuts and
    resets are at its multiples and whole grains are absent.

    Attributes:
        seed: what the case is drawn from.
        stream: the tokens; x is normal.
        prefix: what was read before them; None where they are the beginning.
        cuts: where pieces end, an empty piece and one of a single token (or grain) among them.
        generator: for what else a law draws.
    """

    seed: int
    stream: Stream
    prefix: Stream | None
    cuts: tuple[int, ...]
    generator: torch.Generator

    def __str__(self) -> str:
        batch, *agents, time, _ = self.stream.x.shape
        team = "".join(f", agents {count}" for count in agents)
        return f"seed {self.seed}, batch {batch}{team}, time {time}, cuts {self.cuts}"

    def state(self, memory: Memory) -> Any:
        """Give the state that the stream continues from: None where it is the beginning."""
        if self.prefix is None:
            return None
        with torch.no_grad():
            return read(memory, self.prefix)[1]

    def single(self) -> "Case":
        """Give the same case in float32."""
        prefix = self.prefix and self.prefix._replace(x=self.prefix.x.float())
        return replace(self, stream=self.stream._replace(x=self.stream.x.float()), prefix=prefix)


def draw(memory: Memory, seed: int, time: int, agents: int = 4) -> Case:
    """Draw a case for a memory, of at most ``time`` tokens (or four grains) and ``agents``."""
    generator = torch.Generator().manual_seed(seed)
    kind = seed % 4

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    few = 1 if kind else 2  # in the case that has everything, streams and agents have others beside them
    shape = (whole(few, 4), whole(min(few, agents), agents)) if memory.team else (whole(few, 4),)
    most = max(time // memory.grain, 4)
    grains = whole(3, most)
    stream = draw_stream(memory, shape, grains * memory.grain, generator)
    if kind in (1, 3):
        stream = stream._replace(first=None)
    if kind in (2, 3):
        stream = stream._replace(present=None)
    prefix = None if kind in (2, 3) else draw_stream(memory, shape, whole(0, most) * memory.grain, generator)
    single, empty, anywhere = whole(1, grains - 1), whole(0, grains), whole(0, grains)
    cuts = tuple(cut * memory.grain for cut in sorted((single, single + 1, empty, empty, anywhere)))
    return Case(seed=seed, stream=stream, prefix=prefix, cuts=cuts, generator=generator)


def draw_stream(memory: Memory, shape: tuple[int, ...], time: int, generator: torch.Generator) -> Stream:
    """Draw tokens with resets, one of them at the start of the first stream, and with absent ones."""
    device = device_of(memory)
    x = torch.randn(*shape, time, memory.dim, generator=generator, dtype=torch.float64)
    resets = torch.rand(shape[0], time, generator=generator) < 0.1
    resets[:, torch.arange(time) % memory.grain != 0] = False
    resets[:1, :1] = True
    return Stream(x.to(device), resets.to(device), draw_presence(memory, shape, time, generator))


def draw_presence(memory: Memory, shape: tuple[int, ...], time: int, generator: torch.Generator) -> Tensor:
    """Draw which tokens are present: four of five, and in the last stream a quarter of the time nobody."""
    grains = time // memory.grain
    flags = torch.rand(*shape, grains, generator=generator) < 0.8
    begin = int(torch.randint(0, grains + 1, (), generator=generator))
    flags[-1, ..., begin : begin + grains // 4] = False
    return flags.repeat_interleave(memory.grain, -1).to(device_of(memory))


def device_of(memory: Memory) -> torch.device:
    """Say where a memory's parameters are."""
    return next((parameter.device for parameter in memory.parameters()), torch.device("cpu"))


def fresh(memory: Memory, x: Tensor) -> Any:
    """Give the state at the beginning of x."""
    options: dict[str, Any] = {"agents": x.shape[1]} if memory.team else {}
    return memory.initial_state(len(x), **options)


def read(memory: Memory, stream: Stream, state: Any = None, cuts: tuple[int, ...] = ()) -> Read:
    """Read a stream in pieces; a memory that alters the state it is given gets no hold of the caller's own.

    Raises:
        TypeError: if what the memory gives is no state, batch first, of tensors and tuples alone.
    """
    outputs = []
    if state is not None:
        state = states.transform(torch.clone, state)
    for begin, end in pairwise((0, *cuts, stream.time)):
        piece = stream.cut(begin, end)
        y, state = memory(piece.x, state, first=piece.first, present=piece.present)
        outputs.append(y)
        if not isinstance(state, tuple):
            raise TypeError(f"the state is a {type(state).__name__}, no NamedTuple")
        if strays := list(_strays("state", state, len(piece.x))):
            raise TypeError("; ".join(strays))
    return torch.cat(outputs, -2), state


def _strays(name: str, value: Any, batch: int) -> Iterator[str]:
    """Name what has no place in a state."""
    if isinstance(value, Tensor):
        if value.shape[:1] != (batch,):
            yield f"{name} is of shape {tuple(value.shape)} for {batch} streams"
    elif isinstance(value, tuple):
        for inner, part in zip(getattr(value, "_fields", range(len(value))), value, strict=True):
            yield from _strays(f"{name}.{inner}", part, batch)
    else:
        yield f"{name} is of type {type(value).__name__}, neither a tensor nor a tuple"
