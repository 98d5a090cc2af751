"""Forms of states: what those of one memory have in common, by which another memory's are told from them."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from torch import Tensor

from recurra.errors import UserError
from recurra.memory import state as states


def form(state: Any) -> tuple:
    """Give a tensor's sizes after the batch, and of a tuple its type and its parts' forms.

    >>> from recurra.memory import build
    >>> form(build("lstm", 8).initial_state(2))
    (<class 'recurra.memory.recurrent.gated.LSTMState'>, (8,), (8,))
    """
    if isinstance(state, Tensor):
        return tuple(state.shape[1:])
    return type(state), *(map(form, state) if isinstance(state, tuple) else ())


def fits(state: Any, wanted: tuple, streams: int) -> bool:
    """Say whether a state of so many streams is of a form; a size that is 0 there may grow.

    >>> import torch
    >>> fits(torch.zeros(2, 5, 4), (0, 4), 2), fits(torch.zeros(2, 5, 4), (6, 4), 2)
    (True, False)
    """
    if isinstance(state, Tensor):
        sizes = state.shape
        return sizes == (streams, *wanted) or (sizes[:1] == (streams,) and states.of_sizes(sizes[1:], wanted))
    if wanted[:1] != (type(state),):
        return False
    if not isinstance(state, tuple):
        return True
    return len(state) == len(wanted) - 1 and all(map(fits, state, wanted[1:], [streams] * len(state)))


def difference(state: Any, like: Any, name: str = "it") -> tuple[str, str, str] | None:
    """Say of what in a state's form is not as in that of another: which part it is, what it is here, and there."""
    if isinstance(state, Tensor) and isinstance(like, Tensor):
        sizes, wanted = form(state), form(like)
        return None if states.of_sizes(sizes, wanted) else (name, f"{sizes} a stream", str(wanted))
    if type(state) is not type(like):
        return name, type(state).__name__, type(like).__name__
    if not isinstance(state, tuple):
        return None
    if len(state) != len(like):
        return name, f"of {len(state)} parts", str(len(like))
    names = getattr(state, "_fields", range(len(state)))
    inner = (str(part) if name == "it" else f"{name}.{part}" for part in names)
    return next(filter(None, map(difference, state, like, inner)), None)


def refuse(memory: Any, state: Any, x: Tensor, fresh: Any) -> None:
    """Say what is wrong with a state that does not fit: it is another memory's, or of other streams or agents than x.

    Args:
        memory: what was handed it.
        state: the state.
        x: ``(batch, [agents,] …)``.
        fresh: what the memory keeps at the beginning of a stream, of as many agents as x.

    Raises:
        UserError: with that.
    """
    other, agents = difference(state, fresh), list(x.shape[1 : 1 + memory.team])
    if other is not None and memory.team and type(state) is type(fresh):
        agents = _agents(memory, state)
        other = None if agents else other
    if other is not None:
        part, given, kept = other
        raise UserError(f"the state is of another memory: {part} is {given}, {type(memory).__name__} keeps {kept}")
    streams = (len(field) for _, field in states.fields(state) if field.dim())
    of_state = [next((count for count in streams if count != len(x)), len(x)), *agents]
    of_x = list(x.shape[: len(of_state)])
    if of_state != of_x:
        raise UserError(f"the state is of {_counted(of_state)}, x of {_counted(of_x)}")


def _agents(memory: Any, state: Any) -> list[int]:
    """Say of how many agents a team's state is, in a list that is empty if it is another memory's."""
    counts = [field.shape[1] for _, field in states.fields(state) if field.dim() > 1]
    fitting = (n for n in counts if n and difference(state, memory.initial_state(1, agents=n)) is None)
    return list(islice(fitting, 1))


def _counted(shape: Sequence[int]) -> str:
    return " of ".join(f"{count} {what}" for count, what in zip(shape, ("streams", "agents"), strict=False))
