"""The gated recurrent networks that everyone knows: GRU and LSTM, on torch's fused kernels where they are fast."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from recurra.kernels import gru
from recurra.kernels.packing import pack
from recurra.memory.base import Memory
from recurra.memory.state import State


class GRUState(NamedTuple):
    """What a GRU keeps: ``hidden (batch, dim)``."""

    hidden: Tensor


class LSTMState(NamedTuple):
    """What an LSTM keeps: ``hidden (batch, dim)`` and ``cell (batch, dim)``."""

    hidden: Tensor
    cell: Tensor


class GRU(Memory):
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), as `torch.nn.GRU` computes it.

    Recurrent weights start orthogonal and biases at 0. On a CPU it trains by `recurra.kernels.gru`: differentiable
    once.

    >>> memory = GRU(8)
    >>> y, state = memory(torch.zeros(2, 5, 8))
    >>> y.shape, state.hidden.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 8]))
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.network = nn.GRU(dim, dim, batch_first=True)
        _initialise(self.network)

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> GRUState:
        """Give zeros."""
        return GRUState(torch.zeros(batch, self.dim, **self.placement(device, dtype)))

    def forward(
        self, x: Tensor, state: GRUState | None = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Tensor, GRUState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        if not torch.is_grad_enabled() or x.is_cuda:
            return _run(self, x, state, first, present)
        # On a CPU torch's own GRU is slow to walk back, many times slower than its LSTM.
        weight_in, weight, bias_in, bias = self.network.all_weights[0]
        with _unrounded(weight):
            projected = functional.linear(x.to(weight.dtype), weight_in, bias_in)
        y, last = gru(projected, weight, bias, initial_state=state.hidden, first=first, present=present)
        return y, GRUState(last.to(state.hidden.dtype))

    def step(self, x: Tensor, state: GRUState | None = None, *, first: Tensor | None = None) -> tuple[Tensor, GRUState]:
        """Read one token of each stream: see `Memory.step`."""
        return _step(self.network, torch.gru_cell, x, self.begin_step(x, state, first))


class LSTM(Memory):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), as `torch.nn.LSTM` computes it.

    Recurrent weights start orthogonal and biases at 0, but 1 for the forget gate (Jozefowicz et al. 2015).

    >>> memory = LSTM(8)
    >>> y, state = memory(torch.zeros(2, 5, 8))
    >>> y.shape, state.cell.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 8]))
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.network = nn.LSTM(dim, dim, batch_first=True)
        _initialise(self.network)
        with torch.no_grad():  # torch orders the gates input, forget, cell, output
            self.network.get_parameter("bias_ih_l0")[dim : 2 * dim] = 1.0

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> LSTMState:
        """Give zeros."""
        zeros = torch.zeros(batch, self.dim, **self.placement(device, dtype))
        return LSTMState(zeros, zeros.clone())

    def forward(
        self, x: Tensor, state: LSTMState | None = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        return _run(self, x, state, first, present)

    def step(
        self, x: Tensor, state: LSTMState | None = None, *, first: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        """Read one token of each stream: see `Memory.step`."""
        return _step(self.network, torch.lstm_cell, x, self.begin_step(x, state, first))


def _initialise(network: nn.GRU | nn.LSTM) -> None:
    for name, parameter in network.named_parameters():
        if name.startswith("weight_hh"):
            for gate in parameter.data.chunk(len(parameter) // network.hidden_size):
                nn.init.orthogonal_(gate)
        elif name.startswith("bias"):
            nn.init.zeros_(parameter)


def _run(memory: Any, x: Tensor, state: State, first: Tensor | None, present: Tensor | None) -> tuple[Tensor, State]:
    """Run a fused network over a piece; never compiled, since its lengths are other ones each time."""
    if torch.compiler.is_compiling():  # only then: torch takes a second to import its compiler
        run: Any = torch.compiler.disable(_run_packed)
        outputs: tuple[Tensor, State] = run(memory, x, state, first, present)
        return outputs
    return _run_packed(memory, x, state, first, present)


def _run_packed(
    memory: Any, x: Tensor, state: State, first: Tensor | None, present: Tensor | None
) -> tuple[Tensor, State]:
    """Run it, as one dense batch where nothing is reset or absent."""
    batch, time, dim = x.shape
    if time == 0:
        return x, state
    if first is None and present is None:
        return _run_dense(memory.network, x, state)
    packing = pack((batch, time), first, present, x.device)
    fresh = memory.initial_state(1, device=x.device, dtype=state[0].dtype)
    starts = type(state)(*map(packing.starts, state, fresh))
    y, last = torch.zeros_like(x), starts
    if len(packing.tokens):
        sequences = PackedSequence(x.reshape(batch * time, dim)[packing.tokens], packing.sizes)
        packed, last = _run_dense(memory.network, sequences, starts)
        y = packed.data.new_zeros(batch * time, dim).index_copy(0, packing.tokens, packed.data).view(batch, time, dim)
    return y, type(state)(*map(packing.ends, last, state, fresh))


def _run_dense(network: nn.GRU | nn.LSTM, x: Any, state: State) -> tuple[Any, State]:
    weight: Any = network.weight_hh_l0
    with _unrounded(weight):
        before = tuple(field.to(weight.dtype).unsqueeze(0) for field in state)
        y, after = network(x.to(dtype=weight.dtype), before if len(before) > 1 else before[0])
    after = after if len(before) > 1 else (after,)
    return y, type(state)(*(field.squeeze(0).to(old.dtype) for field, old in zip(after, state, strict=True)))


def _step(network: nn.GRU | nn.LSTM, cell: Callable[..., Any], x: Tensor, state: State) -> tuple[Tensor, State]:
    weights: Any = network.all_weights[0]
    with _unrounded(weights[0]):
        before = tuple(field.to(weights[0].dtype) for field in state)
        after = cell(x.to(weights[0].dtype), before if len(before) > 1 else before[0], *weights)
    after = after if len(before) > 1 else (after,)
    return after[0], type(state)(*(field.to(old.dtype) for field, old in zip(after, state, strict=True)))


def _unrounded(weight: Tensor) -> torch.autocast:
    """Compute in the parameters' own precision: autocast would round the state carried from token to token."""
    return torch.autocast(weight.device.type, enabled=False)
