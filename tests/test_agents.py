"""Agents: one function of pieces and of steps, deployed with `act`, and the same after a folder on disk."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra import agents
from recurra.agents import ActorCritic
from recurra.agents import spaces as space_tools
from recurra.agents.actions import Actions
from recurra.agents.encoder import OneHot, Picture
from recurra.agents.spaces import tensors
from recurra.errors import UserError
from recurra.memory.state import fields, transform

LEADS = st.lists(st.integers(1, 3), max_size=2).map(tuple)
PLANE = spaces.Box(-1.0, 1.0, (2,), np.float32)
SPACES: dict[str, tuple[spaces.Space, spaces.Space]] = {
    "box": (PLANE, spaces.Discrete(4)),
    "discrete": (spaces.Discrete(5, start=2), spaces.Discrete(3, start=-1)),
    "picture": (spaces.Box(0, 255, (3, 4, 2), np.uint8), spaces.Box(-0.1, 0.1, (2,), np.float32)),
    "channels first": (spaces.Box(0, 255, (1, 9, 6), np.uint8), spaces.Box(-1, 1, (2, 1), np.float32)),
    "grey": (spaces.Box(0, 255, (11, 5), np.uint8), spaces.Box(0, 9, (3,), np.int64)),
    "bytes": (spaces.Box(0, 255, (5,), np.uint8), spaces.Box(-1, 1, (), np.float32)),
    "whole numbers": (spaces.Box(-9, 9, (2, 2), np.int16), spaces.MultiBinary((2, 2))),
    "many": (spaces.MultiDiscrete([[2, 3], [4, 1]]), spaces.MultiDiscrete([3, 2, 5])),
    "binary": (spaces.MultiBinary(3), spaces.MultiDiscrete([[2, 3], [4, 1]])),
    "tuple": (spaces.Tuple([spaces.Discrete(3, start=1), spaces.MultiDiscrete([2, 2]), PLANE]), spaces.MultiBinary(2)),
    "dict": (
        spaces.Dict(
            camera=spaces.Box(0, 255, (4, 5, 3), np.uint8),
            body=spaces.Dict(angle=spaces.Box(-1, 1, (), np.float64), hands=spaces.Tuple([PLANE, spaces.Discrete(2)])),
            flags=spaces.MultiBinary(2),
        ),
        spaces.Discrete(3),
    ),
    "scalar": (spaces.Box(-np.inf, np.inf, (), np.float64), spaces.Discrete(2)),
    "unbounded": (spaces.Box(-np.inf, 1.0, (2,), np.float32), spaces.Box(-np.inf, np.inf, (1,), np.float64)),
}


def make(name: str, **options: Any) -> ActorCritic:
    torch.manual_seed(0)
    agent = ActorCritic(*SPACES[name], **{"memory": "gru", "dim": 16, **options}).eval()
    with torch.no_grad():  # a fresh actor is nearly indifferent
        agent.actor.weight.mul_(100)
    return agent


def draw(name: str, *shape: int) -> tuple[torch.Tensor, ...]:
    """Give observations of a space, leaves ``(*shape, *leaf_shape)``."""
    return stacked([tensors(SPACES[name][0], sample) for sample in samples(name, math.prod(shape))], *shape)


def samples(name: str, count: int) -> list[Any]:
    space = SPACES[name][0]
    space.seed(3)
    return [space.sample() for _ in range(count)]


def stacked(leaves: list[tuple[torch.Tensor, ...]], *shape: int) -> tuple[torch.Tensor, ...]:
    return transform(lambda *leaf: torch.stack(leaf).reshape(*shape, *leaf[0].shape), *leaves)


def at(obs: tuple[torch.Tensor, ...], *index: Any) -> tuple[torch.Tensor, ...]:
    return transform(lambda leaf: leaf[index], obs)


@pytest.mark.parametrize("memory", ["gru", "delta_net"])
@pytest.mark.parametrize("name", SPACES)
def test_a_piece_is_its_steps(name: str, memory: str) -> None:
    agent = make(name, memory=memory, layers=2).double()
    obs, first = draw(name, 3, 13), torch.rand(3, 13) < 0.2
    whole, end = agent(obs, first=first)
    actions = whole.policy.sample()
    state = None
    for time in range(13):
        output, state = agent.step(at(obs, slice(None), time), state, first=first[:, time])
        torch.testing.assert_close(output.value, whole.value[:, time])
        log_prob = output.policy.log_prob(actions[:, time])
        torch.testing.assert_close(log_prob, whole.policy.log_prob(actions)[:, time])
        torch.testing.assert_close(output.policy.entropy(), whole.policy.entropy()[:, time])
    assert whole.value.shape == (3, 13)
    for (_, one), (_, other) in zip(fields(state), fields(end), strict=True):
        torch.testing.assert_close(one, other)


def test_an_absent_observation_leaves_no_trace() -> None:
    agent = make("box")
    obs = draw("box", 2, 4)
    present = torch.tensor([[True, False, True, True], [True, True, True, True]])
    output, state = agent(obs, present=present)
    without, _ = agent(at(obs, slice(1), [0, 2, 3]))
    torch.testing.assert_close(output.value[0, present[0]], without.value[0])
    stepped, after = agent.step(at(obs, slice(None), 0), state, present=torch.tensor([False, True]))
    for (_, before), (_, now) in zip(fields(state), fields(after), strict=True):
        assert torch.equal(before[0], now[0])
        assert not torch.equal(before[1], now[1])
    assert stepped.value.shape == (2,)


@pytest.mark.parametrize("name", SPACES)
def test_act_takes_arrays_and_tensors_batches_and_single_observations(name: str) -> None:
    agent = make(name)
    singles, space = samples(name, 3), agent.action_space
    together = create_empty_array(agent.observation_space, n=3)
    together = concatenate(agent.observation_space, singles, together)
    batch, state = agent.act(together)
    assert isinstance(batch, np.ndarray)
    assert batch.shape == (3, *space.shape)
    assert all(space.contains(action) for action in batch)
    single, alone = agent.act(singles[0])
    assert space.contains(single)
    np.testing.assert_allclose(single, batch[0], rtol=1e-5)
    again, _ = agent.act(singles[1], alone)
    assert space.contains(again)
    later, _ = agent.act(together, state)
    assert later.shape == batch.shape


@pytest.mark.parametrize("name", ["box", "discrete", "scalar", "many"])
def test_act_takes_tensors_and_lists_too(name: str) -> None:
    agent = make(name)
    (obs,) = draw(name, 3)
    expected, _ = agent.act(obs.numpy())
    np.testing.assert_array_equal(agent.act(obs)[0], expected)
    np.testing.assert_allclose(agent.act(obs[0].tolist())[0], expected[0], rtol=1e-5)


def test_act_begins_anew_at_first() -> None:
    agent = make("box")
    (obs,) = draw("box", 4)
    _, state = agent.act(obs)
    _, fresh = agent.act(obs)
    _, after = agent.act(obs, state, np.array([True, False, True, False]))
    _, carried = agent.act(obs, state)
    for (_, got), (_, new), (_, old) in zip(*map(fields, (after, fresh, carried)), strict=True):
        torch.testing.assert_close(got[[0, 2]], new[[0, 2]])
        torch.testing.assert_close(got[[1, 3]], old[[1, 3]])
        assert not torch.equal(new, old)
    _, single = agent.act(obs[0])
    _, begun = agent.act(obs[0], single, True)
    _, begun_by_array = agent.act(obs[0], single, np.array([True]))
    for (_, got), (_, same), (_, new) in zip(*map(fields, (begun, begun_by_array, single)), strict=True):
        assert torch.equal(got, same)
        torch.testing.assert_close(got, new)


def test_act_draws_from_the_policy_unless_greedy() -> None:
    agent = make("discrete")
    obs = torch.full((4000,), 3)
    with torch.no_grad():
        agent.actor.weight.zero_()
        agent.actor.bias.copy_(torch.tensor([0.5, 0.3, 0.2]).log())
    greedy, _ = agent.act(obs)
    assert (greedy == -1).all()
    drawn, _ = agent.act(obs, greedy=False)
    shares = [(drawn == action).mean() for action in (-1, 0, 1)]
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.04)


def test_box_actions_are_clipped_to_the_bounds() -> None:
    agent = make("picture")
    with torch.no_grad():
        agent.actor.weight.zero_()
        agent.actor.bias.copy_(torch.tensor([5.0, -5.0]))
    action, _ = agent.act(*draw("picture", 2))
    assert action.dtype == np.float32
    np.testing.assert_array_equal(action, np.float32([[0.1, -0.1]] * 2))


def test_bytes_are_scaled() -> None:
    agent = make("bytes")
    (obs,) = draw("bytes", 2)
    as_bytes, _ = agent.step(obs)
    scaled, _ = agent.step(obs.double() / 255)
    torch.testing.assert_close(as_bytes.value, scaled.value)
    eye = Picture((11, 5))
    white = torch.full((2, 11, 5), 255, dtype=torch.uint8)
    torch.testing.assert_close(eye(white), eye.layers(torch.ones(2, 1, 11, 5)).flatten(1))


def test_a_plain_box_is_encoded_by_one_layer() -> None:
    agent = make("box")
    (obs,) = draw("box", 5)
    weight, bias = agent.encoder.join.weight, agent.encoder.join.bias
    torch.testing.assert_close(agent.encoder((obs,)), torch.tanh(obs @ weight.T + bias))
    torch.testing.assert_close(weight.T @ weight, 2 * torch.eye(2))  # orthogonal, of gain sqrt(2)
    assert sum(parameter.numel() for parameter in agent.encoder.parameters()) == 3 * 16


@pytest.mark.parametrize("name", SPACES)
def test_every_leaf_is_seen(name: str) -> None:
    # A change of any leaf changes what the critic says.
    agent = make(name).double()
    obs, other = draw(name, 8), at(draw(name, 16), slice(8, 16))
    before, _ = agent.step(obs)
    for index, leaf in enumerate(other):
        after, _ = agent.step((*obs[:index], leaf, *obs[index + 1 :]))
        differs = (leaf != obs[index]).reshape(8, -1).any(1)
        assert differs.any()
        assert torch.equal(differs, (after.value - before.value).abs() > 1e-9)


def test_codes_of_whole_numbers() -> None:
    code = OneHot(*space_tools.codes(spaces.MultiDiscrete([[2, 3], [4, 1]])))
    assert code(torch.tensor([[1, 0], [3, 0]])).int().tolist() == [0, 1, 1, 0, 0, 0, 0, 0, 1, 1]
    start = OneHot(*space_tools.codes(spaces.Discrete(5, start=2)))
    assert start(torch.tensor([2, 6])).int().tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert not start(torch.tensor(99)).any()


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 100), width=st.integers(1, 100), channels=st.integers(1, 4), first=st.booleans(), batch=LEADS
)
def test_pictures_of_any_size(height: int, width: int, channels: int, first: bool, batch: tuple[int, ...]) -> None:
    shape = (channels, height, width) if first else (height, width, channels)
    eye = Picture(shape)
    assert eye.width <= 64 * 16
    # Channels are told from height and width where they are fewer than the other end.
    assert eye(torch.zeros(*batch, *shape, dtype=torch.uint8)).shape == (*batch, eye.width)
    if first and channels < width:
        assert next(eye.parameters()).shape[1] == channels


def test_channels_first_and_last_see_the_same() -> None:
    last, first = Picture((9, 6, 3)), Picture((3, 9, 6))
    first.load_state_dict(last.state_dict())
    picture = torch.randint(256, (2, 9, 6, 3), dtype=torch.uint8)
    torch.testing.assert_close(first(picture.movedim(-1, 1)), last(picture))


def test_policies_of_many_choices_are_independent_categoricals() -> None:
    torch.manual_seed(0)
    actions = Actions(spaces.MultiDiscrete([[2, 3], [4, 1]]))
    numbers = torch.randn(7, actions.width, dtype=torch.float64)
    policy = actions.policy(numbers)
    each = [torch.distributions.Categorical(logits=part) for part in numbers.split([2, 3, 4, 1], -1)]
    drawn = policy.sample()
    assert drawn.shape == (7, 2, 2)
    entries = drawn.flatten(1).unbind(1)
    log_prob = sum(one.log_prob(entry) for one, entry in zip(each, entries, strict=True))
    torch.testing.assert_close(policy.log_prob(drawn), log_prob)
    torch.testing.assert_close(policy.entropy(), sum(one.entropy() for one in each))
    assert torch.equal(policy.mode.flatten(1), torch.stack([one.mode for one in each], 1))
    numbers.requires_grad_()
    policy = actions.policy(numbers)
    (policy.log_prob(drawn).sum() + policy.entropy().sum()).backward()
    assert numbers.grad is not None
    assert numbers.grad.isfinite().all()


def test_actions_of_whole_numbers_are_rounded() -> None:
    space = spaces.Box(0, 9, (3,), np.int64)
    np.testing.assert_array_equal(Actions(space).to_environment(torch.tensor([1.6, -3.0, 12.0])), [2, 0, 9])


def test_unsupported_spaces() -> None:
    for observation_space, line in [
        (spaces.Text(3), "observation space: Text is not supported; Box, Discrete, MultiDiscrete and MultiBinary are"),
        (spaces.Dict(a=PLANE, b=spaces.Dict(c=spaces.Sequence(PLANE))), "part b.c: Sequence is not supported"),
        (spaces.Tuple([PLANE, spaces.Graph(PLANE, None)]), "part 1: Graph is not supported"),
        (spaces.Box(-1, 1, (0,)), "hold nothing to see"),
        (spaces.Dict(), "hold nothing to see"),
    ]:
        with pytest.raises(UserError, match=line):
            ActorCritic(observation_space, spaces.Discrete(2))
    with pytest.raises(UserError, match=r"action space: Dict is not supported; Box, .* are$"):
        ActorCritic(PLANE, spaces.Dict(a=spaces.Discrete(2)))
    with pytest.raises(UserError, match="no memory is named 'grü'"):
        ActorCritic(PLANE, spaces.Discrete(2), memory="grü")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"camera": 0}, "'body' is missing"),
        (3, "what was given is not"),
        ({"flags": [0, 1, 1]}, r"part flags have shape \(2,\), with a batch axis or without; got \(3,\)"),
        ({"flags": [[0, 1], [1, 1]]}, r"different batches: \[\(\), \(2,\)\]"),
        ({"body": {"angle": 0.5, "hands": (np.zeros(2),)}}, "what was given is not: zip"),
        ({"flags": "yes"}, "what was given is not"),
    ],
)
def test_observations_of_a_wrong_form(wrong: Any, line: str) -> None:
    (right,) = samples("dict", 1)
    if isinstance(wrong, dict):
        wrong = wrong if "camera" in wrong else {**right, **wrong}
    with pytest.raises(UserError, match=line):
        make("dict").act(wrong)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 2, 2), ()])
def test_observations_of_a_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"observations have shape \(2,\), with a batch axis or without"):
        make("box").act(np.zeros(shape, np.float32))


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("inside", [".", "agent"])
def test_a_folder_gives_back_the_agent_bit_for_bit(name: str, inside: str, tmp_path: Path) -> None:
    agent = make(name, memory="delta_net", layers=2, memory_options={"heads": 2})
    agents.save(agent, tmp_path / inside)
    loaded = agents.load(tmp_path)
    assert isinstance(loaded, ActorCritic)
    assert (loaded.observation_space, loaded.action_space) == SPACES[name]
    assert loaded.config == agent.config
    assert not loaded.training
    weights = loaded.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in agent.state_dict().items())
    (obs,) = samples(name, 1)
    np.testing.assert_array_equal(loaded.act(obs)[0], agent.act(obs)[0])
    assert sorted(path.name for path in (tmp_path / inside).iterdir()) == ["config.json", "model.safetensors"]


def test_the_config_is_strict_json(tmp_path: Path) -> None:
    env = gymnasium.make("CartPole-v1")
    agents.save(ActorCritic(env.observation_space, env.action_space, memory="gru", dim=8), tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads((tmp_path / "config.json").read_text(), parse_constant=refuse)
    assert agents.load(tmp_path).observation_space == env.observation_space


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    agents.save(make("box"), tmp_path / "saved")
    return tmp_path / "saved"


def alter(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def told(path: Path) -> str:
    """Give the line that refuses what lies there."""
    with pytest.raises(UserError) as caught:
        agents.load(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line or "memory" in line
    return line


def test_a_folder_that_is_not_there_or_holds_no_agent(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such agent or run folder"):
        agents.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no agent" in told(tmp_path / "empty")
    (saved / "model.safetensors").unlink()
    assert "holds no agent" in told(saved)


def test_damaged_files(saved: Path, tmp_path: Path) -> None:
    for name, damage in [
        ("config.json", b'{"kind": "Act'),
        ("config.json", b"\xff\xfe\x00"),
        ("model.safetensors", b""),
        ("model.safetensors", (saved / "model.safetensors").read_bytes()[:-100]),
        ("model.safetensors", (saved / "model.safetensors").read_bytes()[:20]),
    ]:
        shutil.copytree(saved, tmp_path / "damaged", dirs_exist_ok=True)
        (tmp_path / "damaged" / name).write_bytes(damage)
        assert "is damaged" in told(tmp_path / "damaged")


def test_a_config_that_does_not_fit(saved: Path) -> None:
    whole = (saved / "config.json").read_text()
    for changes, line in [
        ({"dim": 32}, "does not fit its config"),
        ({"layers": 2}, "does not fit its config"),
        ({"kind": "ActorCrytic"}, "unknown kind 'ActorCrytic'; did you mean 'ActorCritic'"),
        ({"kind": None}, "does not fit its config"),
        ({"tomorrow": 1}, "does not fit its config"),
        ({"observation_space": {"type": "Discrete"}}, "does not fit its config"),
        ({"observation_space": {"type": "Box"}}, "does not fit its config"),
        ({"observation_space": None}, "does not fit its config"),
        ({"observation_space": {"type": "Text"}}, "there is no space of type 'Text'"),
        ({"observation_space": {"type": "Dict", "spaces": []}}, "does not fit its config"),
        ({"memory": "gruu"}, "no memory is named 'gruu'; did you mean 'gru'"),
        ({"memory": "os:system"}, "os:system is no subclass of recurra.memory.Memory"),
        ({"memory": "nowhere.at.all:Memory"}, "could not be imported"),
    ]:
        alter(saved, **changes)
        assert line in told(saved), changes
        (saved / "config.json").write_text(whole)
    for content in ("[1, 2]", "3", "null", '"kind"', "{}"):
        (saved / "config.json").write_text(content)
        assert "does not fit its config" in told(saved)


@pytest.mark.parametrize(
    ("statement", "absent"),
    [("import recurra.agents", ["lightning", "pytorch_lightning", "jsonargparse"]), ("import recurra", ["torch"])],
)
def test_imports_are_light(statement: str, absent: list[str]) -> None:
    code = f"import sys; {statement}; print(sorted(set(sys.modules) & set({absent})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_absent_observations_hold_does_not_matter_not_even_to_gradients() -> None:
    agent = ActorCritic(PLANE, spaces.Discrete(4), memory="gru", dim=8)
    present = torch.tensor([[True, False, True, True, False]])
    obs = torch.rand(1, 5, 2)
    expected, _ = agent(obs[:, [0, 2, 3]])
    output, _ = agent(torch.where(present[..., None], obs, torch.nan), present=present)
    torch.testing.assert_close(output.value[present], expected.value[0])
    output.value[present].sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in agent.parameters())


def test_double_precision_is_kept_on_disk(tmp_path: Path) -> None:
    agent = ActorCritic(PLANE, spaces.Discrete(4), memory="gru", dim=8).double()
    agents.save(agent, tmp_path)
    weights = agents.load(tmp_path).state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in agent.state_dict().items())
