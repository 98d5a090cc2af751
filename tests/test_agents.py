"""Agents: one function of pieces and of steps, deployed with `act`, and the same after a folder on disk."""

import json
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

from recurra import agents
from recurra.agents import ActorCritic
from recurra.errors import UserError
from recurra.memory.state import fields

PLANE = spaces.Box(-1.0, 1.0, (2,), np.float32)
SPACES: dict[str, tuple[spaces.Space, spaces.Space]] = {
    "box": (PLANE, spaces.Discrete(4)),
    "discrete": (spaces.Discrete(5, start=2), spaces.Discrete(3, start=-1)),
    "picture": (spaces.Box(0, 255, (3, 4, 2), np.uint8), spaces.Box(-0.1, 0.1, (2,), np.float32)),
    "scalar": (spaces.Box(-np.inf, np.inf, (), np.float64), spaces.Discrete(2)),
    "unbounded": (spaces.Box(-np.inf, 1.0, (2,), np.float32), spaces.Box(-np.inf, np.inf, (1,), np.float64)),
}


def make(name: str, **options: Any) -> ActorCritic:
    torch.manual_seed(0)
    agent = ActorCritic(*SPACES[name], **{"memory": "gru", "dim": 16, **options}).eval()
    with torch.no_grad():  # a fresh actor is nearly indifferent
        agent.actor.weight.mul_(100)
    return agent


def draw(name: str, *shape: int) -> torch.Tensor:
    """Give observations of a space, ``(*shape, *observation_shape)``."""
    space = SPACES[name][0]
    space.seed(3)
    samples = np.stack([space.sample() for _ in range(int(np.prod(shape)))])
    return torch.from_numpy(samples.reshape(*shape, *space.shape))


@pytest.mark.parametrize("memory", ["gru", "delta_net"])
@pytest.mark.parametrize("name", SPACES)
def test_a_piece_is_its_steps(name: str, memory: str) -> None:
    agent = make(name, memory=memory, layers=2).double()
    obs, first = draw(name, 3, 13), torch.rand(3, 13) < 0.2
    whole, end = agent(obs, first=first)
    state = None
    for time in range(13):
        output, state = agent.step(obs[:, time], state, first=first[:, time])
        torch.testing.assert_close(output.value, whole.value[:, time])
        torch.testing.assert_close(output.policy.mean, whole.policy.mean[:, time], equal_nan=True)
        torch.testing.assert_close(output.policy.entropy(), whole.policy.entropy()[:, time])
    assert whole.value.shape == (3, 13)
    for (_, one), (_, other) in zip(fields(state), fields(end), strict=True):
        torch.testing.assert_close(one, other)


def test_an_absent_observation_leaves_no_trace() -> None:
    agent = make("box")
    obs = draw("box", 2, 4)
    present = torch.tensor([[True, False, True, True], [True, True, True, True]])
    output, state = agent(obs, present=present)
    without, _ = agent(obs[:1, [0, 2, 3]])
    torch.testing.assert_close(output.value[0, present[0]], without.value[0])
    stepped, after = agent.step(obs[:, 0], state, present=torch.tensor([False, True]))
    for (_, before), (_, now) in zip(fields(state), fields(after), strict=True):
        assert torch.equal(before[0], now[0])
        assert not torch.equal(before[1], now[1])
    assert stepped.value.shape == (2,)


@pytest.mark.parametrize("name", SPACES)
def test_act_takes_arrays_and_tensors_batches_and_single_observations(name: str) -> None:
    agent = make(name)
    obs, space = draw(name, 3), agent.action_space
    batch, state = agent.act(obs.numpy())
    same, _ = agent.act(obs)
    assert isinstance(batch, np.ndarray)
    np.testing.assert_array_equal(batch, same)
    assert batch.shape == (3, *space.shape)
    assert all(space.contains(action) for action in batch)
    single, alone = agent.act(obs[0].numpy())
    assert space.contains(single)
    np.testing.assert_allclose(single, batch[0], rtol=1e-5)
    # a number or a list of numbers is an observation too, and a state goes on
    again, _ = agent.act(obs[1].tolist() if obs[1].dtype != torch.uint8 else obs[1].numpy(), alone)
    assert space.contains(again)
    later, _ = agent.act(obs, state)
    assert later.shape == batch.shape


def test_act_begins_anew_at_first() -> None:
    agent = make("box")
    obs = draw("box", 4)
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
    action, _ = agent.act(draw("picture", 2))
    assert action.dtype == np.float32
    np.testing.assert_array_equal(action, np.float32([[0.1, -0.1]] * 2))


def test_bytes_are_scaled() -> None:
    agent = make("picture")
    obs = draw("picture", 2)
    as_bytes, _ = agent.step(obs)
    scaled, _ = agent.step(obs.double() / 255)
    torch.testing.assert_close(as_bytes.value, scaled.value)


def test_unsupported_spaces() -> None:
    with pytest.raises(UserError, match="observation spaces of type Dict are not supported"):
        ActorCritic(spaces.Dict({"a": PLANE}), spaces.Discrete(2))
    with pytest.raises(UserError, match="action spaces of type MultiDiscrete are not supported"):
        ActorCritic(PLANE, spaces.MultiDiscrete([2, 2]))
    with pytest.raises(UserError, match=r"one axis, got shape \(2, 2\)"):
        ActorCritic(PLANE, spaces.Box(-1.0, 1.0, (2, 2)))
    with pytest.raises(UserError, match="no memory is named 'grü'"):
        ActorCritic(PLANE, spaces.Discrete(2), memory="grü")


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
    obs = draw(name, 3)
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
