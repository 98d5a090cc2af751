"""Growing what is asked of an agent as it succeeds."""

from collections import deque
from dataclasses import dataclass
from typing import Any


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


class Curriculum:
    """The level that an environment's option stands at; see `CurriculumOptions`.

    >>> curriculum = Curriculum(CurriculumOptions("corridor", start=5, window=2), target=[2, 8])
    >>> curriculum.value, curriculum.promote([1.0]), curriculum.promote([1.0]), curriculum.value
    ([2, 5], False, True, [2, 7])
    """

    def __init__(self, options: CurriculumOptions, *, target: Any) -> None:
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
        """Take the successes of episodes that ended; say whether the level has risen."""
        self.successes.extend(successes)
        enough = len(self.successes) == self.options.window
        earned = enough and sum(self.successes) >= self.options.success * len(self.successes)  # False of NaN
        if not earned or self.level >= self._goal:
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
