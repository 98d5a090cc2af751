"""SRMT's evaluation of teams: corridors of growing lengths, between rooms that two agents have to change."""

from typing import Any

from recurra.errors import UserError
from recurra.recipes.teams import Cell

LENGTHS = (*range(3, 51), *range(100, 1001, 100))
"""Of the corridors (Sagirova et al. 2025, arXiv 2501.13200), 10 episodes each."""

EPISODES = 10

ID = "recurra/Bottleneck-v0"

_DRAWN = 60
"""Longer corridors are not drawn in reports."""


def cells(run: str, options: dict[str, Any], *, lengths: list[Any] | None, episodes: int | None) -> list[Cell]:
    """Give what a team is measured in: at each length L episodes of 2 L + 100 steps at most.

    Args:
        run: whose.
        options: the worlds' that it was trained in, and what was given on top.
        lengths: of corridors; None is `LENGTHS`.
        episodes: at each length, of as many seeds; None is 10.

    Raises:
        UserError: if there is no such length, or the worlds are no corridors.
    """
    options = {"id": ID, **options}
    if options.get("maps", "bottleneck") != "bottleneck" or options["id"] != ID:
        raise UserError(f"{run} was trained in {options['id']}: --env.id {ID} measures it in another")
    lengths = list(LENGTHS) if lengths is None else lengths
    for length in lengths:
        if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length <= 10_000:
            raise UserError(f"lengths are whole numbers from 1 to 10000, such as --lengths 30,400; got {length!r}")
    of_map = options.get("options") or {}
    return [
        Cell(
            {"length": length},
            {**options, "options": {**of_map, "corridor": length}, "horizon": None},
            EPISODES if episodes is None else episodes,
            drawn=length <= _DRAWN,
        )
        for length in lengths
    ]
