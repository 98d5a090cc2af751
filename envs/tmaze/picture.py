"""A T-Maze as text."""


def picture(x: int, y: int, *, length: int, oracle: int = 0, cue: int = 0) -> str:
    """Draw a maze in three lines; of a long corridor only the ends and the agent's surroundings.

    ``@`` is the agent, ``o`` an arm, ``+`` the junction, ``?`` the oracle of an active maze.

    >>> print(picture(0, 0, length=4, oracle=1), end="")
         o
    ?@...+
         o

    Args:
        x: the agent's place along the corridor, which goes from minus ``oracle`` to ``length``.
        y: 1 in the upper arm, -1 in the lower, 0 in the corridor.
        length: of the corridor.
        oracle: how far behind the start the cue is.
        cue: 1 or -1 where it shows now, else 0.
    """
    near = 8
    centres = (-oracle, 0, x, length)
    cells = sorted({cell for at in centres for cell in range(max(-oracle, at - near), min(length, at + near) + 1)})
    corridor, before = "", -oracle - 1
    for cell in cells:
        if cell > before + 1:
            corridor += f" ({cell - before - 1} more) "
        here = (cell, 0) == (x, y)
        corridor += "@" if here else "+" if cell == length else "?" if cell == -oracle < 0 else "."
        before = cell
    margin = " " * (len(corridor) - 1)
    up, down = ("@" if y == arm else "o" for arm in (1, -1))
    told = {1: "  the cue: up", -1: "  the cue: down", 0: ""}[cue]
    return f"{margin}{up}\n{corridor}{told}\n{margin}{down}\n"
