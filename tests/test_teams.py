"""Teams: streams of grid worlds, agents that share a memory, PPO over them, and SRMT's protocol."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recurra import agents
from recurra.agents import ActorCritic
from recurra.agents.saving import save
from recurra.envs import Teams, make_streams, make_teams
from recurra.envs.grid import pogema_instance, read, validation
from recurra.envs.grid.movement import MOVES
from recurra.errors import UserError
from recurra.memory import state as states
from recurra.recipes import bottleneck, cli, evaluate, pogema, train
from recurra.recipes.ppo import advantages, losses, sequences
from recurra.recipes.rollout import Collector, Rollout
from recurra.recipes.settings import PPOOptions
from recurra.recipes.teams import interval, play

NEAR = "a.A\nB.b"  # goals are so near that somebody arrives by chance
MEMORIES = ("srmt", "pooled_gated_delta_net", "gru", "none")


def worlds(count: int = 4, **options: Any) -> Teams:
    """Teams that meet now and then, arrive, and are cut."""
    return make_teams("recurra/Bottleneck-v0", count, **{"horizon": 14, "maps": NEAR, **options})


def make_agent(teams: Teams, memory: str = "srmt") -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(teams.observation_space, teams.action_space, memory=memory, dim=16, team=True)


def collect(memory: str, steps: int = 48, **options: Any) -> tuple[ActorCritic, Rollout]:
    teams = worlds(**options)
    agent = make_agent(teams, memory)
    torch.manual_seed(1)
    return agent, Collector(teams, seed=0, discount=0.9).collect(agent, steps=steps, sequence=12)


# Streams --------------------------------------------------------------------------------------------------------------


def test_teams_are_the_agents_of_the_vector_environment_side_by_side():
    teams, alone = worlds(3), make_streams("recurra/Bottleneck-v0", 6, horizon=14, maps=NEAR)
    obs, _ = teams.reset(seed=5)
    obs_alone, _ = alone.reset(seed=5)
    rng = np.random.default_rng(0)
    cut = arrived = 0
    for _ in range(120):
        np.testing.assert_array_equal(obs.reshape(obs_alone.shape), obs_alone)
        there = teams.present
        actions = rng.integers(5, size=(3, 2))
        step, step_alone = teams.step(actions), alone.step(actions.reshape(-1))
        np.testing.assert_array_equal(step.reward.reshape(-1), step_alone.reward)
        np.testing.assert_array_equal(step.final_obs.reshape(obs_alone.shape), step_alone.final_obs)
        np.testing.assert_array_equal(np.repeat(step.over, 2), step_alone.over)
        assert not (step.truncated & step.terminated).any()
        assert not ((step.truncated | step.terminated) & ~there).any()  # who is gone ends no more
        cut, arrived = cut + step.truncated.sum(), arrived + step.terminated.sum()
        obs, obs_alone = step.obs, step_alone.obs
    assert cut > 5
    assert arrived > 5


def test_teams_go_on_from_where_they_were_saved():
    teams, other = worlds(), worlds()
    teams.reset(seed=1)
    actions = np.random.default_rng(0).integers(5, size=(60, 4, 2))
    for action in actions[:30]:
        teams.step(action)
    other.load_state_dict(teams.state_dict())
    np.testing.assert_array_equal(other.present, teams.present)
    for action in actions[30:]:
        here, there = teams.step(action), other.step(action)
        np.testing.assert_array_equal(here.obs, there.obs)
        np.testing.assert_array_equal(here.truncated, there.truncated)


def test_the_maps_options_can_be_set_for_episodes_to_come():
    teams = worlds(maps="bottleneck", options={"corridor": 1})
    teams.set("corridor", 6)
    teams.set("horizon", 3)
    teams.reset(seed=0)
    assert {map.name for map in teams.env.maps} == {"bottleneck-6"}
    assert not any(teams.step(np.zeros((4, 2), int)).over.any() for _ in range(2))
    assert teams.step(np.zeros((4, 2), int)).over.all()
    with pytest.raises(UserError, match="did you mean 'corridor'"):
        teams.set("coridor", 6)


# Agents ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_team_acts_together_or_as_a_batch_and_is_saved(memory: str, tmp_path: Path):
    teams = worlds()
    agent = make_agent(teams, memory).eval()
    save(agent, tmp_path)
    loaded: Any = agents.load(tmp_path)
    obs, _ = teams.reset(seed=0)
    action, state = agent.act(obs)
    assert action.shape == (4, 2)
    again, _ = loaded.act(obs)
    np.testing.assert_array_equal(again, action)
    one, one_state = agent.act(obs[1])
    np.testing.assert_array_equal(one, action[1])
    present = np.array([[True, False]] * 4)
    followed, _ = agent.act(obs, state, present=present)
    alone, _ = agent.act(obs[1], one_state, present=present[1])
    np.testing.assert_array_equal(alone, followed[1])
    with pytest.raises(UserError, match="axes of a batch and of agents"):
        agent.act(obs[0, 0])


def test_the_residual_encoder_has_the_papers_sizes_and_learns_from_who_is_there():
    teams = worlds()
    options: dict[str, Any] = {"memory": "srmt", "dim": 16, "team": True, "encoder": "residual"}
    agent = ActorCritic(teams.observation_space, teams.action_space, **options, encoder_options={"filters": 8})
    # A layer of 3 to 8 filters and a block of two layers, 3 by 3 and a bias each; 8 filters of 5 by 5 cells to 16.
    sizes = [(3 * 9 + 1) * 8, 2 * (8 * 9 + 1) * 8, (8 * 25 + 1) * 16]
    assert sum(weight.numel() for weight in agent.encoder.parameters()) == sum(sizes)
    seen = torch.randn(4, 2, 3, 5, 5, requires_grad=True)
    present = torch.tensor([[True, False]] * 4)
    holes = seen.masked_fill(~present[..., None, None, None], math.nan)
    features = agent.encoder((holes,), present=present)
    torch.testing.assert_close(features[:, 0], agent.encoder((seen,))[:, 0])
    grads = torch.autograd.grad(features.sum(), list(agent.encoder.parameters()))
    assert all(bool(grad.isfinite().all()) and bool(grad.any()) for grad in grads)
    with pytest.raises(UserError, match="there is no encoder 'residul'; did you mean 'residual'"):
        ActorCritic(teams.observation_space, teams.action_space, **options | {"encoder": "residul"})
    with pytest.raises(UserError, match="has no 'filter'"):
        ActorCritic(teams.observation_space, teams.action_space, **options, encoder_options={"filter": 8})
    with pytest.raises(UserError, match="is of planes of numbers"):
        ActorCritic(teams.action_space, teams.action_space, **options)


def test_teams_of_other_sizes_act_by_the_same_weights():
    teams = worlds(maps="bottleneck", agents=6)
    obs, _ = teams.reset(seed=0)
    for memory in MEMORIES:
        action, _ = make_agent(worlds(), memory).act(obs)
        assert action.shape == (4, 6)


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_rollout_is_what_one_reading_of_its_sequences_says(memory: str):
    agent, rollout = collect(memory)
    assert not rollout.present.all()
    assert rollout.ends.any()
    for index, start in enumerate(rollout.starts):
        part = slice(12 * index, 12 * (index + 1))
        with torch.no_grad():
            output, _ = agent(
                states.transform(lambda leaf, part=part: leaf[:, part], rollout.tokens),
                start,
                first=rollout.first[:, part],
                present=rollout.present[:, part],
            )
        there = rollout.present[:, part]
        read = output.policy.log_prob(rollout.actions[:, part])
        torch.testing.assert_close(read[there], rollout.log_probs[:, part][there], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output.value[there], rollout.values[:, part][there], rtol=1e-4, atol=1e-5)


def test_agents_that_see_the_whole_map_learn_and_are_shown(tmp_path: Path):
    small = {"steps": 256, "environments": 2, "dim": 8, "threads": 1, "ppo.minibatches": 2, "env.radius": 1}
    world = {"env.observation_type": "MAPF", "env.maps": "puzzles", "env.agents": [1, 3], "env.horizon": 9}
    run = train("pathfinding", root=str(tmp_path), **small, **world)["run"]
    result = evaluate(run, episodes=2, video=str(tmp_path / "shown"))
    assert Path(result["rows"][0]["video"]).is_file()


def test_an_agents_advantages_are_those_of_its_own_episode():
    _, rollout = collect("srmt", steps=60)
    discount, gae_lambda = 0.9, 0.8
    found = advantages(
        rollout.rewards, rollout.values, rollout.ends, rollout.next_value, discount=discount, gae_lambda=gae_lambda
    )
    checked = 0
    for team in range(4):
        for agent in range(2):
            ends = rollout.ends[team, :, agent].nonzero().flatten().tolist()
            starts = [0, *(rollout.first[team].nonzero().flatten().tolist())]
            for end in ends:
                begin = max(start for start in starts if start <= end)
                assert bool(rollout.present[team, begin : end + 1, agent].all())
                following, value = 0.0, 0.0
                for t in range(end, begin - 1, -1):  # nothing follows the end but what its reward holds of it
                    delta = rollout.rewards[team, t, agent] + discount * value - rollout.values[team, t, agent]
                    following = delta + discount * gae_lambda * following
                    value = rollout.values[team, t, agent]
                    torch.testing.assert_close(found[team, t, agent], following, rtol=1e-4, atol=1e-5)
                checked += 1
    assert checked > 8


def test_only_who_is_cut_is_credited_with_what_would_have_followed():
    teams = worlds(1, horizon=3)
    agent = make_agent(teams)
    with torch.no_grad():
        agent.critic.bias.fill_(5.0)  # a value that shows
        agent.critic.weight.zero_()
        agent.actor.bias.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0, 0.0]))
    rollout = Collector(teams, seed=0, discount=0.5, scale_rewards=False).collect(agent, steps=3, sequence=3)
    torch.testing.assert_close(rollout.rewards[0, 2], torch.full((2,), 2.5))
    assert not rollout.rewards[0, :2].any()
    teams.reset(seed=0)
    step = teams.step(np.zeros((1, 2), int))
    assert not step.truncated.any()


@pytest.mark.parametrize("memory", ["srmt", "pooled_gated_delta_net"])
def test_what_absent_agents_hold_is_not_learnt_from(memory: str):
    agent, rollout = collect(memory)
    batch = sequences(rollout, 12, discount=0.9, gae_lambda=0.8)
    assert batch.present is not None
    gone = ~batch.present
    changed = batch._replace(
        tokens=(batch.tokens[0].masked_fill(gone[..., None, None, None], math.nan),),
        log_probs=batch.log_probs.masked_fill(gone, 3.0),
        advantages=batch.advantages.masked_fill(gone, 99.0),
        returns=batch.returns.masked_fill(gone, 99.0),
    )
    grads = []
    for each in (batch, changed):
        loss, _ = losses(agent, each, batch.present.sum(), options=PPOOptions())
        grads.append(torch.autograd.grad(loss, list(agent.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("memory", ["srmt", "gru"])
def test_episodes_of_teams_are_counted_as_teams(memory: str):
    teams = worlds(2)
    collector = Collector(teams, seed=0, discount=0.9)
    collector.collect(make_agent(teams, memory), steps=70, sequence=70)
    episodes = collector.take_finished()
    assert len(episodes) >= 10  # of a sparse reward, 1 for each that arrives
    assert all(episode.length <= 14 and 0 <= episode.total <= 1 for episode in episodes)
    assert all((episode.success == 1) == (episode.total == 1) for episode in episodes)


# The recipe and the protocol ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    small = {"steps": 512, "environments": 4, "dim": 16, "threads": 1, "ppo.minibatches": 2}
    return train("bottleneck", root=str(tmp_path_factory.mktemp("runs")), **small)["run"]


def test_the_protocol_measures_lengths_with_intervals(run: str):
    result = evaluate(run, protocol="bottleneck", lengths=[3, 7], episodes=4)
    assert result["env"] == "recurra/Bottleneck-v0"
    assert [row["length"] for row in result["rows"]] == [3, 7]
    for row in result["rows"]:
        assert row["episodes"] == 4
        for name, most in (("CSR", 1), ("ISR", 1), ("SoC", 2 * (2 * row["length"] + 100))):
            low, high = row[f"{name}_95"]
            assert 0 <= low <= row[name] <= high <= most
        assert row["mean_return"] == pytest.approx(row["ISR"])  # sparse
    assert evaluate(run, protocol="bottleneck", lengths=[7], episodes=4)["rows"][0]["SoC"] == result["rows"][1]["SoC"]


def test_the_command_prints_the_rows(run: str, capsys: pytest.CaptureFixture[str]):
    asked = ["eval", run, "--protocol", "bottleneck", "--lengths", "3,5", "--episodes", "2"]
    assert cli.main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"run", "env", "episodes", "success_rate", "mean_return", "std_return", "rows"} <= told.keys()
    assert [row["length"] for row in told["rows"]] == [3, 5]
    assert all({"CSR", "ISR", "SoC", "CSR_95", "ISR_95", "SoC_95"} <= row.keys() for row in told["rows"])
    assert cli.main(asked) == 0
    assert " to " in capsys.readouterr().out


def test_who_stays_never_arrives_and_the_limit_is_that_of_the_paper():
    teams = make_teams("recurra/Bottleneck-v0", 3, options={"corridor": 9})
    agent = make_agent(teams, "none")
    with torch.no_grad():
        agent.actor.bias.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0, 0.0]))
    played = play(agent, teams, seeds=range(3))
    assert played.metrics["CSR"].tolist() == played.metrics["ISR"].tolist() == [0, 0, 0]
    assert played.metrics["SoC"].tolist() == [2 * 118] * 3
    assert played.lengths.tolist() == [118] * 3


def test_the_protocol_has_the_papers_lengths():
    assert len(bottleneck.LENGTHS) == 58
    assert (min(bottleneck.LENGTHS), max(bottleneck.LENGTHS)) == (3, 1000)


def test_an_interval_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 2.0 / 20, rel=0.15)


def test_teams_are_measured_as_others_are(run: str):
    row = evaluate(run, env={"horizon": 14}, grid={"reward": ["sparse", "moving_negative"]}, episodes=8)["rows"]
    assert [each["episodes"] for each in row] == [8, 8]
    assert row[1]["mean_return"] < row[0]["mean_return"]


def test_a_map_option_is_named_as_the_curriculum_names_it(run: str):
    rows = evaluate(run, grid={"corridor": [4, 9]}, env={"horizon": 12}, episodes=3)["rows"]
    assert [(row["corridor"], row["mean_length"]) for row in rows] == [(4, 12), (9, 12)]
    assert all({"CSR", "CSR_95", "SoC_95", "mean_return", "seconds"} <= row.keys() for row in rows)


def test_as_many_at_once_as_may_be_changes_no_episode(run: str):
    together, apart = (
        evaluate(run, env={"horizon": 30, "maps": NEAR}, episodes=7, environments=at_once)["rows"][0]
        for at_once in (7, 3)
    )
    for name in ("CSR", "SoC", "mean_return", "mean_length"):
        assert together[name] == apart[name]


def test_drawn_actions_are_those_of_the_seed(run: str):
    how: dict[str, Any] = {"env": {"horizon": 40, "maps": NEAR}, "episodes": 16}
    drawn = [evaluate(run, **how, sample=True, seed=seed)["rows"][0]["SoC"] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert evaluate(run, **how)["rows"][0]["SoC"] != drawn[0]
    by_length = [evaluate(run, protocol="bottleneck", lengths=[3], sample=True)["rows"][0]["SoC"] for _ in range(2)]
    assert by_length[0] == by_length[1]
    teams = worlds(2)
    agent, before = make_agent(teams), torch.get_rng_state()
    play(agent, teams, seeds=range(2), sample=True)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's numbers move


# POGEMA's benchmark ---------------------------------------------------------------------------------------------------


def test_the_benchmarks_rows_and_what_others_reached(run: str):
    asked: dict[str, Any] = {"protocol": "pogema", "kinds": ["puzzles", "mazes"], "sizes": [2, 8], "episodes": 3}
    found = [pogema.cells(run, {}, **{name: asked[name] for name in ("kinds", "sizes", "episodes")}, tasks=None)]
    assert len(found[0]) == 8
    assert len(pogema.cells(run, {}, kinds=None, sizes=None, tasks=["lifelong"], episodes=None)) == 6 + 6 + 6 + 3
    small = {**asked, "kinds": ["puzzles"], "sizes": [2]}
    result = evaluate(run, **small)
    lifelong, one_shot = result["rows"]
    assert (lifelong["kind"], lifelong["task"], lifelong["agents"], lifelong["episodes"]) == (
        "puzzles",
        "lifelong",
        2,
        3,
    )
    assert lifelong["mean_length"] == 256
    assert lifelong["CSR"] is one_shot["avg_throughput"] is None
    assert one_shot["mean_length"] <= 128
    low, high = lifelong["avg_throughput_95"]
    assert low <= lifelong["avg_throughput"] <= high
    told = {(row["model"], row["task"]): row for row in result["published"]}
    assert told["Follower", "lifelong"]["avg_throughput"] == 0.359
    assert told["DCC", "one-shot"]["CSR"] == 0.89
    assert {row["agents"] for row in result["published"]} == {2}
    apart = evaluate(run, **small, environments=2)["rows"]
    assert [row["mean_return"] for row in apart] == [row["mean_return"] for row in result["rows"]]


def test_a_seed_names_an_episode_of_the_benchmark():
    (cell,) = pogema.cells("run", {}, kinds=["mazes"], sizes=[8], tasks=["one-shot"], episodes=None)
    assert cell.episodes == 128
    teams = make_teams(count=2, **cell.options)
    teams.reset(seed=[3, 130])  # the 128 maps begin again, with other teams
    for map, number, seed in zip(teams.env.maps, (3, 2), (0, 1), strict=True):
        expected = pogema_instance(validation("mazes", number), 8, seed)
        assert map.text() == expected.text()


def test_maps_of_cities_and_puzzles_are_those_of_a_file(run: str, tmp_path: Path):
    maps = tmp_path / "maps.yaml"
    maps.write_text("one: |-\n  ....\n  .#..\ntwo: |-\n  ....\n  ....\n")
    asked: dict[str, Any] = {"sizes": None, "tasks": None, "episodes": None, "data": str(maps)}
    for kind, team, horizons in (("movingai", [64, 128, 192, 256], {256}), ("pathfinding", [1], {2048})):
        found = pogema.cells(run, {}, kinds=[kind], **asked)
        assert [cell.point["agents"] for cell in found] == team * (2 if kind == "movingai" else 1)
        assert {cell.options["horizon"] for cell in found} == horizons
    assert found[0].episodes == 80
    teams = make_teams(count=3, **found[0].options)
    teams.reset(seed=[0, 1, 2])  # the maps in their order, and again with others
    drawn = [pogema_instance(read(maps)[number % 2], 1, number // 2) for number in range(3)]
    assert [map.starts.tolist() for map in teams.env.maps] == [map.starts.tolist() for map in drawn]
    row = evaluate(run, protocol="pogema", kinds=["pathfinding"], data=str(maps), episodes=2, env={"radius": 2})
    assert row["published"] == [
        {"model": "MAMBA", "kind": "pathfinding", "task": "one-shot", "agents": 1, "CSR": 0.887}
    ]
    for wrong, message in (
        ({"kinds": ["movingai"]}, "read from the benchmark's own file: --data maps.yaml"),
        ({"data": str(maps)}, "the maps of one kind: name it"),
        ({"kinds": ["puzzles"], "data": "nowhere.yaml"}, "nowhere.yaml cannot be read"),
        ({"kinds": ["pathfinding"], "tasks": ["lifelong"], "data": str(maps)}, "pathfinding is one-shot"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(run, protocol="pogema", **wrong)  # type: ignore[arg-type]


def test_one_who_goes_the_drawn_way_comes_to_goals():
    (cell,) = pogema.cells("run", {"observation_type": "guided"}, kinds=["random"], sizes=[1], tasks=["lifelong"],
                           episodes=None)  # fmt: skip
    worlds = make_teams(count=4, **cell.options).env
    obs, _ = worlds.reset(seed=list(range(4)))
    metrics: dict[str, Any] = {}
    for _ in range(256):
        middle = obs.shape[-1] // 2
        ways = np.stack([obs[:, :, 0, middle + down, middle + right] for down, right in MOVES], -1)
        fresh = ways * [0.5, 1, 1, 1, 1]
        step = worlds.step(fresh.argmax(-1))
        obs, metrics = step.obs, step.metrics
    # Alone on such maps a goal is 12 steps away or so: more than one in 30, less than one in 5.
    assert (metrics["avg_throughput"] > 1 / 30).all()
    assert (metrics["avg_throughput"] < 1 / 5).all()


# Reports and drawings -------------------------------------------------------------------------------------------------


def test_a_report_of_the_team_that_comes_with_the_package(tmp_path: Path):
    pytest.importorskip("matplotlib")
    lengths = [5, 3, 100]
    result = evaluate("bottleneck-sparse", protocol="bottleneck", lengths=lengths, episodes=2, report=str(tmp_path))
    page = Path(result["report"]).read_text()
    assert page.count("<tr>") == 4
    assert all(f"<th>{name}</th>" in page for name in ("length", "CSR", "ISR", "SoC"))
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    # Corridors too long to look at are left out; lines are what an agent attends to.
    drawings = sorted(tmp_path.glob("episode-*.svg"))
    assert [f'src="{path.name}"' in page for path in drawings] == [True, True]
    assert [path.read_text().count("<line") for path in drawings] == [2, 2]


def test_a_report_of_a_memory_that_attends_to_nobody(run: str, tmp_path: Path):
    pytest.importorskip("matplotlib")
    teams = worlds()
    save(make_agent(teams, "gru"), tmp_path / "agent")
    env = {"id": "recurra/Bottleneck-v0", "maps": NEAR, "horizon": 9}
    result = evaluate(str(tmp_path / "agent"), env=env, episodes=2, report=str(tmp_path / "report"))
    assert Path(result["report"]).is_file()
    assert not (tmp_path / "report" / "plot.svg").exists()
    assert "<line" not in (tmp_path / "report" / "episode-1.svg").read_text()


def test_videos_of_teams_are_drawings(run: str, tmp_path: Path):
    result = evaluate(run, grid={"corridor": [3, 5]}, env={"horizon": 6}, episodes=1, video=str(tmp_path))
    drawn = [Path(row["video"]) for row in result["rows"]]
    assert [path.name for path in drawn] == ["0.svg", "1.svg"]
    assert all("<animate" in path.read_text() for path in drawn)


@pytest.mark.parametrize("memory", MEMORIES)
def test_who_attends_to_whom(memory: str):
    teams = worlds()
    agent = make_agent(teams, memory).eval()
    obs, _ = teams.reset(seed=0)
    _, state = agent.act(obs)
    present = torch.tensor([[True, True]] * 3 + [[True, False]])
    heeds = agent.heed(agent.observe(obs), state, present=present)
    if memory != "srmt":
        assert heeds is None
        return
    assert heeds is not None
    torch.testing.assert_close(heeds.sum(-1), present.float())
    assert heeds[3].tolist() == [[1, 0], [0, 0]]
    assert (heeds[:3] > 0).all()
    fresh = agent.heed(agent.observe(obs), agent.initial_state(4, 2))
    assert fresh is not None
    assert not fresh.any()  # nobody has written yet


def test_playing_is_stepping_through_act():
    teams = worlds(2)
    agent = make_agent(teams).eval()
    played = play(agent, teams, seeds=range(3, 5))
    obs, _ = teams.reset(seed=[3, 4])
    totals, state, lengths = np.zeros(2), None, {}
    for time in range(1, 15):
        action, state = agent.act(obs, state, present=teams.present)
        step = teams.step(action)
        totals += np.where([world not in lengths for world in range(2)], step.reward.mean(1), 0)
        for world in np.flatnonzero(step.over):
            lengths.setdefault(int(world), time)
        obs = step.obs
        if len(lengths) == 2:
            break
    assert played.lengths.tolist() == [lengths[0], lengths[1]]
    assert played.totals.tolist() == pytest.approx(totals.tolist())


def test_a_network_of_any_memory_learns_as_a_team(tmp_path: Path):
    small: dict[str, Any] = {"steps": 256, "environments": 4, "dim": 16, "threads": 1, "ppo.minibatches": 2}
    for memory, reward in (("pooled_yaad", "dense"), ("delta_net", "directional"), ("none", "directional_negative")):
        options = {"heads": 2} if memory != "none" else {}
        result = train(
            "bottleneck", root=str(tmp_path), memory=memory, memory_options=options, **{"env.reward": reward}, **small
        )
        assert result["steps"] == 256
        assert math.isfinite(result["metrics"]["value_loss"])
