"""Growing what is asked of an agent as it succeeds."""

from collections import deque
from dataclasses import dataclass
from typing import Any

from recurra.errors import UserError


@dataclass
class CurriculumOptions:
    """When to make an environment harder.

    Args:
        option: the environment's option that grows, a number or a pair (low, high) whose high grows.
        start: its value at first.
        factor: what it is multiplied by at each promotion, until it reaches what the environment is set to.
        success: the success rate that earns a promotion.
        window: over how many episodes, all of them since the last promotion.
    """

    option: str
    start: float
    factor: float = 1.5
    success: float = 0.9
    window: int = 256

    def __post_init__(self) -> None:
        if not self.start > 0:
            raise UserError(f"curriculum.start must be more than 0, got {self.start}")
        if not self.factor > 1:
            raise UserError(f"curriculum.factor must be more than 1, got {self.factor}")
        if not 0 <= self.success <= 1:
            raise UserError(f"curriculum.success must lie in 0..1, got {self.success}")
        if self.window < 1:
            raise UserError(f"curriculum.window must be at least 1, got {self.window}")


class Curriculum:
    """The level that an environment's option stands at; see `CurriculumOptions`.

    Args:
        options: when to rise.
        target: what the option is set to in the end.

    Raises:
        UserError: if the target is neither a number nor a pair of numbers.

    >>> curriculum = Curriculum(CurriculumOptions("corridor", start=5, window=2), target=[2, 8])
    >>> curriculum.value, curriculum.promote([1.0]), curriculum.promote([1.0]), curriculum.value
    ([2, 5], False, True, [2, 7])
    """

    def __init__(self, options: CurriculumOptions, *, target: Any) -> None:
        pair = isinstance(target, list | tuple) and len(target) == 2
        if not all(isinstance(number, int | float) for number in (target if pair else [target])):
            raise UserError(f"curriculum.option {options.option!r} must be a number or a pair, it is {target!r}")
        self.options, self.target = options, target
        self.level = min(options.start, self._goal)
        self.successes: deque[float] = deque(maxlen=options.window)

    @property
    def _goal(self) -> float:
        return self.target[1] if isinstance(self.target, list | tuple) else self.target

    @property
    def value(self) -> Any:
        """What the environment's option is to be set to: rounded down where the target is an int."""
        level = int(self.level) if isinstance(self._goal, int) else self.level
        return [min(self.target[0], level), level] if isinstance(self.target, list | tuple) else level

    def promote(self, successes: list[float]) -> bool:
        """Take the successes of episodes that ended; say whether the level has risen.

        Where the environment tells no success (NaN), it never does.
        """
        self.successes.extend(successes)
        full = len(self.successes) == self.options.window
        earned = full and sum(self.successes) >= self.options.success * self.options.window
        if self.level >= self._goal or not earned:
            return False
        self.level = min(self.level * self.options.factor, self._goal)
        self.successes.clear()
        return True

    def state_dict(self) -> dict[str, Any]:
        """Hold the level and the successes since it was reached."""
        return {"level": self.level, "successes": list(self.successes)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        self.level = saved["level"]
        self.successes.clear()
        self.successes.extend(saved["successes"])
