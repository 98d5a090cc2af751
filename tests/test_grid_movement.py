"""Who moves: all agents at once as one after the other. The rules are told here once more, agent by agent."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.envs.grid.movement import COLLISIONS, Floor


def one_by_one(at, wanted, walls):
    """Let each agent enter a cell that is free when its turn comes."""
    at = list(at)
    for agent, cell in enumerate(wanted):
        if cell not in walls and cell not in at:
            at[agent] = cell
    return at


def none_of_two(at, wanted, walls):
    """Let agents enter cells that nobody stands in or wants beside them."""
    return [
        cell if cell not in walls and cell not in at and wanted.count(cell) == 1 else here
        for here, cell in zip(at, wanted, strict=True)
    ]


def one_of_several(at, wanted, walls):
    """Take moves back until no two share a cell, have changed places, or stand in a wall; the first keeps its move."""
    after = [here if cell in walls else cell for here, cell in zip(at, wanted, strict=True)]
    contested = list(after)
    for one in range(len(at)):
        for other in range(one):
            if contested[one] == at[other] and contested[other] == at[one] and at[one] != contested[one]:
                after[one], after[other] = at[one], at[other]
    for agent, cell in enumerate(contested):
        if cell != at[agent] and any(contested[other] == cell and cell != at[other] for other in range(agent)):
            after[agent] = at[agent]
    while True:
        blocked = [
            agent
            for agent, cell in enumerate(after)
            if cell != at[agent] and any(after[other] == at[other] == cell for other in range(len(at)))
        ]
        if not blocked:
            return after
        for agent in blocked:
            after[agent] = at[agent]


RULES = {"priority": one_by_one, "block_both": none_of_two, "soft": one_of_several}


@given(st.sampled_from(sorted(COLLISIONS)), st.integers(0, 2**31), st.integers(1, 24), st.integers(1, 6))
@settings(deadline=None, max_examples=300)
def test_all_at_once(rule, seed, agents, width):
    rng = np.random.default_rng(seed)
    cells = width * 6
    walls = set(np.flatnonzero(rng.random(cells) < 0.15).tolist())
    free = [cell for cell in range(cells) if cell not in walls]
    at = rng.permutation(free)[:agents]
    wanted = np.clip(at + rng.choice([0, -width, width, -1, 1], size=len(at)), 0, cells - 1)
    present = rng.random(len(at)) < 0.9
    floor = Floor(cells)
    there = np.flatnonzero(present)
    floor.enter(there, at[there])
    blocked = np.isin(wanted, sorted(walls))
    still = floor.stays(at, wanted, blocked, present, rule=rule)
    assert still[~present].all()
    after = np.where(still, at, wanted)[there]
    assert after.tolist() == RULES[rule](at[there].tolist(), wanted[there].tolist(), walls)
    assert len(set(after.tolist())) == len(there)


def test_a_queue_of_thousands_moves_as_one():
    """But not if its head stays; and a ring turns."""
    count = 5000
    floor, at = Floor(count + 1), np.arange(count)
    floor.enter(at, at)
    present, free = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
    wanted = at + 1
    assert not floor.stays(at, wanted, free, present, rule="soft").any()
    assert floor.stays(at, wanted, free, present, rule="block_both").tolist() == [True] * (count - 1) + [False]
    assert floor.stays(at, np.minimum(wanted, count - 1), free, present, rule="soft").all()
    assert not floor.stays(at, (at + 1) % count, free, present, rule="soft").any()
    assert floor.stays(at, (at + 1) % count, free, present, rule="priority").all()
