"""Finding and reading a recipe's file, with overrides on top."""

import argparse
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from recurra.errors import UserError, nearest
from recurra.recipes import parsing
from recurra.recipes.settings.acting import ActingRecipe
from recurra.recipes.settings.common import Recipe, require
from recurra.recipes.settings.offline import OfflineRecipe
from recurra.recipes.settings.questions import QuestionsRecipe
from recurra.recipes.settings.reading import ReadingRecipe
from recurra.recipes.settings.recall import RecallRecipe

#: What a recipe's ``method`` may be.
METHODS: dict[str, type[Recipe]] = {
    kind.method: kind for kind in (ActingRecipe, ReadingRecipe, RecallRecipe, QuestionsRecipe, OfflineRecipe)
}


def shipped() -> dict[str, Path]:
    """Find the shipped recipes by name.

    >>> "tmaze" in shipped()
    True
    """
    folder = Path(str(resources.files("recurra.recipes.configs")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def summary(path: Path) -> str:
    """Say what a recipe is for: the first line of its file, a comment."""
    return path.read_text().partition("\n")[0].lstrip("# ")


def find(recipe: str) -> Path:
    """Find a recipe by a shipped name or the path of a YAML file.

    Raises:
        UserError: if there is neither.
    """
    known = shipped()
    if recipe in known:
        return known[recipe]
    if Path(recipe).suffix in (".yaml", ".yml"):
        if Path(recipe).is_file():
            return Path(recipe)
        raise UserError(f"{recipe}: no such recipe file")
    raise UserError(f"no recipe is named {recipe!r}; {nearest(recipe, known)}; your own is the path of a YAML file")


def read(path: Path, overrides: list[str], *, prog: str = "recurra train RECIPE") -> Recipe:
    """Read a recipe's file, with overrides such as ``["--ppo.learning_rate", "3e-4"]`` on top.

    Raises:
        UserError: if the file is no YAML, or a setting does not exist or has a wrong value.
    """
    kind = METHODS[_method(path)]
    values = parsing.parse(_parser(kind, prog), ["--config", str(path), *overrides])
    require(values["method"] == kind.method, f"{path} is a recipe of method {kind.method}, and only of that")
    return kind(**{setting.name: values[setting.name] for setting in fields(kind)})


def show_help(path: Path, prog: str, *, add: Callable[[argparse.ArgumentParser], None]) -> None:
    """Print the settings of a recipe, with its own values as their defaults.

    Args:
        path: its file.
        prog: the command, as the help names it.
        add: adds what the command takes beside the settings.

    Raises:
        UserError: if the file is no YAML, or a setting does not exist or has a wrong value.
    """
    kind = METHODS[_method(path)]
    parser = _parser(kind, prog, about_method=argparse.SUPPRESS)
    required = [action for action in parser._actions if action.required]
    for action in required:
        action.required = False
    values = parsing.parse(parser, ["--config", str(path)])
    for action in required:
        action.required = values[action.dest] is None
    parser.set_defaults({setting.name: _plain(values[setting.name]) for setting in fields(kind)})
    add(parser)
    parser.print_help()


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _parser(
    kind: type[Recipe],
    prog: str,
    *,
    about_method: str = "ppo, reading, recall, questions or offline, as the recipe's file says",
) -> ArgumentParser:
    parser = parsing.parser(prog)
    parser.add_argument("--config", action="config", help="a recipe's YAML file")
    parser.add_argument("--method", type=str, help=about_method)
    parser.add_class_arguments(kind)
    return parser


def _method(path: Path) -> str:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML: {error}") from error
    require(isinstance(content, dict), f"{path} is no recipe: expected settings, one a line, such as steps: 100000")
    method = str(content.get("method"))
    require(method in METHODS, f"{path} needs a line for its method; {nearest(method, METHODS)}")
    return method
