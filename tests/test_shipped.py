"""Agents that come with the package work right after installation."""

import json
from pathlib import Path

import pytest

from recurra import agents
from recurra.agents import Reader, shipped
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


def test_the_reader_answers(tmp_path, capsys):
    story = tmp_path / "story.txt"
    story.write_text("Mary went to the garden. John went to the office. Then Mary travelled to the kitchen.")
    command = ["read", str(story), "--reader", "babilong-qa1", "--question", "Where is Mary?", "--question"]
    assert cli.main([*command, "Where is John?", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [answer["answer"] for answer in told["documents"][0]["answers"]] == ["kitchen", "office"]
    assert isinstance(agents.load("babilong-qa1"), Reader)


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
