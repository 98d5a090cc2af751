"""The laws that every memory obeys, and `check`, which tests them for any memory, a user's own too.

A law, of those in `recurra.memory.laws.ten`, gives a figure: how far a memory is from keeping it in a random case.
float64 is allowed 1e-10 and float32 1e-4; in a law that looks at both, the errors in float32 count a millionth.
"""

import copy
import math
from collections.abc import Callable, Iterable

import torch

from recurra.errors import UserError, nearest
from recurra.memory.base import Memory
from recurra.memory.laws import ten
from recurra.memory.laws.cases import Case, device_of, draw
from recurra.memory.laws.figures import Figure, brief

__all__ = ["BOUNDS", "LAWS", "Figure", "LawBroken", "check", "measure"]

LAWS: dict[str, Callable[[Memory, Case], Figure]] = {
    law.__name__: law
    for law in (
        ten.split,
        ten.first,
        ten.present,
        ten.causal,
        ten.rows,
        ten.bounded,
        ten.saved,
        ten.gradient,
        ten.numbers,
        ten.backends,
    )
}
"""The laws by name, in the order in which they are tested."""

BOUNDS = {name: {"bounded": 0.0, "saved": 0.0, "numbers": 1e-4}.get(name, 1e-10) for name in LAWS}
"""The largest figure that keeps each law."""

NOISE = 5e-2  # added to parameters, so that one that starts at 0 hides nothing


class LawBroken(AssertionError):
    """A memory breaks laws; the message names each with its figure and the case that shows it.

    Attributes:
        laws: names of the broken laws.
    """

    def __init__(self, message: str, *, laws: tuple[str, ...]) -> None:
        super().__init__(message)
        self.laws = laws


def check(
    memory: Memory,
    *,
    laws: Iterable[str] | None = None,
    cases: int = 3,
    seed: int = 0,
    time: int = 40,
    agents: int = 4,
) -> None:
    """Test that a memory obeys the laws.

    The memory itself stays as it is, and so does the global random state: laws work on copies in evaluation mode,
    in float64 or float32, on the memory's device, with a little noise on every parameter.

    Args:
        memory: what is tested.
        laws: names out of `LAWS`; all by default.
        cases: number of random cases for each law.
        seed: of the first case; the next ones count on.
        time: the longest stream. A memory that works by chunks or segments longer than this wants a longer one.
        agents: the largest team, where the memory is a team's.

    Raises:
        LawBroken: if it does not, with every broken law, its figure and the case.
        UserError: if there is no such law, or ``memory`` is no `Memory`.

    >>> from recurra.memory import build
    >>> check(build("gru", 8), cases=1)
    """
    broken = {}
    cause = None
    for name, (figure, place, error) in _worst(memory, laws, cases, seed, time, agents).items():
        allowed = math.inf if name == "bounded" and not memory.bounded else BOUNDS[name]
        if figure > allowed:
            broken[name] = f"  {name}: {figure:.3g} where at most {allowed:g} is allowed: {figure.what} [{place}]"
            cause = cause or error
    if broken:
        lines = (f"{type(memory).__name__} breaks the laws of memory", *broken.values())
        raise LawBroken("\n".join(lines), laws=tuple(broken)) from cause


def measure(
    memory: Memory,
    *,
    laws: Iterable[str] | None = None,
    cases: int = 3,
    seed: int = 0,
    time: int = 40,
    agents: int = 4,
) -> dict[str, float]:
    """Give each law's worst figure, infinite where the memory raises an exception; arguments as in `check`.

    >>> from recurra.memory import build
    >>> measure(build("gru", 8), laws=["bounded", "saved"], cases=1)
    {'bounded': 0.0, 'saved': 0.0}
    """
    return {name: float(figure) for name, (figure, *_) in _worst(memory, laws, cases, seed, time, agents).items()}


def _worst(
    memory: Memory, laws: Iterable[str] | None, cases: int, seed: int, time: int, agents: int
) -> dict[str, tuple[Figure, str, Exception | None]]:
    """Give each law's worst figure, the case it comes from, and the exception that it stands for, if any."""
    if not isinstance(memory, Memory):
        raise UserError(f"laws are of a recurra.memory.Memory, and {type(memory).__name__} is none: subclass it")
    names = list(LAWS if laws is None else laws)
    if unknown := [name for name in names if name not in LAWS]:
        raise UserError(f"there is no law {unknown[0]!r}: {nearest(unknown[0], LAWS)}")
    device = device_of(memory)
    generators = [device] if device.type == "cuda" else []
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(generators):
        worst: dict[str, tuple[Figure, str, Exception | None]] = {}
        for name in names:
            for case_seed in range(seed, seed + cases):
                found = _judge(memory, name, case_seed, time, agents)
                worst[name] = max(worst.get(name, found), found, key=lambda found: found[0])
                if math.isinf(found[0]):  # nothing can be worse
                    break
        return worst


def _judge(memory: Memory, name: str, seed: int, time: int, agents: int) -> tuple[Figure, str, Exception | None]:
    place = f"seed {seed}"
    torch.default_generator.manual_seed(seed)  # for a memory that is random itself; our own draws do not use it
    try:
        case = draw(memory, seed, time, agents)
        place = str(case)
        return LAWS[name](_disturbed(memory, case.generator), case), place, None
    except Exception as error:  # whatever a memory raises breaks the law
        return Figure(math.inf, f"{type(error).__name__}: {brief(error)}"), place, error


def _disturbed(memory: Memory, generator: torch.Generator) -> Memory:
    """Copy a memory to evaluation mode and float64, with noise on its parameters."""
    memory = copy.deepcopy(memory).eval().double()
    with torch.no_grad():
        for parameter in memory.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise.to(parameter), alpha=NOISE)
    return memory
