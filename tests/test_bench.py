"""Benchmarks measure what they say; their figures are not tested."""

import json
import sys

import pytest
import torch

from recurra.benchmarks import mlp, operations, training
from recurra.benchmarks.timing import apart
from recurra.errors import UserError
from recurra.recipes import cli


def bench(capsys, *arguments):
    assert cli.main(["bench", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]


def test_memory(capsys):
    options = ["--names", "[none,gru,delta_net]", "--lengths", "[20,40]", "--budget", "0.01", "--dim", "8"]
    rows = bench(capsys, "memory", *options)
    assert all({"name", "what", "per_second", "bytes", "ratio", "peer"} <= row.keys() for row in rows)
    assert all(row["per_second"] > 0 for row in rows)
    assert {(row["what"], row["length"]) for row in rows if row["name"] == "gru"} == {
        *((what, length) for what in ("forward", "forward and backward") for length in (20, 40)),
        ("step", 1),
    }
    assert rows[0]["name"] == "matrix product"
    looped = {
        (row["what"], row["length"]) for row in rows if row["name"] == "delta_net" and row["peer"] == "token loop"
    }
    assert looped == {("forward", 20), ("forward and backward", 20)}
    assert next(row for row in rows if row["name"] == "gru")["bytes"] == 32


def test_kernels(capsys):
    sizes = ["--batch", "2", "--length", "30", "--heads", "2", "--dim", "4", "--budget", "0.01"]
    rows = bench(capsys, "kernels", *sizes)
    names = ("linear_recurrence", "linear_attention", "delta_rule", "gated_delta_rule")
    assert [row["name"] for row in rows if row["peer"]] == [name for name in names for _ in range(2)]
    for loop, chunked in zip(rows[::2], rows[1::2], strict=True):
        assert loop["name"] == f"{chunked['name']}, token loop"
        assert chunked["ratio"] == pytest.approx(chunked["per_second"] / loop["per_second"])
    assert {row["bytes"] for row in rows} == {4 * 2 * 4, 4 * 2 * 4 * 4}
    with pytest.raises(UserError, match="did you mean 'delta_rule'"):
        operations.run(["delta_rul"])


def test_mlp_memory(capsys):
    options = ["--dim", "8", "--heads", "2", "--length", "20", "--chunk", "8", "--budget", "0.01"]
    product, *rows = bench(capsys, "mlp_memory", *options)
    assert [row["what"] for row in rows if row["name"] == "mlp_memory"] == ["forward", "forward and backward"]
    reading = rows[0]
    assert reading["operations"] == 2 * (11 * 2 * 4 * 16 + 4 * 8 * (4 + 16))  # each of two heads
    assert reading["flops"] == pytest.approx(reading["operations"] * reading["per_second"])
    assert reading["ratio"] == pytest.approx(
        reading["flops"] / product["flops"], rel=0.9
    )  # measured once more by turns
    arguments = mlp._arguments(2, 20, 2, 4, 16, True, "cpu")
    _, state = mlp.mlp_memory(**arguments)
    assert reading["bytes"] == sum(x[0].numel() * 4 for pair in state[:3] for x in pair)


def test_lengths(capsys):
    options = ["--names", "[rate,attention,gru]", "--lengths", "[9,70,2000]", "--segment", "12", "--slots", "2"]
    rows = bench(capsys, "lengths", *options, "--dim", "8", "--budget", "0.01", "--most_bytes", "100000")
    sizes = {(row["name"], row["steps"]): row["bytes"] for row in rows}
    assert len(sizes) == 8  # but for attention after 2000 steps
    assert sizes["rate", 9] == sizes["rate", 70] == sizes["rate", 2000]
    tokens = 3 * 70 - 1
    assert sizes["attention", 70] == 2 * (2 * 4 * 8 * tokens + 8) + 4 + 4  # two layers, the return to go, the action
    speeds = {(row["name"], row["steps"]): row["per_second"] for row in rows}
    for row in rows:
        wanted = None
        if row["name"] != "attention" and row["steps"] < 2000:
            wanted = pytest.approx(row["per_second"] / speeds["attention", row["steps"]])
        assert row["ratio"] == wanted


def test_reading(capsys):
    """What a recurrent reader holds does not grow with the document; full attention reads up to where it is asked."""
    rows = bench(capsys, "reading", "--lengths", "[100,400]", "--attention", "200", "--budget", "0.01")
    attention, short, long = rows
    assert [(row["name"], row["length"]) for row in rows] == [
        ("attention", 100), ("babilong-qa1", 100), ("babilong-qa1", 400),
    ]  # fmt: skip
    assert short["bytes"] == long["bytes"] < attention["bytes"]
    assert short["ratio"] == pytest.approx(short["per_second"] / attention["per_second"])
    assert short["peer"] == "attention"
    assert long["peer"] is None
    assert min(row["resident_bytes"] for row in rows) > max(row["bytes"] for row in rows)


def test_reading_needs_a_reader(capsys):
    assert cli.main(["bench", "reading", "--reader", "bottleneck-sparse"]) == 2
    assert "bottleneck-sparse is an agent that acts and reads no documents" in capsys.readouterr().err


def test_a_process_of_its_own_holds_nothing_of_its_parents():
    ballast = torch.ones(2**27)
    (found,) = apart(dict, [()])
    assert 0 < found["resident_bytes"] < ballast.nbytes


def test_segment(capsys):
    """By diagonals there are fewer operations, as many as diagonals instead of cells; replay holds less."""
    sizes = ["--dim", "64", "--layers", "4", "--segment", "64", "--slots", "2", "--segments", "32"]
    rows = bench(capsys, "segment", *sizes, "--budget", "0.01")
    found = {(row["name"], row["what"]): row for row in rows}
    plain, reading, learning = "segment by segment", "forward", "forward and backward"
    assert list(found) == [
        (plain, reading), ("by diagonals", reading),
        (plain, learning), ("by diagonals", learning), ("replayed", learning),
    ]  # fmt: skip
    assert rows[1]["operations"] < 0.6 * rows[0]["operations"]  # 35 diagonals, 128 cells
    assert rows[1]["ratio"] == pytest.approx(rows[1]["per_second"] / rows[0]["per_second"])
    assert found["replayed", learning]["resident_bytes"] < found[plain, learning]["resident_bytes"]


def test_teams(capsys):
    """Worlds alone, acting in them, and training there."""
    options = ["--names", "[none]", "--environments", "4", "--rollout", "16", "--updates", "2", "--rounds", "1"]
    rows = bench(capsys, "teams", *options, "--dim", "8")
    assert [(row["name"], row["what"]) for row in rows] == [
        ("random", "worlds"), ("none", "acting"), ("none", "training"),
    ]  # fmt: skip
    assert all(row["per_second"] > 0 for row in rows)
    assert all(row["agents_per_second"] == 2 * row["per_second"] for row in rows)


def test_a_length_that_would_take_too_long_is_left_out(capsys):
    options = ["--names", "[gru]", "--lengths", "[1000000000,20]", "--budget", "0.01", "--dim", "8"]
    rows = [row for row in bench(capsys, "memory", *options) if row["name"] == "gru"]
    assert {row["length"] for row in rows} == {20, 1}


def test_rl(capsys):
    """What is measured of ourselves; sb3-contrib is a peer, not a dependency."""
    options = ["--names", "[gru]", "--updates", "2", "--rollout", "8", "--batches", "[1,3]", "--budget", "0.01"]
    options += ["--threads", "[1]"]
    rows = [row for row in bench(capsys, "rl", *options) if row["name"] == "gru"]
    assert [(row["what"], row["batch"]) for row in rows] == [("training", 16), ("acting", 1), ("acting", 3)]
    assert all(row["per_second"] > 0 and row["bytes"] == 256 for row in rows)
    acting = rows[2]
    assert acting["per_second"] == pytest.approx(3 / acting["microseconds"] * 1e6)


def test_the_peer_of_rl_has_equal_work(tmp_path, capsys):
    """The peer's script is told the same as our own training; here another program stands for it."""
    seen = tmp_path / "seen.jsonl"
    peer = tmp_path / "python"
    peer.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(seen)!r}, 'a').write(sys.argv[2] + '\\n')\n"
        "threads = json.loads(sys.argv[2])['threads']\n"
        "print(json.dumps({'per_second': 10.0 * threads, 'acting': [2.0 / threads], 'parameters': 7, 'bytes': 8}))\n"
    )
    peer.chmod(0o755)
    told = []

    def train(recipe, **settings):
        told.append(settings)
        return {"steps_per_second": 60.0}

    rows = training.run(train, ["gru"], peer_python=str(peer), rounds=1, batches=[4], budget=0.001, epochs=3, updates=5)
    options = [json.loads(line) for line in seen.read_text().splitlines()]
    assert [option["threads"] for option in options] == [1, 2]
    for option in options:
        assert told[0]["steps"] == option["rollout"] * option["environments"] * option["updates"]
        assert told[0]["env.corridor"] == option["corridor"]
        for name in ("rollout", "epochs", "minibatches"):
            assert told[0][f"ppo.{name}"] == option[name]
    assert [settings["threads"] for settings in told] == [1, 2]
    found = {(row["name"], row["threads"], row["what"]): row for row in rows}
    assert found["gru", 1, "training"]["ratio"] == 3.0  # of 60 to 20, the better of the peer's two
    assert found["RecurrentPPO", 1, "training"]["ratio"] is None
    assert found["RecurrentPPO", 2, "acting"]["per_second"] == 4.0
    assert found["gru", 2, "acting"]["ratio"] == pytest.approx(found["gru", 2, "acting"]["per_second"] / 4.0)


def test_grid(tmp_path, capsys):
    """Ourselves, and another program in the peer's place, which is told the same rules."""
    seen, peer = tmp_path / "seen.jsonl", tmp_path / "python"
    peer.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(seen)!r}, 'a').write(sys.argv[2] + '\\n')\n"
        "print(json.dumps({'resets': 2.0, 'steps': 3.0}))\n"
    )
    peer.chmod(0o755)
    options = ["--worlds", "2", "--agents", "3", "--size", "9", "--horizon", "5", "--rounds", "2", "--radius", "2"]
    options += ["--observation_types", "[POMAPF,guided]", "--peer_python", str(peer)]
    rows = bench(capsys, "grid", *options)
    found = {(row["name"], row["what"], row["observation_type"]): row for row in rows}
    assert found["pogema", "steps", "POMAPF"]["per_second"] == pytest.approx(10 / 3)
    assert found["pogema", "with resets", "POMAPF"]["per_second"] == pytest.approx(2)
    assert ("pogema", "steps", "guided") not in found
    assert found["recurra", "steps", "guided"]["ratio"] is None
    ours = found["recurra", "with resets", "POMAPF"]
    assert ours["ratio"] == pytest.approx(ours["per_second"] / 2)
    assert ours["bytes"] == 3 * (2 * 25 * 4 + 2 * 2 * 8)
    told = [json.loads(line) for line in seen.read_text().splitlines()]
    assert [one.pop("seed") for one in told] == [0, 1]
    rules = {"worlds": 2, "agents": 3, "size": 9, "density": 0.3, "radius": 2, "horizon": 5, "on_target": "restart"}
    assert told[0] == {**rules, "collision_system": "soft", "observation_type": "POMAPF"}


def test_results_in_a_file(tmp_path, capsys):
    path = tmp_path / "mine.json"
    options = ["--names", "[none]", "--lengths", "[5]", "--budget", "0.01", "--out", str(path)]
    rows = bench(capsys, "memory", *options)
    written = json.loads(path.read_text())
    assert written["rows"] == rows
    assert written["versions"].keys() >= {"recurra", "torch", "python"}
    assert written["command"][:3] == ["recurra", "bench", "memory"]
    before = path.read_text()
    assert cli.main(["bench", "memory", *options]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["memry"], "did you mean 'memory'"),
        ([], "required: what"),
        (["rl", "--names", "[gruu]"], "did you mean 'gru'"),
        (["memory", "--lenghts", "[5]"], "did you mean 'lengths'"),
        (["memory", "--out", "nowhere/at/all.json"], "is no folder"),
        (["rl", "--names", "[gru]", "--peer_python", "/no/such/python"], "cannot be run"),
        (["rl", "--rounds", "0"], "rounds must be at least 1"),
        (["grid", "--observation_types", "[pomap]"], "there is no observation_type 'pomap'"),
        (["teams", "--recipe", "pathfindin"], "did you mean 'pathfinding'"),
        (["teams", "--agents", "0"], "agents must be at least 1"),
        (["grid", "--worlds", "0"], "worlds must be a whole number"),
        (["grid", "--peer_python", "/no/such/python"], "cannot be run"),
        (["memory", "--lengths", "[]"], "lengths must be at least 1"),
    ],
)
def test_mistakes(arguments, message, capsys):
    assert cli.main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_help(capsys):
    assert cli.main(["bench", "--help"]) == 0
    assert "environment steps per second" in capsys.readouterr().out
    assert cli.main(["bench", "rl", "--help"]) == 0
    assert "--peer_python" in capsys.readouterr().out
