"""The contract that every memory obeys: a piece of a stream and a state in, outputs and the next state out."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from recurra.errors import UserError
from recurra.memory import forms
from recurra.memory import state as states


class Memory(nn.Module, ABC):
    """A function from a piece of a stream and a state to outputs and the next state.

    ``y, state = memory(x, state, first=first, present=present)``

    A subclass sets ``self.dim`` and implements `forward` and `initial_state`; `step` and `absorb` follow from them and
    are overridden where they can be cheaper. `recurra.memory.laws.check` tests that a subclass keeps the contract.

    Attributes:
        dim: width of inputs and outputs.
        grain: streams may be cut at multiples of this many tokens: 1 for every memory whose outputs do not look
            ahead inside a segment.
        bounded: whether the state's bytes stay the same however long the stream.
        team: whether inputs carry an axis of agents, ``(batch, agents, time, dim)``, that share the memory.
        input_limit: the largest input, in absolute value, that the rule stays finite for; None where it always does.
        backends: backends that the instance's attribute ``backend`` may name; empty where there is no choice.
    """

    dim: int
    grain: int = 1
    bounded: bool = True
    team: bool = False
    input_limit: float | None = None
    backends: tuple[str, ...] = ()
    _form: tuple | None = None  # of its states, and for how many agents, once one was handed on

    @abstractmethod
    def forward(
        self, x: Tensor, state: Any = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Read the next piece of each stream.

        Args:
            x: ``(batch, time, dim)``, of any length, 0 and 1 included.
            state: what an earlier call returned; None means the beginning.
            first: ``(batch, time)`` bool, True on the first token of a new episode or document: the state is fresh
                before that token, whether the token is present or not.
            present: ``(batch, time)`` bool, False for padding: an absent token neither reads nor writes, its output
                is 0 and positions do not move. What an absent token holds, NaN included, does not matter.

        Returns:
            Outputs ``(batch, time, dim)`` and the state after the last token.

        Raises:
            UserError: if a shape does not fit, or the state is another memory's, or of other streams.
        """

    @abstractmethod
    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Any:
        """Give the state at the beginning of ``batch`` streams: a NamedTuple of tensors, batch first.

        Device and dtype are the parameters' own by default; a state is never held in less than float32.
        """

    def step(self, x: Tensor, state: Any = None, *, first: Tensor | None = None) -> tuple[Tensor, Any]:
        """Read one token of each stream: x ``(batch, dim)``, first ``(batch,)``; outputs ``(batch, dim)``."""
        y, state = self(x.unsqueeze(-2), state, first=None if first is None else first.unsqueeze(-1))
        return y.squeeze(-2), state

    def absorb(
        self, x: Tensor, state: Any = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> Any:
        """Read a piece for what is kept of it alone: give the next state of `forward`, and no outputs.

        To be overridden where that takes less.
        """
        return self(x, state, first=first, present=present)[1]

    def heed(self, x: Tensor, state: Any, *, present: Tensor | None = None) -> Tensor | None:
        """Say how strongly each agent of a team attends to each agent's memory when it reads a token.

        Args:
            x: ``(batch, agents, dim)``, what is read next.
            state: what it is read with.
            present: ``(batch, agents)`` bool, who is there.

        Returns:
            ``(batch, agents, agents)``, who attends to whom: from 0 to 1, at most 1 in a row, means over heads and
            layers. None for memories that have no such weights, which are all but those that say otherwise.
        """
        return None

    def begin(self, x: Tensor, state: Any, first: Tensor | None, present: Tensor | None) -> tuple[Tensor, Any]:
        """Check a piece; give it with absent tokens set to 0, and the state that it continues from.

        Every `forward` starts with this call.

        Raises:
            UserError: if a shape does not fit, or the state is another memory's, or of other streams.
        """
        self.expect(x, "time")
        if first is not None:
            _check_flags("first", first, (x.shape[0], x.shape[-2]))
        if present is not None:
            _check_flags("present", present, tuple(x.shape[:-1]))
        return hide(x, present), self._continued(x, state)

    def begin_step(self, x: Tensor, state: Any, first: Tensor | None) -> Any:
        """Check a token of each stream; give the state that it continues from, which is fresh where ``first``.

        Every `step` that hands its arguments to no other memory starts with this call.

        Raises:
            UserError: as `begin` does.
        """
        self.expect(x)
        state = self._continued(x, state)
        if first is None:
            return state
        _check_flags("first", first, (x.shape[0],))
        return states.reset(state, first, self._fresh(x[:1]))

    def expect(self, x: Tensor, *axes: str) -> None:
        """Check that x has an axis of streams (and agents), those named, and one of the memory's width.

        Raises:
            UserError: if it has not.
        """
        axes = ("batch", *["agents"] * self.team, *axes)
        if x.dim() != len(axes) + 1 or x.shape[-1] != self.dim:
            shape = ", ".join((*axes, str(self.dim)))
            raise UserError(f"{type(self).__name__} takes x of shape ({shape}), got {tuple(x.shape)}")

    def _continued(self, x: Tensor, state: Any) -> Any:
        if state is None:
            return self._fresh(x)
        streams, *agents = x.shape[: 1 + self.team]
        compiling = torch.compiler.is_compiling()  # to remember the form would have everything compiled twice
        known = None if compiling else self._form
        if known is None or known[0] != agents or not forms.fits(state, known[1], streams):
            fresh = self._fresh(x[:1])
            known = agents, forms.form(fresh)
            if not forms.fits(state, known[1], streams):
                forms.refuse(self, state, x, fresh)
            if not compiling:
                self._form = known
        return state

    def _fresh(self, x: Tensor) -> Any:
        options: dict[str, Any] = {"agents": x.shape[1]} if self.team else {}
        return self.initial_state(len(x), device=x.device, **options)

    def placement(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> dict[str, Any]:
        """Give ``device`` and ``dtype`` for a state's tensors: the parameters' own by default, at least float32."""
        parameter = next(self.parameters(), None)
        if device is None and parameter is not None:
            device = parameter.device
        if dtype is None:
            dtype = torch.get_default_dtype() if parameter is None else parameter.dtype
        return {"device": device, "dtype": torch.promote_types(dtype, torch.float32)}


def hide(y: Tensor, present: Tensor | None) -> Tensor:
    """Set the outputs of absent tokens to 0."""
    return y if present is None else y.masked_fill(~present.unsqueeze(-1), 0.0)


def _check_flags(name: str, flags: Tensor, shape: tuple[int, ...]) -> None:
    if flags.dtype != torch.bool or tuple(flags.shape) != shape:
        raise UserError(f"{name} must be bool of shape {shape}, got {flags.dtype} of shape {tuple(flags.shape)}")
