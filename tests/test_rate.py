"""RATE's frame: one function of pieces and of steps, whatever memory reads, with everything in the state."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra import agents
from recurra.agents import RATE
from recurra.errors import UserError
from recurra.memory import state as states

MEMORIES = {
    "rate": {"segment": 9, "slots": 2},
    "elmur": {"segment": 6, "slots": 2},
    "attention": {},
    "window": {"window": 6},
    "gated_delta_net": {"heads": 2},
    "lstm": {},
    "none": {},
}
TOKENS = [{}, {"returns": False}, {"actions": False}, {"returns": False, "actions": False}]
SPACES = {
    "plane": (spaces.Box(-1, 1, (4,)), spaces.Discrete(4, start=-1)),
    "picture": (spaces.Box(0, 255, (7, 7, 3), np.uint8), spaces.Box(-1, 1, (2,))),
    "parts": (spaces.Dict(place=spaces.Box(-1, 1, (2,)), colour=spaces.Discrete(3)), spaces.MultiDiscrete([3, 2])),
}


def make(memory: str = "rate", space: str = "plane", **options: Any) -> RATE:
    torch.manual_seed(0)
    agent = RATE(*SPACES[space], memory=memory, dim=16, memory_options=MEMORIES[memory], **options).eval()
    with torch.no_grad():  # a fresh actor is nearly indifferent
        agent.actor.weight.mul_(100)
    return agent


def draw(agent: RATE, batch: int, time: int) -> list[torch.Tensor]:
    """Random leaves of observations, previous actions and rewards, ``(batch, time, ...)``."""
    shown = [agent.observation_space.sample() for _ in range(batch * time)]
    leaves = [agent.observe(one) for one in shown]
    seen = [torch.stack(parts).unflatten(0, (batch, time)) for parts in zip(*leaves, strict=True)]
    done = torch.stack([agent.actions.from_environment(np.asarray(agent.action_space.sample())) for _ in shown])
    before = agent.actions.features(done).unflatten(0, (batch, time))
    return [*seen, *[before] * agent.previous_action, *[torch.rand(batch, time)] * agent.previous_reward]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(list(MEMORIES)), st.sampled_from(TOKENS), st.sampled_from(list(SPACES)), st.integers(0, 10**6),
    st.lists(st.integers(0, 11), max_size=3).map(sorted),
)  # fmt: skip
@torch.no_grad()
def test_pieces_and_steps_are_one_function(memory, tokens, space, seed, cuts):
    agent = make(memory, space, **tokens).double()
    torch.manual_seed(seed)
    agent.observation_space.seed(seed)
    agent.action_space.seed(seed)
    leaves = draw(agent, 3, 11)
    first, present = torch.rand(3, 11) < 0.15, torch.rand(3, 11) < 0.8
    first[:, 0] = True
    whole, _ = agent(tuple(leaves), first=first, present=present)
    state, pieces = None, []
    for begin, end in zip((0, *cuts), (*cuts, 11), strict=True):
        part = slice(begin, end)
        flags = {"first": first[:, part], "present": present[:, part]}
        choice, state = agent(tuple(leaf[:, part] for leaf in leaves), state, **flags)
        pieces.append(choice.numbers)
    steps, state = [], agent.begin(3)
    for t in range(11):
        flags = {"first": first[:, t], "present": present[:, t]}
        choice, state = agent.step(tuple(leaf[:, t] for leaf in leaves), state, **flags)
        steps.append(choice.numbers)
    for other in (torch.cat(pieces, 1), torch.stack(steps, 1)):
        torch.testing.assert_close(other[present], whole.numbers[present], rtol=1e-9, atol=1e-9)


def test_what_is_still_to_come_is_the_target_less_what_was_earned_in_the_episode():
    agent = make(target=10.0)
    earned = torch.tensor([[5.0, 1.0, 2.0, 7.0, 0.5], [0.0, 1.0, 1.0, 1.0, 1.0]])  # each after the step before
    first = torch.tensor([[True, False, False, True, False], [False] * 5])
    present = torch.tensor([[True] * 5, [True, True, False, True, True]])
    before = torch.tensor([3.0, 4.0])
    to_go = agent._to_go(earned, before, first, present)
    assert to_go.tolist() == [[10.0, 9.0, 7.0, 10.0, 9.5], [4.0, 3.0, 3.0, 2.0, 1.0]]


@torch.no_grad()
def test_acting_reads_the_tokens_of_the_decision_transformer(monkeypatch):
    """R_0 o_0 a_0 R_1 o_1 a_1 …: what the memory is given, step by step, but for the absent action before the first."""
    agent = make("none")
    read: list[torch.Tensor] = []
    forward = agent.memory.forward

    def watched(x, *rest, present=None, **named):
        read.extend(x[0, present[0]] if present is not None else x[0])
        return forward(x, *rest, present=present, **named)

    monkeypatch.setattr(agent.memory, "forward", watched)
    shown, rewards, state, done = torch.rand(4, 4), [0.0, 0.25, 0.0, 0.5], None, []
    for step, obs in enumerate(shown):
        action, state = agent.act(obs, state, step == 0, rewards[step])
        done.append(int(action) + 1)
    wanted, to_go = [], 1.0
    for step, obs in enumerate(shown):
        to_go -= rewards[step]
        wanted += [agent.returns(torch.tensor([to_go])), agent.encoder((obs,))]
        wanted.append(agent.action(torch.eye(4)[done[step]]))
    torch.testing.assert_close(torch.stack(read), torch.stack(wanted[:-1]))


@pytest.mark.parametrize("memory", [name for name in MEMORIES if name != "attention"])
def test_the_state_does_not_grow(memory):
    agent = make(memory)
    state, sizes = None, set()
    for step in range(30):
        _, state = agent.act(np.zeros((2, 4), np.float32), state, np.full(2, step == 0), np.zeros(2))
        sizes.add(states.nbytes(state))
    assert len(sizes) == 1


@pytest.mark.parametrize("space", SPACES)
def test_an_agent_acts_the_same_after_a_folder_on_disk(space, tmp_path):
    agent = make("rate", space, target=3.0, scale=2.0)
    agent.target = 5.0
    agents.save(agent, tmp_path)
    again = agents.load(tmp_path)
    assert isinstance(again, RATE)
    assert again.config == agent.config
    obs = agent.observation_space.sample()
    one, state = agent.act(obs)
    other, same = again.act(obs)
    np.testing.assert_array_equal(one, other)
    assert state.memory.to_go.item() == same.memory.to_go.item() == 5.0
    with pytest.raises(UserError, match="told its rewards"):
        agent.act(obs, state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": "srmt"}, "srmt is shared by a team, and this agent acts alone"),
        ({"scale": 0.0}, "a scale of more than 0, got 0.0"),
        ({"memory_options": {"slot": 3}}, "memory rate has no option 'slot'; did you mean 'slots'"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(options, message):
    with pytest.raises(UserError, match=message):
        RATE(*SPACES["plane"], **options)
