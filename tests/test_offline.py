"""Learning from recorded streams: what is read of a piece, what is learnt from it, and what comes of that."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from recurra.agents import RATE
from recurra.envs import Streams, TMazeVector
from recurra.envs.trajectories import Episode, Store, Writer
from recurra.errors import UserError
from recurra.recipes import evaluate, train
from recurra.recipes.evaluation import play
from recurra.recipes.offline import Offline
from recurra.recipes.settings import ConservativeOptions, OfflineOptions

PLANE, TURNS = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3, start=1)
LENGTHS = (3, 5, 2, 9)


@pytest.fixture
def store(tmp_path) -> Store:
    rng = np.random.default_rng(0)
    with Writer(tmp_path / "data", observation_space=PLANE, action_space=TURNS) as writer:
        for length in LENGTHS:
            seen = rng.uniform(-1, 1, (length + 1, 2)).astype(np.float32)
            writer.add_episode(Episode(seen, rng.integers(1, 4, length), rng.random(length), True, False))
    return Store(tmp_path / "data")


def make(store: Store, *, agent: dict[str, Any] | None = None, **options: Any) -> Offline:
    torch.manual_seed(0)
    learner = RATE(PLANE, TURNS, **{"memory": "gru", "dim": 16, "layers": 1, **(agent or {})})
    module = Offline(learner, options=OfflineOptions(**options), updates=9, seed=3, show="")
    module.open(store)
    return module


def test_a_piece_is_read_as_it_is_acted(store):
    """What is learnt from is what `act` computes when it is shown the same, whose target is the episode's return."""
    module = make(store, streams=4, steps=20, begin="beginning")
    piece = module.piece()
    assert piece.present.sum(1).sort().values.tolist() == sorted(LENGTHS)
    assert piece.seen[0].shape[1] == max(LENGTHS) + 1  # no more padding than tells that all have ended
    with torch.no_grad():
        features, _ = module.agent.read(piece.seen, piece.before, piece.to_go, first=piece.first, present=piece.present)
        for row in range(4):
            module.agent.target = float(piece.to_go[row, 0])
            state, reward = module.agent.begin(1), 0.0
            action = module.agent.actions.no_features(1)
            for t in range(int(piece.present[row].sum())):
                tokens = (piece.seen[0][row, t : t + 1], action, torch.tensor([reward]))
                choice, state = module.agent.step(tokens, state, first=torch.tensor([t == 0]))
                torch.testing.assert_close(choice.numbers[0], module.agent.decide(features[row, t]).numbers)
                action = module.agent.actions.features(piece.actions[row, t : t + 1])
                reward = float(piece.rewards[row, t])


def test_what_earns_longer_episodes_is_of_actions_that_are_chosen():
    agent = RATE(PLANE, spaces.Box(-1, 1, (2,)), memory="none")
    with pytest.raises(UserError, match="shortest is of actions that are chosen"):
        Offline(agent, options=OfflineOptions(shortest=3), updates=1, seed=0, show="")


def test_short_episodes_come_first(store):
    module = make(store, streams=2, steps=20, begin="beginning", shortest=3, promote_at=0.5, window=2)
    assert module.longest == 3
    for longest, foretold in ((3, 0.2), (3, 0.7), (3, 0.0), (3, 0.9), (3, 0.3), (6, 0.9), (6, 0.2), (12, 1), (12, 1)):
        assert module.longest == longest
        lengths = set(module.piece().present.sum(1).tolist())
        assert max(lengths) <= module.longest
        module._promote(foretold)
    assert module.longest == 12


@pytest.mark.parametrize("begin", ["beginning", "anywhere"])
def test_conservative_q_learning(store, begin):
    """Kumar et al. 2020 (arXiv 2006.04779), Equation 4 with CQL(H), step by step, with a target of its own."""
    how = ConservativeOptions(weight=0.7, discount=0.9)
    module = make(store, agent={"returns": False}, streams=4, steps=4, begin=begin, conservative=how, weight_decay=0.0)
    assert module.conservative is not None
    with torch.no_grad():
        for parameter in module.conservative.target.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    piece = module.piece()

    def values(agent):
        flags = {"first": piece.first, "present": piece.present}
        return agent.decide(agent.read(piece.seen, piece.before, piece.to_go, **flags)[0]).numbers

    q, other = values(module.agent), values(module.conservative.target)
    apart, over = [], []
    for row in range(len(q)):
        length = int(piece.present[row].sum())
        for t in range(length):
            a = piece.actions[row, t]
            over.append(q[row, t].logsumexp(0) - q[row, t, a])
            if t + 1 < length:
                apart.append(piece.rewards[row, t] + 0.9 * other[row, t + 1, q[row, t + 1].argmax()] - q[row, t, a])
            elif t + 1 < q.shape[1]:
                apart.append(piece.rewards[row, t] - q[row, t, a])
    expected = torch.stack(apart).square().mean() / 2 + 0.7 * torch.stack(over).mean()
    assert begin == "anywhere" or len(apart) == sum(min(length, 4) for length in LENGTHS) - 2  # two go beyond
    loss, _ = module.conservative.loss(q, piece, None)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad is None for parameter in module.conservative.target.parameters())


def test_conservative_q_learning_is_of_discrete_actions():
    agent = RATE(PLANE, spaces.Box(-1, 1, (2,)), memory="none", returns=False)
    with pytest.raises(UserError, match="of Discrete actions"):
        Offline(agent, options=OfflineOptions(conservative=ConservativeOptions()), updates=1, seed=0, show="")


def test_continuous_actions_are_learnt_by_their_likelihood(tmp_path):
    """Actions that are the observation of the step before, which a memory is needed for."""
    rng = np.random.default_rng(0)
    with Writer(tmp_path / "data", observation_space=PLANE, action_space=PLANE) as writer:
        for _ in range(64):
            seen = rng.uniform(-0.9, 0.9, (9, 2)).astype(np.float32)
            actions = np.concatenate((np.zeros((1, 2), np.float32), seen[:7]))
            writer.add_episode(Episode(seen, actions, np.zeros(8), True, False))
    options = {"data": str(tmp_path / "data"), "evaluation.every": 0, "stop": None, "reading.steps": 8}
    small = {"memory": "lstm", "dim": 32, "layers": 1, "actions": False, "returns": False, "reading.shortest": 0}
    result = train("bc", root=str(tmp_path), steps=32 * 8 * 150, **options, **small, **{"reading.learning_rate": 0.01})
    assert result["metrics"]["error"] < 0.15  # 0.45 without a memory


class Unforetold(TMazeVector):
    """The same mazes, which keep to themselves what comes."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("forecast", "advance"):
            raise AttributeError(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize(("memory", "options"), [("rate", {"segment": 9, "slots": 2}), ("elmur", {"segment": 7})])
def test_corridors_are_read_ahead_as_they_are_stepped(memory, options):
    totals = set()
    for seed in range(4):
        torch.manual_seed(seed)
        mazes = {"noise": True, "penalty": 1.0}
        agent = RATE(TMazeVector(**mazes).single_observation_space, spaces.Discrete(4), memory=memory, dim=16,
                     memory_options=options).double().eval()  # fmt: skip
        with torch.no_grad():
            agent.actor.weight.normal_()
            agent.actor.bias.copy_(torch.tensor([4.0, 0.0, 0.0, 0.0]))  # rarely anything but right
            found = [
                sorted(
                    episode._replace(total=round(episode.total, 9))
                    for episode in play(agent, Streams(kind(num_envs=9, corridor=(3, 30), **mazes)), episodes=9, seed=5)
                )
                for kind in (TMazeVector, Unforetold)
            ]
        assert found[0] == found[1]
        totals |= {episode.total for episode in found[0]}
    assert len(totals) > 1


SMALL = {
    "env.corridor": [1, 4],
    "episodes": 200,
    "reading.steps": 5,
    "evaluation.env.corridor": 4,
    "steps": 32 * 5 * 150,
}


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("bc", {"dim": 32}),
        ("dt", {}),
        ("cql", {"dim": 32, "reading.promote_at": 0.9}),
        ("rate-tmaze", {"memory_options.segment": 6, "memory_options.slots": 2}),
    ],
)
def test_short_mazes_are_learnt(recipe, options, tmp_path):
    result = train(recipe, root=str(tmp_path), **SMALL, **options)
    assert result["metrics"]["eval_success_rate"] == 1
    (row,) = evaluate(result["run"], env={"corridor": 4}, episodes=50)["rows"]
    assert row["success_rate"] == 1
    assert f"recurra eval {result['run']} --grid.corridor" in result["next"]


def test_a_noisy_maze_is_reported_and_filmed(tmp_path):
    pytest.importorskip("matplotlib")
    small = {
        "steps": 320,
        "episodes": 20,
        "env.corridor": [1, 4],
        "reading.steps": 5,
        "evaluation.every": 0,
        "stop": None,
    }
    run = train("rate-tmaze", root=str(tmp_path / "runs"), **small, **{"memory_options": {"segment": 6}})["run"]
    found = evaluate(run, grid={"corridor": [2, 30]}, episodes=4, report=str(tmp_path), video=str(tmp_path / "films"))
    assert "plot.svg" in (tmp_path / "index.html").read_text()
    assert all((tmp_path / "films" / f"{number}.gif").stat().st_size for number in range(2))
    assert [row["corridor"] for row in found["rows"]] == [2, 30]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "nowhere"}, "there are no trajectories"),
        ({"env": {"id": "CartPole-v1"}}, "CartPole-v1 has no oracle, which only T-Mazes have"),
        ({"policy": "orcle"}, "there is no policy 'orcle' to record"),
        ({"devices": 2}, "learnt from in one process"),
        ({"reading.begin": "onward"}, "reading.shortest is not of pieces that go on"),
    ],
)
def test_what_is_wrong_is_told_before_a_run_is_made(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train("rate-tmaze", root=str(tmp_path), **options)
    assert not list(tmp_path.iterdir())
