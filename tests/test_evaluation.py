"""Evaluation: reading ahead changes nothing, and every door, grid and mistake gives what it should."""

import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
import yaml
from gymnasium.envs.classic_control import CartPoleEnv

from recurra import agents
from recurra.agents import ActorCritic, Reader
from recurra.envs import Streams, TMazeVector, make_streams
from recurra.errors import UserError
from recurra.recipes import evaluate, train
from recurra.recipes.evaluation import play
from recurra.recipes.rollout import Episode


class Unforetold(TMazeVector):
    """The same mazes, which keep to themselves what comes."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("forecast", "advance"):
            raise AttributeError(name)
        return super().__getattribute__(name)


class Watched(TMazeVector):
    """The same mazes, which count how they are stepped."""

    calls = 0
    walked = 0

    def step(self, actions: Any) -> Any:
        self.calls += 1
        return super().step(actions)

    def advance(self, counts: Any) -> Any:
        self.walked += int(counts.sum())
        return super().advance(counts)


def mazes(kind: type[TMazeVector], count: int, corridor: Any) -> Streams:
    return Streams(kind(num_envs=count, corridor=corridor))


def make_agent(*, memory: str, seed: int, straight: bool, **options: bool) -> ActorCritic:
    """Give an agent of random weights: one that walks right or one that dithers, until the junction shows."""
    streams = mazes(TMazeVector, 1, 1)
    torch.manual_seed(seed)
    agent = (
        ActorCritic(streams.observation_space, streams.action_space, memory=memory, dim=16, **options).double().eval()
    )
    with torch.no_grad():
        agent.actor.weight.normal_()
        if straight:  # only the junction, and what is remembered of it, may turn it
            agent.actor.weight.mul_(0.01)
            agent.actor.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    return agent


def played(agent: ActorCritic, kind: type[TMazeVector], corridor: Any, episodes: int, count: int) -> list[Episode]:
    with torch.inference_mode():
        found = play(agent, mazes(kind, count, corridor), episodes=episodes, seed=5)
    # Rewards are summed in another order when many steps are walked at once.
    return sorted(episode._replace(total=round(episode.total, 9)) for episode in found)


@pytest.mark.parametrize("corridor", [1, 2, 7, 40, (1, 9), (3, 40)])
@pytest.mark.parametrize(
    ("memory", "told"), [("gru", ()), ("delta_net", ()), ("gru", ("previous_action", "previous_reward"))]
)
def test_reading_ahead_plays_the_same_episodes_as_stepping(memory: str, told: tuple[str, ...], corridor: Any) -> None:
    totals = set()
    for seed in range(4):
        for straight in (True, False):
            agent = make_agent(memory=memory, seed=seed, straight=straight, **dict.fromkeys(told, True))
            ahead = played(agent, TMazeVector, corridor, 13, 13)
            assert ahead == played(agent, Unforetold, corridor, 13, 13)
            assert len(ahead) == 13
            totals |= {episode.total for episode in ahead}
    assert len(totals) > 1


@pytest.mark.parametrize("straight", [True, False])
def test_one_maze_plays_the_same_episodes_one_after_another(straight: bool) -> None:
    # With several mazes, which begins its second episode first, and so which draw it gets, depends on the stepping.
    agent = make_agent(memory="delta_net", seed=1, straight=straight)
    assert played(agent, TMazeVector, (1, 30), 12, 1) == played(agent, Unforetold, (1, 30), 12, 1)


def test_reading_ahead_saves_steps() -> None:
    for told in ({}, {"previous_action": True}, {"previous_reward": True}):
        agent = make_agent(memory="gru", seed=0, straight=True, **told)
        streams = mazes(Watched, 4, 40)
        with torch.inference_mode():
            play(agent, streams, episodes=8, seed=0)
        assert isinstance(streams.env, Watched)
        assert streams.env.walked >= 8 * 40
        assert streams.env.calls < 40


def test_an_agent_that_lags_is_charged_for_it() -> None:
    agent = make_agent(memory="gru", seed=0, straight=True)
    with torch.no_grad():
        agent.actor.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0]))  # always left
    for episode in played(agent, TMazeVector, 7, 6, 3):
        assert episode == Episode(pytest.approx(-1.0), 8, 0.0)


@pytest.mark.parametrize(("episodes", "count"), [(1, 1), (5, 5), (7, 3), (2, 2), (20, 6)])
@pytest.mark.parametrize("name", ["recurra/TMaze-v0", "CartPole-v1"])
def test_exactly_as_many_episodes_as_asked_for(name: str, episodes: int, count: int) -> None:
    streams = make_streams(name, count)
    agent = ActorCritic(streams.observation_space, streams.action_space, memory="gru", dim=8)
    with torch.inference_mode():
        assert len(play(agent, streams, episodes=episodes, seed=0)) == episodes
    streams.close()


# --- the door ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three short runs: the T-Maze with two memories, and a pole."""
    root = str(tmp_path_factory.mktemp("runs"))
    small: dict[str, Any] = {
        "steps": 512,
        "environments": 8,
        "dim": 8,
        "ppo.rollout": 16,
        "ppo.sequence": 16,
        "checkpoint_every": 1,
        "threads": 1,
    }
    maze = {**small, "env.corridor": 2, "curriculum": None}
    return {
        "maze": train("tmaze", root=root, memory="gru", **maze)["run"],
        "other": train("tmaze", root=root, memory="none", **maze)["run"],
        "pole": train("gym", root=root, memory="gru", **small)["run"],
    }


FIGURES = {
    "run",
    "memory",
    "env",
    "episodes",
    "success_rate",
    "mean_return",
    "std_return",
    "mean_length",
    "seconds",
    "steps_per_second",
}
CLOCK = {"seconds", "steps_per_second", "run"}


def timeless(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: figure for name, figure in row.items() if name not in CLOCK} for row in result["rows"]]


def test_a_run_is_measured_where_it_was_trained(trained: dict[str, str]) -> None:
    result = evaluate(trained["maze"], episodes=9)
    (row,) = result["rows"]
    assert set(row) == FIGURES
    assert result["run"] == trained["maze"]
    assert (row["env"], row["episodes"], row["memory"], row["mean_length"]) == ("recurra/TMaze-v0", 9, "gru", 3.0)
    assert {name: result[name] for name in result if name != "rows"} == {
        name: row[name] for name in ("run", "env", "episodes", "success_rate", "mean_return", "std_return")
    }
    json.dumps(result, allow_nan=False)
    assert timeless(evaluate(trained["maze"], episodes=9)) == timeless(result)


def test_success_is_told_only_where_the_environment_tells_it(trained: dict[str, str]) -> None:
    result = evaluate(trained["pole"], episodes=3)
    assert result["success_rate"] is None
    assert result["mean_return"] == result["rows"][0]["mean_length"] >= 5


def test_every_door_finds_the_same_agent(trained: dict[str, str]) -> None:
    folder = trained["maze"]
    figures = timeless(evaluate(folder, episodes=20))
    assert timeless(evaluate(f"{folder}/last.ckpt", episodes=20)) == figures
    maze = {"id": "recurra/TMaze-v0", "corridor": 2}
    assert timeless(evaluate(f"{folder}/agent", env=maze, episodes=20)) == figures


def test_a_grid_of_two_runs(trained: dict[str, str]) -> None:
    runs = [trained["maze"], trained["other"]]
    result = evaluate(runs, grid={"corridor": [1, 5]}, episodes=6)
    assert [(row["run"], row["memory"], row["corridor"], row["mean_length"]) for row in result["rows"]] == [
        (runs[0], "gru", 1, 2.0),
        (runs[0], "gru", 5, 6.0),
        (runs[1], "none", 1, 2.0),
        (runs[1], "none", 5, 6.0),
    ]
    assert all(set(row) == FIGURES | {"corridor"} for row in result["rows"])
    assert result["run"] == runs[0]


def test_actions_are_drawn_by_the_seed(trained: dict[str, str]) -> None:
    def drawn(seed: int) -> float:
        return evaluate(trained["pole"], episodes=8, sample=True, seed=seed)["mean_return"]

    assert drawn(0) == drawn(0) != drawn(1)
    assert drawn(0) != evaluate(trained["pole"], episodes=8)["mean_return"]
    maze = evaluate(trained["maze"], env={"corridor": 30}, episodes=8, sample=True)["rows"][0]
    assert maze["mean_length"] == 31  # an untrained agent dithers, drawn or not, until the time is over


def test_options_go_on_top_of_those_of_training(trained: dict[str, str]) -> None:
    result = evaluate(trained["maze"], env={"corridor": 11}, episodes=4)
    assert result["rows"][0]["mean_length"] == 12.0


def test_a_report(trained: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "a" / "report"
    runs = [trained["maze"], trained["other"]]
    result = evaluate(runs, grid={"corridor": [1, 100]}, episodes=4, report=str(folder))
    assert Path(result["report"]) == folder / "index.html"
    page = (folder / "index.html").read_text()
    assert page.count("<tr>") == 5
    assert all(f"<th>{name}</th>" in page for name in ("corridor", "success rate", "mean return"))
    assert runs[0] in page
    for name in ("plot.svg", "memory.svg"):
        assert f'src="{name}"' in page
        assert "<svg" in (folder / name).read_text()


def test_a_report_without_a_grid_or_pictures(trained: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    evaluate(trained["pole"], episodes=2, report=str(tmp_path))
    assert "<table>" in (tmp_path / "index.html").read_text()
    assert not (tmp_path / "plot.svg").exists()


# --- mistakes ---


def refused(runs: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        evaluate(runs, **{"episodes": 2, **options})
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_counts_below_one(trained: dict[str, str]) -> None:
    assert "at least 1" in refused(trained["maze"], episodes=0)
    assert "at least 1" in refused(trained["maze"], environments=0)


class ThreeWays(CartPoleEnv):
    """A pole that looks the same and takes one action more."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.action_space = gymnasium.spaces.Discrete(3)


gymnasium.register("ThreeWays-v0", entry_point=ThreeWays)


def test_an_environment_of_other_spaces(trained: dict[str, str]) -> None:
    line = refused(trained["pole"], env={"id": "Acrobot-v1"})
    assert trained["pole"] in line
    assert "was trained with observation space Box" in line
    line = refused(trained["pole"], env={"id": "ThreeWays-v0"})
    assert "was trained with action space Discrete(2), this environment has Discrete(3)" in line


def test_misspelt_options_and_ids(trained: dict[str, str]) -> None:
    assert "takes no option 'coridor': did you mean 'corridor'?" in refused(trained["maze"], env={"coridor": 3})
    assert "takes no option 'coridor'" in refused(trained["maze"], grid={"coridor": [3]})
    assert "corridor must be" in refused(trained["maze"], env={"corridor": 0})
    assert "there is no environment 'CartPol-v1'" in refused(trained["pole"], env={"id": "CartPol-v1"})


def test_an_agents_folder_away_from_its_run_says_not_what_it_was_trained_in(
    trained: dict[str, str], tmp_path: Path
) -> None:
    assert evaluate(f"{trained['maze']}/agent", episodes=1)["env"] == "recurra/TMaze-v0"
    alone = shutil.copytree(f"{trained['maze']}/agent", tmp_path / "away" / "agent")
    assert "name it with --env.id" in refused(str(alone))


def test_a_report_where_a_file_is(trained: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "taken").write_text("")
    assert "is a file: name a folder for the report" in refused(trained["maze"], report=str(tmp_path / "taken"))
    assert "is a file: name a folder for the report" in refused(trained["maze"], report=str(tmp_path / "taken" / "a"))
    refused(trained["maze"], report=str(tmp_path / "new"), grid={"corridor": [5, -1]})
    assert not (tmp_path / "new").exists()  # the mistake was told before the work


def test_checkpoints_that_are_damaged_or_missing(trained: dict[str, str], tmp_path: Path) -> None:
    whole = Path(trained["maze"], "last.ckpt").read_bytes()
    for damage in (b"", b"no checkpoint", whole[:1000], whole[:-2000]):
        (tmp_path / "last.ckpt").write_bytes(damage)
        assert "is damaged or no checkpoint" in refused(str(tmp_path / "last.ckpt"))
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    assert "is damaged or no checkpoint" in refused(str(tmp_path / "foreign.ckpt"))
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        evaluate(str(tmp_path / "nowhere.ckpt"))
    with pytest.raises(FileNotFoundError, match="no such agent"):
        evaluate(str(tmp_path / "nowhere"))


def test_a_run_whose_config_is_damaged(trained: dict[str, str], tmp_path: Path) -> None:
    agents.save(agents.load(trained["maze"]), tmp_path / "agent")
    for content in ("", "env: [", "env: 3", "steps: 3", yaml.safe_dump({"env": None})):
        (tmp_path / "config.yaml").write_text(content)
        assert "config.yaml is damaged" in refused(str(tmp_path))


def test_a_reader_acts_in_no_environment(tmp_path: Path) -> None:
    agents.save(Reader(memory="gru", dim=8, layers=1), tmp_path)
    assert f"{tmp_path} is a reader" in refused(str(tmp_path))
