"""A network of memories: blocks in a stack, itself a memory."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recurra.errors import UserError
from recurra.memory.base import Memory, hide
from recurra.memory.blocks import Block
from recurra.memory.catalogue import build, has_layers
from recurra.memory.norms import RMSNorm


class NetworkState(NamedTuple):
    """What a network keeps: the state of each layer."""

    layers: tuple[Any, ...]


class Network(Memory):
    """Memories in a stack, a norm after the last.

    Raises:
        UserError: if there is no layer, layers are not of one width, or some alone are a team's, or a grain does not
            divide the largest.

    >>> import torch
    >>> from recurra.memory import stack
    >>> y, state = stack("delta_net", 16, layers=2, heads=2)(torch.ones(2, 5, 16))
    >>> y.shape, len(state.layers)
    (torch.Size([2, 5, 16]), 2)
    """

    def __init__(self, layers: Iterable[Memory]) -> None:
        super().__init__()
        memories = list(layers)
        if len({layer.dim for layer in memories}) != 1:
            raise UserError("a network needs at least one layer, all of one dim")
        if len({layer.team for layer in memories}) != 1:
            raise UserError("a network's layers are all of a team, or none is")
        self.dim, self.team = memories[0].dim, memories[0].team
        self.grain = max(layer.grain for layer in memories)
        if any(self.grain % layer.grain for layer in memories):
            raise UserError(f"the grains of a network's layers must divide the largest, {self.grain}")
        self.bounded = all(layer.bounded for layer in memories)
        self.layers: Any = nn.ModuleList(memories)
        self.norm = RMSNorm(self.dim)

    def initial_state(self, batch: int, **options: Any) -> NetworkState:
        """Give the layers' initial states: see `Memory.initial_state`."""
        return NetworkState(tuple(layer.initial_state(batch, **options) for layer in self.layers))

    def forward(
        self,
        x: Tensor,
        state: NetworkState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, NetworkState]:
        """Read a piece: see `Memory.forward`."""
        x, after = self._read(len(self.layers), x, state, first, present)
        return hide(self.norm(x), present), NetworkState(tuple(after))

    def absorb(
        self,
        x: Tensor,
        state: NetworkState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> NetworkState:
        """Let the last layer absorb what the others make of a piece: see `Memory.absorb`."""
        x, state = self.begin(x, state, first, present)
        x, after = self._read(len(self.layers) - 1, x, state, first, present)
        last = self.layers[-1].absorb(x, state.layers[-1], first=first, present=present)
        return NetworkState((*after, last))

    def _read(
        self, count: int, x: Tensor, state: NetworkState | None, first: Tensor | None, present: Tensor | None
    ) -> tuple[Tensor, list[Any]]:
        """Go through the first layers: what they make of a piece, and the next state of each."""
        x, state = self.begin(x, state, first, present)
        after = []
        for layer, before in zip(self.layers[:count], state.layers, strict=False):
            x, layer_state = layer(x, before, first=first, present=present)
            after.append(layer_state)
        return x, after

    def step(
        self, x: Tensor, state: NetworkState | None = None, *, first: Tensor | None = None
    ) -> tuple[Tensor, NetworkState]:
        """Read one token of each stream: see `Memory.step`."""
        self.expect(x)
        before = [None] * len(self.layers) if state is None else self._continued(x, state).layers
        after = []
        for layer, layer_before in zip(self.layers, before, strict=True):
            x, layer_state = layer.step(x, layer_before, first=first)
            after.append(layer_state)
        return self.norm(x), NetworkState(tuple(after))

    def heed(self, x: Tensor, state: NetworkState, *, present: Tensor | None = None) -> Tensor | None:
        """Ask the layers: see `Memory.heed`."""
        told = []
        for layer, before in zip(self.layers, state.layers, strict=True):
            told.append(layer.heed(x, before, present=present))
            y, _ = layer(x.unsqueeze(-2), before, present=None if present is None else present.unsqueeze(-1))
            x = y.squeeze(-2)
        weights = [each for each in told if each is not None]
        return torch.stack(weights).mean(0) if weights else None


def stack(
    name: str,
    dim: int,
    *,
    layers: int = 1,
    expansion: float = 4.0,
    memory_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Network:
    """Build a network of equal blocks around the named memory.

    A memory that is a network of layers itself, such as ``rmt``, is built with as many instead of repeated.

    Args:
        name: the memory's, see `recurra.memory.build`.
        dim: width of the network.
        layers: how many blocks; of ``samba`` how many pairs of them, one with a memory and one with a window.
        expansion: of the blocks' MLPs, see `recurra.memory.blocks.Block`.
        memory_options: the memory's options, those that have a name of the above too (an MLP memory's ``expansion``).
        **options: more of them.

    Raises:
        UserError: if there is no layer, an option is the network's, or as `recurra.memory.build` does.
    """
    if layers < 1:
        raise UserError(f"a network has at least one layer, got {layers}")
    wanted = {**(memory_options or {}), **options}
    for option in wanted.keys() & {"name", "dim"}:
        raise UserError(f"a network's {option} is not among its memory's options")
    if name == "samba":  # brings its blocks
        return Network(build(name, dim, **{"expansion": expansion, **wanted}) for _ in range(layers))
    if has_layers(name):
        return Network([build(name, dim, **{"layers": layers, "expansion": expansion, **wanted})])
    return Network(Block(build(name, dim, **wanted), expansion=expansion) for _ in range(layers))
