"""A world as text, in the symbols of maps."""

import numpy as np

from recurra.envs.grid.steps import Frame


def picture(frame: Frame) -> str:
    r"""Draw agents as a to z (and a again), goals as capitals; an agent hides what lies beneath it.

    >>> from recurra.envs.grid import GridWorlds
    >>> worlds = GridWorlds(maps="a.#\n..A")
    >>> _ = worlds.step(np.array([[4]]))
    >>> print(picture(worlds.frame(0)), end="")
    .a#
    ..A
    """
    cells = np.where(frame.map.obstacles, "#", ".")
    for first, places in (("A", frame.goals), ("a", frame.places)):
        for agent in np.flatnonzero(frame.present)[::-1]:
            cells[tuple(places[agent])] = chr(ord(first) + agent % 26)
    return "".join("".join(row) + "\n" for row in cells)
