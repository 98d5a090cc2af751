"""Growing what is asked of an agent as it succeeds."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
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
        aids: other values for options of the environment, such as ``{oracle: [0, 1]}``: help that is withdrawn by one
            more promotion, when the option has grown to its end. Only training is helped.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    option: str
    start: float
    factor: float = 1.5
    success: float = 0.9
    window: int = 256
    aids: dict[str, Any] = field(default_factory=dict)

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
    """The level that an environment's options stand at; see `CurriculumOptions`.

    Args:
        options: when to rise.
        env: what the environment is set to in the end.

    Raises:
        UserError: if it is not set to something that can grow, or an aid takes the place of nothing.

    >>> options = CurriculumOptions("corridor", start=5, window=2, aids={"oracle": 0})
    >>> curriculum = Curriculum(options, env={"corridor": [2, 7], "oracle": 1})
    >>> curriculum.settings
    {'corridor': [2, 5], 'oracle': 0}
    >>> curriculum.promote([1.0]), curriculum.promote([1.0]), curriculum.settings
    (False, True, {'corridor': [2, 7], 'oracle': 0})
    >>> curriculum.promote([1.0, 1.0]), curriculum.settings
    (True, {'corridor': [2, 7], 'oracle': 1})
    """

    def __init__(self, options: CurriculumOptions, *, env: Mapping[str, Any]) -> None:
        for role, name in (("option", options.option), *(("aids", name) for name in options.aids)):
            if name not in env:
                raise UserError(f"curriculum.{role} {name!r} is not among the settings of env: {', '.join(env)}")
        target = env[options.option]
        pair = isinstance(target, list | tuple) and len(target) == 2
        if not all(isinstance(number, int | float) for number in (target if pair else [target])):
            raise UserError(
                f"env's {options.option!r} must be a number or a pair for the curriculum to grow, got {target!r}"
            )
        self.options, self.target = options, target
        self.level = min(options.start, self._goal)
        self.withdrawn = {name: env[name] for name in options.aids}
        self.aided = bool(options.aids)
        self.successes: deque[float] = deque(maxlen=options.window)

    @property
    def _goal(self) -> float:
        return self.target[1] if isinstance(self.target, list | tuple) else self.target

    @property
    def settings(self) -> dict[str, Any]:
        """What the environment's options are to be set to: a number rounded down where the target is an int."""
        level = int(self.level) if isinstance(self._goal, int) else self.level
        value = [min(self.target[0], level), level] if isinstance(self.target, list | tuple) else level
        return {self.options.option: value, **(self.options.aids if self.aided else self.withdrawn)}

    def promote(self, successes: list[float]) -> bool:
        """Take the successes of episodes that ended; say whether the level has risen, or the aids were withdrawn.

        Where the environment tells no success (NaN), it never does.
        """
        self.successes.extend(successes)
        full = len(self.successes) == self.options.window
        earned = full and sum(self.successes) >= self.options.success * self.options.window
        grown = self.level >= self._goal
        if not earned or (grown and not self.aided):
            return False
        if grown:
            self.aided = False
        self.level = min(self.level * self.options.factor, self._goal)
        self.successes.clear()
        return True

    def state_dict(self) -> dict[str, Any]:
        """Hold the level, whether aids are given, and the successes since then."""
        return {"level": self.level, "aided": self.aided, "successes": list(self.successes)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        self.level, self.aided = saved["level"], saved["aided"]
        self.successes.clear()
        self.successes.extend(saved["successes"])
