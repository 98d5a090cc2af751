"""Memory replay back-propagation: the backward pass reads a segment again, of which only what went in was kept.

Wu et al. 2020, Memformer (arXiv 2010.06891), Algorithm 1. `torch.utils.checkpoint` gives the same by hooks on each
tensor that an operation saves; segments are many small operations, and the hooks took longer than they did.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import get_device_states, set_device_states

from recurra.memory import state as states
from recurra.memory.segment.parts import Part, Read


def replayed(read: Read, parameters: Sequence[Tensor], part: Part, memory: Any, held: Any) -> tuple[Tensor, Any, Any]:
    """Read a part with parameters and keep only what goes in; the backward pass reads it again."""

    def again(given: Any) -> tuple[Tensor, Any, Any]:
        x, memory, opened = given
        y, memory, after = read(part._replace(x=x), memory, None if held is None else opened)
        return y, memory, () if after is None else after

    y, memory, after = replay(again, (part.x, memory, () if held is None else held), parameters)
    return y, memory, after or None


def replay(function: Callable[[Any], Any], given: Any, parameters: Sequence[Tensor]) -> Any:
    """Call a function, and call it again in the backward pass, with the same random numbers and precision.

    Args:
        function: of a state, gives a state; it may use the parameters, and nothing else that has a gradient.
        given: what it is called with.
        parameters: what else it uses.

    Returns:
        What it gives. Its gradients have no gradients of their own: asking for those raises ``RuntimeError``.
    """
    gives: list[Any] = []
    tensors = [field for _, field in states.fields(given)]
    found = iter(_Replay.apply(function, given, gives, *tensors, *parameters))
    return states.transform(lambda field: next(found), *gives)


class _Replay(torch.autograd.Function):
    """Its tensors are those of ``given``, then the parameters; what the first call gives is put in ``gives``."""

    @staticmethod
    def forward(
        ctx: Any, function: Callable[[Any], Any], given: Any, gives: list[Any], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        device = tensors[0].device.type
        ctx.function, ctx.form = function, given
        ctx.random = torch.get_rng_state(), *get_device_states(*tensors)
        ctx.precision = {
            "device_type": device,
            "dtype": torch.get_autocast_dtype(device),
            "enabled": torch.is_autocast_enabled(device),
        }
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        gives.append(function(given))
        found = tuple(field for _, field in states.fields(gives[0]))
        ctx.mark_non_differentiable(*(field for field in found if not field.is_floating_point()))
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Any, ...]:
        needed = ctx.needs_input_grad[3:]
        tensors = iter(zip(ctx.saved_tensors, needed, strict=True))
        begins: list[Tensor] = []

        def begin(_: Tensor) -> Tensor:
            tensor, slope = next(tensors)
            begins.append(tensor.detach().requires_grad_(slope))
            return begins[-1]

        given = states.transform(begin, ctx.form)
        begins += [parameter for parameter, _ in tensors]
        cpu, devices, others = ctx.random
        with torch.enable_grad(), torch.autocast(**ctx.precision), torch.random.fork_rng(devices):
            torch.set_rng_state(cpu)
            set_device_states(devices, others)
            found = [field for _, field in states.fields(ctx.function(given))]
        ends = [
            (end, slope) for end, slope in zip(found, slopes, strict=True) if slope is not None and end.requires_grad
        ]
        wanted = [tensor for tensor, slope in zip(begins, needed, strict=True) if slope]
        back: Sequence[Tensor | None] = [None] * len(wanted)
        if ends:
            ys, weights = zip(*ends, strict=True)
            back = torch.autograd.grad(ys, wanted, weights, allow_unused=True)
        remaining = iter(back)
        return None, None, None, *(next(remaining) if slope else None for slope in needed)
