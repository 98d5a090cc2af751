"""The delta rule in Triton: the WY form of `chunked`, parallel over chunks but for what goes from one to the next.

Forward, one kernel finds for all chunks at once what each would write and subtract (U and W), one carries the state
from chunk to chunk, and one reads in all chunks at once. A single token takes one kernel in all.

Backward passes keep the arguments alone, and run the first two kernels again for the states of the chunks' starts.
Kept, these would outweigh the arguments, by key_dim × value_dim numbers for every chunk, from the forward pass of each
layer to its backward.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from recurra.kernels import tiles
from recurra.kernels.delta_rule import gpu_backward, gpu_forward

# By the side of a tile of keys and the bytes of a number that matrices are multiplied in: the most tokens of a chunk,
# the channels of values taken together, and the warps of a program, which are more in the last kernels, the largest.
TABLE = {
    (16, 2): (64, 32, 4, 4),
    (32, 2): (64, 32, 4, 4),
    (64, 2): (64, 32, 4, 8),
    (128, 2): (64, 32, 8, 8),
    (16, 4): (32, 32, 4, 4),
    (32, 4): (32, 32, 4, 8),
    (64, 4): (32, 32, 4, 8),
    (128, 4): (32, 16, 8, 8),
}
PART = 32  # channels of keys taken together, but by kernels that carry states: with more, registers spill
BY_CHANNEL = 32  # the most tokens of a chunk with a decay for each channel: with more, registers of `learn` spill
STAGES = 2  # loads of chunks ahead, in the kernels that walk through them: more take more shared memory than there is

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class _Piece:
    """The arguments, laid out for the kernels, and what these are launched with."""

    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None, state: Tensor,
        first: Tensor | None, present: Tensor | None, scale: float, chunk: int,
    ) -> None:  # fmt: skip
        self.q, self.k, self.v, self.state = (x.contiguous() for x in (q, k, v, state))
        self.log_decay, self.beta = (x if x is None else x.contiguous() for x in (log_decay, beta))
        self.first, self.present = (
            x if x is None else x.contiguous().view(torch.uint8) for x in (first, present)
        )  # fmt: skip
        self.scale = scale
        (batch, time, self.heads, self.key_dim), self.value_dim = q.shape, v.shape[-1]
        key = tiles.power(self.key_dim)
        factor = tiles.factor(torch.promote_types(torch.promote_types(q.dtype, k.dtype), v.dtype))
        self.dtype = torch.float64 if state.dtype == torch.float64 else factor
        most, value, self.warps, self.warps_of_last = TABLE[key, min(self.dtype.itemsize, 4)]
        if log_decay is not None and log_decay.dim() == 4:
            most = min(most, BY_CHANNEL)
        # The largest tile that is not longer than asked for, nor longer than the piece needs.
        size = min(most, max(16, 1 << chunk.bit_length() - 1), tiles.power(time))
        self.streams, self.count, self.parts = batch * self.heads, triton.cdiv(time, size), -(-self.value_dim // value)
        self.sizes = {"time": time, "heads": self.heads, "key_dim": self.key_dim, "value_dim": self.value_dim}
        self.flags = {
            "DECAY": log_decay is not None,
            "BY_CHANNEL": log_decay is not None and log_decay.dim() == 4,
            "FIRST": first is not None,
            "PRESENT": present is not None,
        }
        self.accumulated = {"ACC": tiles.accumulator(state.dtype)}
        self.tiles = {"CHUNK": size, "VALUE": value, "FACTOR": tiles.language(self.dtype)} | self.accumulated
        self.whole, self.parted = {"KEY": key}, {"PART": min(key, PART)}
        self.levels = {"LEVELS": size.bit_length() - 1}

    def scratch(self, *shape: int) -> Tensor:
        """Make room for what kernels multiply with, in the dtype in which they do."""
        return self.q.new_empty(shape, dtype=self.dtype)

    def solve(self) -> tuple[Tensor, Tensor, Tensor]:
        """Give U, W and T."""
        u, w = self.scratch(*self.v.shape), self.scratch(*self.k.shape)
        size = self.tiles["CHUNK"]
        inverse = self.scratch(self.streams, self.count, size, size)
        gpu_forward.solve[(self.streams, self.count)](
            self.k, self.v, self.log_decay, self.beta, self.first, self.present, u, w, inverse, **self.sizes,
            **self.flags, HALF=self.dtype.itemsize == 2, **self.levels, **self.parted, **self.tiles,
            num_warps=self.warps,
        )  # fmt: skip
        return u, w, inverse

    def carry(self, u: Tensor, w: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Give N, the state at each chunk's start and that at the end."""
        states = self.scratch(self.streams, self.count, self.key_dim, self.value_dim)
        n = u if w is None else torch.empty_like(u)
        last = torch.empty_like(self.state)
        gpu_forward.carry[(self.streams, self.parts)](
            self.k, u, w, self.log_decay, self.first, self.present, self.state, states, n, last, **self.sizes,
            DELTA=w is not None, **self.flags, **self.whole, **self.tiles, num_warps=self.warps, num_stages=STAGES,
        )  # fmt: skip
        return n, states, last

    def read(self, n: Tensor, states: Tensor) -> Tensor:
        """Give the outputs."""
        output = torch.empty_like(self.v)
        gpu_forward.read[(self.streams, self.count)](
            self.q, self.k, n, self.log_decay, self.first, self.present, states, output, self.scale, **self.sizes,
            **self.flags, **self.levels, **self.whole, **self.parted, **self.tiles, num_warps=self.warps,
        )  # fmt: skip
        return output

    def read_token(self) -> tuple[Tensor, Tensor]:
        """Give the output and the last state of a single token."""
        output, last = torch.empty_like(self.v), torch.empty_like(self.state)
        key, value = tiles.power(self.key_dim, least=1), tiles.power(min(self.value_dim, 64), least=1)
        gpu_forward.read_token[(self.streams, triton.cdiv(self.value_dim, value))](
            self.q, self.k, self.v, self.log_decay, self.beta, self.first, self.present, self.state, output, last,
            self.scale, **{name: size for name, size in self.sizes.items() if name != "time"},
            DELTA=self.beta is not None, **self.flags, KEY=key, VALUE=value, **self.accumulated, num_warps=4,
        )  # fmt: skip
        return output, last

    def back(self, d_output: Tensor, d_last: Tensor) -> Gradients:
        """Give the gradients of q, k, v, log_decay, beta and the initial state; empty ones of what is absent."""
        u, w, inverse = (self.v, None, None) if self.beta is None else self.solve()
        n, states, _ = self.carry(u, w)
        about = self.log_decay, self.first, self.present
        d_n, d_states, d_state = self.scratch(*self.v.shape), torch.empty_like(states), torch.empty_like(self.state)
        gpu_backward.answer[(self.streams, self.count)](
            self.q, self.k, d_output, *about, d_n, self.scale, **self.sizes, **self.flags, **self.levels,
            **self.parted, **self.tiles, num_warps=self.warps,
        )  # fmt: skip
        gpu_backward.carry_back[(self.streams, self.parts)](
            self.q, self.k, w, d_output, *about, d_last, d_states, d_n, d_state, self.scale, **self.sizes,
            DELTA=w is not None, **self.flags, **self.whole, **self.tiles, num_warps=self.warps, num_stages=STAGES,
        )  # fmt: skip
        # What absent tokens hold reaches nothing: kernels do not write there.
        d_q, d_k, d_v = (torch.zeros_like(x) for x in (self.q, self.k, self.v))
        d_log_decay, d_beta = (
            self.q.new_zeros(0) if x is None else torch.zeros_like(x) for x in (self.log_decay, self.beta)
        )
        size = self.tiles["CHUNK"]
        d_b, d_a = (self.state.new_empty(self.streams, self.count, size, size) for _ in range(2))
        d_asked, d_left, d_entered = (self.scratch(*self.k.shape) for _ in range(3))
        d_kept = self.state.new_empty(self.streams, self.count, self.key_dim)
        d_step = self.state.new_empty(self.k.shape[:3])
        between = d_b, d_a, d_asked, d_left, d_entered, d_kept, d_step
        masks = {name: self.flags[name] for name in ("FIRST", "PRESENT")}
        gpu_backward.differ[(self.streams, self.count)](
            self.v, self.beta, self.first, self.present, u, w, n, inverse, states, d_output, d_n, d_states, d_v,
            *between, **self.sizes, DELTA=w is not None, **masks, **self.parted, **self.tiles,
            num_warps=self.warps_of_last,
        )  # fmt: skip
        sizes = {name: size for name, size in self.sizes.items() if name != "value_dim"}
        key_tiles = {name: size for name, size in self.tiles.items() if name != "VALUE"}
        gpu_backward.learn[(self.streams, self.count)](
            self.q, self.k, self.log_decay, self.beta, self.first, self.present, *between, d_q, d_k,
            d_log_decay, d_beta, self.scale, **sizes, DELTA=w is not None, **self.flags, **self.levels, **self.parted,
            **key_tiles, num_warps=self.warps_of_last, num_stages=1,
        )  # fmt: skip
        return d_q, d_k, d_v, d_log_decay, d_beta, d_state


@torch.library.custom_op("recurra::delta_rule_forward", mutates_args=())
def delta_rule_forward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None, state: Tensor,
    first: Tensor | None, present: Tensor | None, scale: float, chunk: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Give outputs and the last state: see `recurra.kernels.delta_rule`; ``state`` is held in the dtype it comes in."""
    with tiles.on(q):
        piece = _Piece(q, k, v, log_decay, beta, state, first, present, scale, chunk)
        if q.shape[1] == 1:
            return piece.read_token()
        u, w = (piece.v, None) if beta is None else piece.solve()[:2]
        n, states, last = piece.carry(u, w)
        return piece.read(n, states), last


@torch.library.custom_op("recurra::delta_rule_backward", mutates_args=())
def delta_rule_backward(
    d_output: Tensor, d_last: Tensor, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None,
    state: Tensor, first: Tensor | None, present: Tensor | None, scale: float, chunk: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Give the gradients of q, k, v, log_decay, beta and the state; empty ones of what is absent."""
    with tiles.on(q):
        piece = _Piece(q, k, v, log_decay, beta, state, first, present, scale, chunk)
        return piece.back(d_output.contiguous(), d_last.contiguous())


@delta_rule_forward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None, state: Tensor,
    first: Tensor | None, present: Tensor | None, scale: float, chunk: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return v.new_empty(v.shape), state.new_empty(state.shape)


@delta_rule_backward.register_fake
def _(
    d_output: Tensor, d_last: Tensor, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None,
    state: Tensor, first: Tensor | None, present: Tensor | None, scale: float, chunk: int,
) -> Gradients:  # fmt: skip
    given = (q, k, v, log_decay, beta, state)
    d_q, d_k, d_v, d_log_decay, d_beta, d_state = (q.new_empty(0) if x is None else x.new_empty(x.shape) for x in given)
    return d_q, d_k, d_v, d_log_decay, d_beta, d_state


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale, ctx.chunk = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, d_output: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
    given = ctx.saved_tensors
    gradients = delta_rule_backward(d_output, d_last, *given, ctx.scale, ctx.chunk)
    return *(d_x if x is not None else None for x, d_x in zip(given, gradients, strict=False)), None, None, None, None


delta_rule_forward.register_autograd(_backward, setup_context=_save)
