"""The command line: JSON that programs can read, and mistakes told in one line, with status 2 and no trace."""

import json
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest
import yaml
from gymnasium.envs.registration import registry
from safetensors.torch import load_file, save_file

from recurra.recipes import cli

SMALL = ["--steps", "256", "--environments", "4", "--ppo.rollout", "32", "--ppo.sequence", "32", "--dim", "8"]
SMALL += ["--memory_options.heads", "1", "--threads", "1"]
SMALL_READER = ["--steps", "2000", "--reading.streams", "4", "--reading.piece", "64", "--dim", "8", "--layers", "1"]
SMALL_READER += ["--memory_options.heads", "1", "--held_out", "[]", "--threads", "1"]
SMALL_ANSWERER = ["--steps", "512", "--memory", "min_gru", "--memory_options", "{closing: true}", "--dim", "8"]
SMALL_ANSWERER += ["--layers", "1", "--env.documents", "['text:shakespeare/hamlet']", "--env.vocabulary", "300"]
SMALL_ANSWERER += ["--reading.streams", "4", "--reading.tokens", "256", "--reading.piece", "64", "--threads", "1"]
SMALL_ANSWERER += ["--reading.segment", "32", "--reading.segments", "[1]", "--evaluation.episodes", "0"]
ASKED = ["--question", "Where is Mary?"]


class Telling(gymnasium.Env):
    """Speaks, which agents do not understand."""

    observation_space = gymnasium.spaces.Dict(said=gymnasium.spaces.Text(9))
    action_space = gymnasium.spaces.Discrete(2)


gymnasium.register("Telling-v0", entry_point=Telling)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """Run a command with --json: nothing but one object on standard output."""
    assert cli.main([*arguments, "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    return json.loads(lines[0])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an agent that acts, ``runs/tmaze/0``, a reader, ``runs/byte-lm/0``, and one that answers."""
    folder = tmp_path_factory.mktemp("home")
    for recipe, small in (("tmaze", SMALL), ("byte-lm", SMALL_READER), ("babilong", SMALL_ANSWERER)):
        assert cli.main(["train", recipe, "--root", str(folder / "runs"), "--json", *small]) == 0
    book, states = folder / "book.txt", [folder / name for name in ("state", "whole", "truncated", "old")]
    book.write_text("Mary went to the garden.")
    for recipe, state in (("byte-lm", states[0]), ("babilong", states[1])):
        reader = ["--reader", str(folder / "runs" / recipe / "0"), "--state-out", str(state)]
        assert cli.main(["read", str(book), *reader, "--json"]) == 0
    states[2].write_bytes(states[1].read_bytes()[:-50])
    save_file(load_file(states[1]), states[3], {"format": "recurra-state", "version": "0"})
    return folder


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_recipes(capsys):
    listed = run(capsys, "recipes")["recipes"]
    assert {row["name"] for row in listed} >= {"byte-lm", "gym", "tmaze", "tmaze-active"}
    assert all(row["summary"] for row in listed)


def test_memories(capsys):
    listed = run(capsys, "memories")["memories"]
    assert {"name", "family", "paper", "grain", "bounded", "backends"} <= listed[0].keys()
    measured = run(capsys, "memories", "delta_net", "gru", "--laws")["memories"]
    assert [row["name"] for row in measured] == ["delta_net", "gru"]
    choices = run(capsys, "memories", "--choices")
    assert {"architecture", "bias", "retention", "algorithm"} == {row["choice"] for row in choices["choices"]}
    assert any("MLP of zeros" in reason for reason in choices["refused"])
    assert all(row["split"] < 1e-10 for row in measured)


def test_train(capsys):
    result = run(capsys, "train", "tmaze", *SMALL)
    assert {"run", "seconds", "steps", "steps_per_second", "metrics"} <= result.keys()
    assert (result["run"], result["steps"]) == ("runs/tmaze/0", 256)
    assert sorted(path.name for path in Path("runs/tmaze/0").iterdir() if path.is_file()) == [
        ".lock", "config.yaml", "last.ckpt", "metrics.csv", "result.json", "versions.json",
    ]  # fmt: skip
    assert run(capsys, "train", "tmaze", *SMALL)["run"] == "runs/tmaze/1"


def test_what_environments_say_stays_off_standard_output(capsys):
    Path("talking.py").write_text(
        "import gymnasium\nfrom gymnasium.envs.classic_control import CartPoleEnv\n\n\n"
        "def make(**options):\n    print('hello')\n    return CartPoleEnv(**options)\n\n\n"
        "gymnasium.register('Talking-v0', entry_point=make)\n"
    )
    assert run(capsys, "train", "gym", "--env.id", "talking:Talking-v0", *SMALL)["steps"] == 256


def test_train_in_words(capsys):
    assert cli.main(["train", "tmaze", *SMALL]) == 0
    said = capsys.readouterr().out
    assert "next: recurra eval runs/tmaze/0" in said
    assert "steps 256" in said


def test_eval(home, capsys):
    agent = str(home / "runs/tmaze/0")
    result = run(capsys, "eval", agent, "--env.corridor", "5", "--episodes", "10")
    assert {"run", "env", "episodes", "success_rate", "mean_return", "std_return"} <= result.keys()
    assert (result["episodes"], result["env"]) == (10, "recurra/TMaze-v0")
    grid = run(capsys, "eval", agent, agent + "/last.ckpt", "--grid.corridor", "3,5", "--episodes", "4")
    assert [(row["run"], row["corridor"]) for row in grid["rows"]] == [
        (agent, 3), (agent, 5), (agent + "/last.ckpt", 3), (agent + "/last.ckpt", 5),
    ]  # fmt: skip
    assert run(capsys, "eval", agent, "--episodes", "4", "--seed", "1") != result
    assert cli.main(["eval", agent, "--episodes", "4", "--report", "report"]) == 0
    assert "report/index.html" in capsys.readouterr().out


def test_read(home, capsys):
    Path("book.txt").write_text("It was the best of times, it was the worst of times. " * 40)
    Path("empty.txt").touch()
    reader = ["--reader", str(home / "runs/byte-lm/0")]
    result = run(capsys, "read", "book.txt", "empty.txt", *reader)
    assert {"documents", "tokens_per_second", "state_bytes", "peak_rss_bytes"} <= result.keys()
    book, empty = result["documents"]
    assert (book["path"], book["bytes"], book["tokens"]) == ("book.txt", 2120, 2120)
    assert 0 < book["bits_per_byte"] < 9
    assert (empty["bytes"], empty["bits_per_byte"]) == (0, None)
    pieces = run(capsys, "read", "book.txt", *reader, "--piece", "7")["documents"][0]
    assert pieces["bits_per_byte"] == pytest.approx(book["bits_per_byte"], abs=1e-6)
    written = run(capsys, "read", "book.txt", *reader, "--continue", "20", "--temperature", "0")["written"]
    assert written
    assert cli.main(["read", "book.txt", *reader]) == 0
    assert "book.txt" in capsys.readouterr().out


def test_read_continues_and_resumes(home, capsys):
    text = "It was the best of times, it was the worst of times. " * 40
    Path("book.txt").write_text(text)
    Path("half.txt").write_text(text[:1000])
    Path("rest.txt").write_text(text[1000:])
    reader = ["--reader", str(home / "runs/byte-lm/0")]
    whole = run(capsys, "read", "book.txt", *reader)["documents"][0]["bits_per_byte"]
    half = run(capsys, "read", "half.txt", *reader, "--state-out", "state")["documents"][0]["bits_per_byte"]
    rest = run(capsys, "read", "rest.txt", *reader, "--state-in", "state")["documents"][0]["bits_per_byte"]
    assert (1000 * half + 1120 * rest) / 2120 == pytest.approx(whole, abs=1e-6)
    resumed = run(capsys, "read", "book.txt", *reader, "--state-in", "state", "--resume")["documents"][0]
    assert resumed["bytes"] == 2120
    assert resumed["bits_per_byte"] == pytest.approx(whole, abs=1e-6)


def test_read_and_ask(home, capsys):
    Path("book.txt").write_text("Mary went to the garden. It was the best of times. " * 40)
    reader = ["--reader", str(home / "runs/babilong/0")]
    asked = [*ASKED, "--question", "Where is John?"]
    result = run(capsys, "read", "book.txt", "book.txt", *reader, *asked, "--at-once", "2", "--state-out", "state")
    for row in result["documents"]:
        assert [answer["question"] for answer in row["answers"]] == ["Where is Mary?", "Where is John?"]
    later = run(capsys, "read", *reader, *asked, "--state-in", "state")
    assert [row["answers"] for row in later["documents"]] == [row["answers"] for row in result["documents"]]
    often = run(capsys, "read", "book.txt", *reader, *ASKED, "--answers-as-you-go", "300")
    assert len(often["documents"][0]["answers"]) > 2
    assert cli.main(["read", "book.txt", *reader, *ASKED]) == 0
    assert "Where is Mary?" in capsys.readouterr().out


def test_eval_of_answers(home, capsys):
    agent = str(home / "runs/babilong/0")
    result = run(capsys, "eval", agent, "--grid.length", "0,200", "--grid.task", "qa1,needle", "--episodes", "3")
    assert {"run", "task", "episodes", "success_rate", "mean_return", "std_return"} <= result.keys()
    assert {(row["task"], row["length"]) for row in result["rows"]} == {
        ("qa1", 0), ("needle", 0), ("qa1", 200), ("needle", 200),
    }  # fmt: skip
    assert cli.main(["eval", agent, "--grid.length", "0", "--episodes", "2", "--report", "report"]) == 0
    assert "report/index.html" in capsys.readouterr().out


def test_read_from_standard_input(home):
    command = [
        sys.executable,
        "-m",
        "recurra.recipes.cli",
        "read",
        "-",
        "--reader",
        str(home / "runs/byte-lm/0"),
        "--json",
    ]
    done = subprocess.run(command, input=b"\xff\x00 any bytes", capture_output=True)
    assert json.loads(done.stdout)["documents"][0]["bytes"] == 12


def test_a_user_s_own_recipe_and_memory(capsys):
    Path("own.py").write_text(
        "from recurra.memory.recurrent import GRU\n\n\nclass Mine(GRU):\n    '''A memory of one's own.'''\n"
    )
    assert cli.main(["train", "tmaze", "--print_config"]) == 0
    recipe = yaml.safe_load(capsys.readouterr().out)
    recipe |= {"memory": "own:Mine", "steps": 128, "environments": 4, "dim": 8}
    recipe["ppo"] |= {"rollout": 32, "sequence": 32}
    Path("mine.yaml").write_text(yaml.safe_dump(recipe))
    result = run(capsys, "train", "mine.yaml")
    assert result["run"] == "runs/mine/0"
    assert run(capsys, "eval", result["run"], "--episodes", "2")["rows"][0]["memory"] == "own:Mine"
    assert run(capsys, "train", "runs/mine/0/config.yaml")["steps"] == 128  # a run's settings are a recipe too


FILMED = ["--evaluation.every", "1", "--evaluation.video", "true"]

MISTAKES = {
    "no command": (["trian"], "did you mean 'train'"),
    "no recipe": (["train"], "name a recipe first"),
    "unknown recipe": (["train", "tmase"], "did you mean 'tmaze'"),
    "missing recipe file": (["train", "missing.yaml"], "no such recipe file"),
    "broken recipe file": (["train", "broken.yaml"], "no YAML"),
    "recipe that is a list": (["train", "list.yaml"], "no recipe"),
    "recipe without a method": (["train", "nomethod.yaml"], "method"),
    "misspelt setting in the file": (["train", "misspelt.yaml"], "did you mean 'steps'"),
    "misspelt option": (["train", "tmaze", "--sed", "1"], "did you mean 'seed'"),
    "misspelt nested option": (["train", "tmaze", "--ppo.lerning_rate", "1"], "did you mean 'ppo.learning_rate'"),
    "misspelt option of the curriculum": (["train", "tmaze", "--curriculum.strat", "1"], "strat"),
    "word for a number": (["train", "tmaze", "--ppo.learning_rate", "fast"], "ppo.learning_rate"),
    "negative steps": (["train", "tmaze", "--steps", "-5"], "steps must be at least 1"),
    "no environment id": (["train", "gym", "--env", "{}"], "env needs the id"),
    "unknown environment": (["train", "gym", "--env.id", "CartPole-v7"], "CartPole"),
    "misspelt environment option": (["train", "tmaze", "--env.coridor", "5"], "did you mean 'corridor'"),
    "wrong corridor": (["train", "tmaze", "--env.corridor", "[9, 2]"], "corridor"),
    "unsupported space": (["train", "gym", "--env.id", "Telling-v0"], "part said: Text is not supported"),
    "unknown memory": (["train", "tmaze", "--memory", "gruu"], "did you mean 'gru'"),
    "memory that is none": (["train", "tmaze", "--memory", "os:system"], "no subclass"),
    "missing memory module": (["train", "tmaze", "--memory", "nowhere:Memory"], "could not be imported"),
    "misspelt memory option": (["train", "tmaze", "--memory_options.haeds", "2"], "did you mean 'heads'"),
    "heads that do not divide": (["train", "tmaze", "--memory_options.heads", "5"], "5 does not divide 64"),
    "sequence that does not divide": (["train", "tmaze", "--ppo.sequence", "100"], "does not divide"),
    "too few sequences": (["train", "tmaze", "--environments", "2"], "minibatches"),
    "curriculum over nothing": (["train", "gym", "--curriculum.option", "x", "--curriculum.start", "1"], "curriculum"),
    "team's memory alone": (
        ["train", "tmaze", "--memory", "srmt"],
        "srmt is shared by a team, and this agent",
    ),
    "team's memory that reads": (["train", "byte-lm", "--memory", "srmt"], "srmt is shared by a team, and a reader"),
    "team that is none": (["train", "tmaze", "--team", "true"], "recurra/TMaze-v0 has no teams"),
    "team that is told actions": (
        ["train", "bottleneck", "--previous_action", "true"],
        "a team has no previous",
    ),
    "misspelt option of a team's map": (
        ["train", "bottleneck", "--env.options", "{{coridor: [3, 4]}}"],
        "curriculum.option 'corridor' is not among",
    ),
    "option of a map that is misspelt in eval": (
        ["eval", "bottleneck-dense", "--env.coridor", "3"],
        "did you mean 'corridor'",
    ),
    "option of a map that is the world's": (
        ["train", "bottleneck", "--env.corridor", "5"],
        "takes no option 'corridor': it is its map's, options.corridor",
    ),
    "option that is to grow and cannot": (
        ["train", "tmaze", "--env.corridor", "x"],
        "env's 'corridor' must be a number or a pair for the curriculum to grow, got 'x'",
    ),
    "a team compiled": (["train", "bottleneck", "--compile", "true"], "--compile is for agents that act alone"),
    "misspelt option of a team's world": (["train", "bottleneck", "--env.rewrad", "sparse"], "did you mean 'reward'"),
    "unknown protocol": (["eval", "{agent}", "--protocol", "botleneck"], "did you mean 'bottleneck'"),
    "protocol of teams": (["eval", "{agent}", "--protocol", "bottleneck"], "acts alone, the protocol is of teams"),
    "a team in a package that is not there": (
        ["eval", "bottleneck-sparse", "--in_pogema", "true"],
        "pogema is not installed: pip install 'recurra[pogema]'",
    ),
    "one that acts alone in pogema": (["eval", "{agent}", "--in_pogema", "true"], "--in_pogema is of teams"),
    "protocol with a grid": (
        ["eval", "{agent}", "--protocol", "bottleneck", "--grid.corridor", "5"],
        "a protocol takes no grid",
    ),
    "protocol of no length": (
        ["eval", "bottleneck-sparse", "--protocol", "bottleneck", "--lengths", "3,long"],
        "lengths are whole numbers",
    ),
    "lengths of another protocol": (
        ["eval", "bottleneck-sparse", "--protocol", "pogema", "--lengths", "3"],
        "--lengths are those of the protocol bottleneck",
    ),
    "kind that there is not": (
        ["eval", "bottleneck-sparse", "--protocol", "pogema", "--kinds", "maze"],
        "there is no kind 'maze'; did you mean 'mazes'",
    ),
    "sizes without a protocol": (["eval", "{agent}", "--sizes", "8"], "--sizes are of a protocol: --protocol pogema"),
    "lengths without a protocol": (["eval", "{agent}", "--lengths", "3"], "--lengths are of a protocol"),
    "no GPU": (["train", "tmaze", "--device", "cuda"], "no GPU"),
    "unknown device": (["train", "tmaze", "--device", "tpu"], "device must be"),
    "unknown precision": (["train", "tmaze", "--precision", "7-bit"], "precision"),
    "run to resume is none": (["train", "tmaze", "--resume", "nowhere"], "no run folder"),
    "missing documents": (["train", "byte-lm", "--documents", "[nowhere.txt]"], "nowhere.txt"),
    "unknown bundled text": (["train", "byte-lm", "--documents", "['text:hamlet']"], "text"),
    "missing run": (["eval", "nowhere"], "nowhere"),
    "no run": (["eval"], "runs"),
    "recipe of another method": (["train", "tmaze", "--method", "reading"], "is a recipe of method ppo"),
    "grid without values": (["eval", "{agent}", "--grid.corridor", ","], "grid.corridor names no values"),
    "grid that is broken": (["eval", "{agent}", "--grid.corridor", "a: b: c,5"], "no values with commas"),
    "grid that is a number": (["eval", "{agent}", "--grid", "5"], "grid: Expected a dict"),
    "misspelt nested setting in the file": (["train", "nested.yaml"], "did you mean 'ppo.epochs'"),
    "negative seed": (["train", "tmaze", "--seed", "-1"], "seed must be from 0"),
    "no layers": (["train", "tmaze", "--layers", "0"], "layers must be at least 1"),
    "discount beyond 1": (["train", "tmaze", "--ppo.discount", "2"], "ppo.discount must lie in 0..1"),
    "environment that is a number": (["train", "gym", "--env.id", "5"], "env needs the id"),
    "damaged checkpoint": (["eval", "damaged.ckpt"], "damaged"),
    "folder without an agent": (["eval", "."], "no agent"),
    "reader that is to act": (["eval", "{reader}"], "is a reader"),
    "no episodes": (["eval", "{agent}", "--episodes", "0"], "at least 1"),
    "misspelt environment option in eval": (["eval", "{agent}", "--env.coridor", "5"], "did you mean 'corridor'"),
    "environment of other spaces": (["eval", "{agent}", "--env", "{{id: CartPole-v1}}"], "was trained with"),
    "unknown option of eval": (["eval", "{agent}", "--episode", "5"], "did you mean 'episodes'"),
    "report that is a file": (["eval", "{agent}", "--report", "broken.yaml"], "is a file"),
    "missing document": (["read", "nowhere.txt", "--reader", "{reader}"], "nowhere.txt"),
    "no reader": (["read", "list.yaml"], "reader"),
    "agent that is to read": (["read", "list.yaml", "--reader", "{agent}"], "reads no documents"),
    "missing state": (["read", "list.yaml", "--reader", "{reader}", "--state-in", "nowhere"], "no such state file"),
    "damaged state": (["read", "list.yaml", "--reader", "{reader}", "--state-in", "list.yaml"], "damaged"),
    "resume without a state": (["read", "list.yaml", "--reader", "{reader}", "--resume"], "--state-in"),
    "state to nowhere": (["read", "list.yaml", "--reader", "{reader}", "--state-out", "no/where"], "no folder"),
    "negative seed in eval": (["eval", "{agent}", "--seed", "-1"], "seed must be from 0"),
    "unknown precision in eval": (["eval", "{agent}", "--precision", "7-bit"], "precision must be"),
    "video that is a file": (["eval", "{agent}", "--video", "broken.yaml"], "name a folder for the videos"),
    "video beneath a file": (["eval", "{agent}", "--video", "broken.yaml/a"], "name a folder for the videos"),
    "video without its package": (["train", "gym", *FILMED], "pygame"),
    "mistake before a report's folder is made": (
        ["eval", "{agent}", "--report", "new", "--grid.corridor", "5,0"],
        "corridor must be",
    ),
    "missing popgym": (["train", "gym", "--env.id", "popgym-RepeatFirstEasy-v0"], "pip install 'recurra[envs]'"),
    "missing minigrid": (["train", "gym", "--env.id", "MiniGrid-MemoryS7-v0"], "pip install 'recurra[envs]'"),
    "module of an environment that is none": (["train", "gym", "--env.id", "nowhere:Env-v0"], "package 'nowhere'"),
    "evaluation less than never": (["train", "tmaze", "--evaluation.every", "-1"], "must not be negative"),
    "evaluation of no episodes": (["train", "tmaze", "--evaluation.episodes", "0"], "at least 1"),
    "evaluation in another environment": (
        ["train", "tmaze", "--evaluation.every", "1", "--evaluation.env.id", "CartPole-v1"],
        "was trained with observation space",
    ),
    "misspelt option of the evaluation's environment": (
        ["train", "tmaze", "--evaluation.every", "1", "--evaluation.env.coridor", "5"],
        "did you mean 'corridor'",
    ),
    "evaluation by nothing": (
        ["train", "byte-lm", "--held_out", "[]", "--evaluation.every", "5"],
        "needs held_out documents",
    ),
    "evaluation by no documents": (
        ["train", "babilong-all", "--evaluation.every", "10"],
        "set evaluation.episodes, now 0, to 20",
    ),
    "negative weight of the entropy": (["train", "tmaze", "--ppo.entropy", "-5"], "ppo.entropy must not be negative"),
    "trace of an agent that acts": (
        ["eval", "{agent}", "--trace", "--report", "new"],
        "--trace is of readers that answer questions",
    ),
    "trace of published files": (
        ["eval", "{answerer}", "--trace", "--report", "new", "--data", "list.yaml"],
        "leave out --data",
    ),
    "trace in no report": (["eval", "{answerer}", "--trace"], "name a folder for it with --report DIR"),
    "unknown precision to record in": (
        ["record", "CartPole-v1", "--out", "new", "--precision", "7-bit"],
        "precision must be",
    ),
    "best that is misspelt": (
        ["train", "tmaze", "--best.metric", "mean_retrun"],
        "best.metric 'mean_retrun' is none of this recipe's figures; did you mean 'mean_return'",
    ),
    "best in no direction": (["train", "tmaze", "--best.better", "up"], "best.better: Expected a Literal"),
    "stop at nowhere": (
        ["train", "tmaze", "--stop.metric", "entropy"],
        "one of stop.above, stop.below and stop.better",
    ),
    "a wrong value of an environment's option": (
        ["train", "gym", "--env.id", "CartPole-v1", "--env.max_episode_steps", "long"],
        "CartPole-v1 cannot be made with max_episode_steps='long': give a number",
    ),
    "a width beyond all memory": (["train", "tmaze", "--dim", "1000000000"], "dim must be at most 65536"),
    "stop without a figure": (["train", "tmaze", "--stop.above", "1"], "metric"),
    "stop by a figure that is not measured": (
        ["train", "tmaze", "--stop.metric", "eval_success_rate", "--stop.above", "1"],
        "measured only with evaluation",
    ),
    "stop by a misspelt figure": (
        ["train", "tmaze", "--stop.metric", "entropie", "--stop.above", "1"],
        "did you mean 'entropy'",
    ),
    "stop without patience": (
        ["train", "tmaze", "--stop.metric", "entropy", "--stop.above", "1", "--stop.patience", "0"],
        "stop.patience must be at least 1",
    ),
    "curriculum from nothing": (["train", "tmaze", "--curriculum.start", "0"], "curriculum.start must be"),
    "recipe that names a class to call": (["train", "class.yaml"], "class_path"),
    "threads without end": (["train", "tmaze", "--threads", "100000"], "threads must be at most"),
    "run that is finished": (["train", "tmaze", "--resume", "{agent}"], "is finished"),
    "runs in a file": (["train", "tmaze", "--root", "list.yaml"], "list.yaml"),
    "state that is a folder": (["read", "list.yaml", "--reader", "{reader}", "--state-out", "."], "is a folder"),
    "state over what is mine": (["read", "list.yaml", "--reader", "{reader}", "--state-out", "zeros"], "is no state"),
    "temperature below 0": (["read", "list.yaml", "--reader", "{reader}", "--temperature", "-1"], "temperature"),
    "pieces of nothing": (["read", "list.yaml", "--reader", "{reader}", "--piece", "0"], "piece must be"),
    "unknown device to read on": (["read", "list.yaml", "--reader", "{reader}", "--device", "tpu"], "device must be"),
    "nothing to read": (["read", "--reader", "{answerer}"], "name a document"),
    "missing document to ask about": (["read", "nowhere.txt", "--reader", "{answerer}", *ASKED], "nowhere.txt"),
    "empty document to ask about": (["read", "empty.txt", "--reader", "{answerer}", *ASKED], "empty.txt is empty"),
    "binary document": (["read", "binary", "--reader", "{answerer}", *ASKED], "binary: this is no UTF-8 text"),
    "document with bytes 0": (
        ["read", "zeros", "--reader", "{answerer}", *ASKED],
        "zeros: this is no UTF-8 text: byte 1 ",
    ),
    "question that is too long": (
        ["read", "list.yaml", "--reader", "{answerer}", "--question", "where " * 500],
        "a question has at most 256 tokens",
    ),
    "question that is no text": (
        ["read", "list.yaml", "--reader", "{answerer}", "--question", "Wh\udcff"],
        "the question 'Wh\\udcff' is no UTF-8 text",
    ),
    "question that is empty": (["read", "list.yaml", "--reader", "{answerer}", "--question", " "], "is empty"),
    "question to a reader that foretells": (
        ["read", "list.yaml", "--reader", "{reader}", *ASKED],
        "was not trained to answer",
    ),
    "answers to nothing": (
        ["read", "list.yaml", "--reader", "{answerer}", "--answers-as-you-go", "5"],
        "ask something",
    ),
    "answers every no token": (
        ["read", "list.yaml", "--reader", "{answerer}", *ASKED, "--answers-as-you-go", "0"],
        "every 1 token or more",
    ),
    "no documents at once": (["read", "list.yaml", "--reader", "{answerer}", "--at-once", "0"], "at least 1"),
    "state of another model": (
        ["read", "--reader", "{answerer}", *ASKED, "--state-in", "{state}"],
        "is the state of another memory",
    ),
    "truncated state": (["read", "--reader", "{answerer}", *ASKED, "--state-in", "{truncated}"], "is damaged"),
    "state of another version": (
        ["read", "--reader", "{answerer}", *ASKED, "--state-in", "{old}"],
        "is of state format 0",
    ),
    "unknown task": (["eval", "{answerer}", "--grid.task", "qa1,qa21"], "there is no task 'qa21'"),
    "length that is none": (["eval", "{answerer}", "--grid.length", "4x"], "is no length in tokens"),
    "depth that is one number": (["eval", "{answerer}", "--env.depth", "0.5"], "depth must be two shares"),
    "published files that are none": (["eval", "{answerer}", "--data", "nowhere"], "no such file or folder"),
    "published files for an agent that acts": (["eval", "{agent}", "--data", "list.yaml"], "was not trained to answer"),
    "device for a list": (["memories", "--device", "cpu"], "leave out --device"),
    "settings of a list": (["recipes", "--print_config"], "leave out --print_config"),
    "unknown benchmark": (["bench", "memry"], "did you mean 'memory'"),
    "unknown option of memories": (["memories", "--jsn"], "--jsn"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, home, capsys, monkeypatch):
    for package in ("popgym", "minigrid", "pygame", "pogema"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    for name in [name for name in registry if name.lower().startswith(("popgym", "minigrid"))]:
        monkeypatch.delitem(registry, name)
    files = {
        "broken.yaml": "a: [",
        "list.yaml": "- a",
        "nomethod.yaml": "steps: 5",
        "misspelt.yaml": "method: ppo\nenv: {id: CartPole-v1}\nstps: 5\nsteps: 5",
        "nested.yaml": "method: ppo\nenv: {id: CartPole-v1}\nsteps: 5\nppo: {epoch: 3}",
        "class.yaml": "method: ppo\nenv: {id: CartPole-v1, x: {class_path: os.mkdir}}\nsteps: 5",
        "damaged.ckpt": "nothing",
        "empty.txt": "",
        "binary": "\xff\xfe\x01 and more",
        "zeros": "a\0b",
    }
    for name, content in files.items():
        Path(name).write_bytes(content.encode("latin-1"))
    arguments, expected = MISTAKES[mistake]
    places = {
        name: home / "runs" / path / "0"
        for name, path in (("agent", "tmaze"), ("reader", "byte-lm"), ("answerer", "babilong"))
    }
    places |= {name: home / name for name in ("state", "truncated", "old")}
    arguments = [
        argument.format(**places) if "{" in argument and argument != "{}" else argument for argument in arguments
    ]
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("recurra: error: ")
    assert said.err.count("\n") == 1
    assert expected in said.err
    assert {path.name: path.read_bytes().decode("latin-1") for path in Path().iterdir()} == files


def test_debug_shows_where():
    with pytest.raises(ValueError, match="no recipe"):
        cli.main(["train", "tmase", "--debug"])


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["train", "--help"], ["eval", "--help"], ["train", "tmaze", "--help"]]
)
def test_help(arguments):
    done = subprocess.run([sys.executable, "-m", "recurra.recipes.cli", *arguments], capture_output=True, text=True)
    assert done.returncode == 0
    assert "usage: recurra" in done.stdout


def test_help_tells_what_may_be_left_out(capsys):
    assert cli.main(["--help"]) == 0
    assert "recurra --version" in capsys.readouterr().out
    assert cli.main(["read", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "of what --state-in read (default: [])" in told
    assert "a state that the first documents continue, as many as it is of" in told
    assert cli.main(["eval", "--help"]) == 0
    assert "of documents, at most 16" in " ".join(capsys.readouterr().out.split())


def test_light_commands_import_nothing_heavy():
    code = "import sys\nfrom recurra.recipes import cli\ncli.main(['recipes'])\ncli.main(['train', 'tmase'])\n"
    code += "assert not {'torch', 'lightning'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
