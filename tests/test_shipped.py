"""Agents that come with the package work right after installation."""

import json
from itertools import product
from pathlib import Path
from random import Random

import pytest

from recurra import agents
from recurra.agents import Reader, shipped
from recurra.envs.documents.babilong import TASKS
from recurra.recipes import cli


@pytest.mark.parametrize("name", shipped.names())
def test_each_is_loaded_by_its_name_and_has_a_card(name, tmp_path, monkeypatch):
    agent = agents.load(name)
    assert not agent.training
    card = (shipped.find(name) / "README.md").read_text()
    assert card.startswith(f"# {name}\n")
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()  # what is there goes first, and this is no agent
    with pytest.raises(agents.saving.UserError, match="holds no agent"):
        agents.load(name)


WALKS = "Mary went to the garden. John went to the office. Then Mary travelled to the kitchen."
THINGS = "Mary went to the garden. Mary got the milk there. Mary journeyed to the kitchen. Mary dropped the milk. "
CUT = " I know you all, and will awhile uphold the unyok'd hum"
GIFTS = "Fred went to the garden. Fred picked up the milk there. Jeff moved to the garden. Fred gave the milk to Jeff."


@pytest.mark.parametrize(
    ("name", "story", "asked"),
    [
        ("babilong-qa1", WALKS, {"Where is Mary?": "kitchen", "Where is John?": "office"}),
        ("babilong-five", WALKS, {"Where is Mary?": "kitchen", "Where is John?": "office"}),
        ("babilong-five", THINGS + "Mary moved to the bedroom.", {"Where is the milk?": "kitchen"}),
        ("babilong-five", GIFTS, {"Who gave the milk to Jeff?": "Fred", "What did Fred give to Jeff?": "milk"}),
        ("babilong-five", GIFTS + CUT, {"Who gave the milk to Jeff?": "Fred", "What did Fred give to Jeff?": "milk"}),
        ("babilong-all", WALKS, {"Where is Mary?": "kitchen", "Is Mary in the kitchen?": "yes"}),
        ("babilong-all", THINGS + "Mary moved to the bedroom.", {"Where is the milk?": "kitchen"}),
        ("babilong-all", GIFTS, {"Who gave the milk to Jeff?": "Fred", "What did Fred give to Jeff?": "milk"}),
    ],
)
def test_the_readers_answer(name, story, asked, tmp_path, capsys):
    (tmp_path / "story.txt").write_text(story)
    questions = [word for question in asked for word in ("--question", question)]
    assert cli.main(["read", str(tmp_path / "story.txt"), "--reader", name, *questions, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {answer["question"]: answer["answer"] for answer in told["documents"][0]["answers"]} == asked
    assert isinstance(agents.load(name), Reader)


def test_the_reader_of_five_tasks_knows_where_things_were_dropped():
    """All 192 stories in which somebody gets a thing, goes, drops it and goes on."""
    people, things = ("Mary", "John", "Sandra", "Daniel"), ("milk", "apple", "football")
    gets, drops = ("got", "took", "picked up", "grabbed"), ("dropped", "discarded", "put down", "left")
    reader = agents.load("babilong-five")
    for who, thing, get, drop in product(people, things, gets, drops):
        story = (
            f"{who} went to the garden. {who} {get} the {thing} there. {who} journeyed to the kitchen. "
            f"{who} {drop} the {thing}. {who} moved to the bedroom."
        )
        *_, state = reader.stream([story.encode()])
        assert reader.ask([f"Where is the {thing}?"], state) == ["kitchen"], story


def test_the_reader_of_five_tasks_does_not_lean_on_answers_that_it_has_read():
    """Wrong answers along the story cost them nothing."""
    reader, asked = agents.load("babilong-five"), 60
    undisturbed = misled = 0
    for seed in range(asked):
        rng = Random(seed)
        story, told, question = TASKS["qa3"](rng), [], None
        while len(story.facts) < 30 or question is None:
            before = len(story.facts)
            story.happen()
            told += story.facts[before:]
            question = story.ask()
            if question is not None and rng.random() < 0.5:
                wrong = rng.choice([room for room in story.labels if room != question.answer])
                told.append(f"{question.text} {wrong}.")
        for text, disturbed in ((" ".join(story.facts), False), (" ".join(told), True)):
            *_, state = reader.stream([text.encode()])
            right = reader.ask([question.text], state) == [question.answer]
            misled, undisturbed = misled + right * disturbed, undisturbed + right * (not disturbed)
    assert misled >= undisturbed - asked // 10


@pytest.mark.parametrize("name", [name for name in shipped.names() if name.startswith("bottleneck-")])
def test_each_team_changes_rooms(name, capsys):
    assert cli.main(["eval", name, "--protocol", "bottleneck", "--lengths", "5,20", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert all(row["CSR"] >= 0.8 for row in rows)


def test_the_team_of_the_sparse_reward_changes_rooms_always(capsys):
    command = ["eval", "bottleneck-sparse", "--protocol", "bottleneck", "--lengths", "10,60", "--json"]
    assert cli.main(command) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["CSR"] for row in rows] == [1.0, 1.0]
