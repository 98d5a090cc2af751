"""Command lines to settings: jsonargparse's parsers, with its errors in one line."""

import json
import re
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, get_loader, set_loader

from recurra.errors import UserError, nearest


def _load(text: str) -> Any:
    """Read YAML as jsonargparse does, without its way of naming any class to be called in the place of a value."""
    content = get_loader("yaml")(text)
    remaining = [content]
    while remaining:
        part = remaining.pop()
        if isinstance(part, dict):
            if any(str(name).split(".")[-1] == "class_path" for name in part):
                raise UserError("settings are values: class_path, which has code called, is not taken")
            remaining += part.values()
        elif isinstance(part, list):
            remaining += part
    return content


set_loader("settings", _load, exceptions=(yaml.YAMLError,))


def parser(prog: str) -> ArgumentParser:
    """Begin a parser that leaves errors to `parse`."""
    return ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False, parser_mode="settings")


def parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Parse and instantiate.

    Raises:
        UserError: if an option does not exist or has a wrong value.
    """
    try:
        parsed = parser.parse_args(arguments)
        _read_inner(parsed, arguments)
        return parser.instantiate(parsed)
    except UserError:
        raise
    except (ArgumentError, ValueError) as error:  # the latter where settings that may be left out are wrong
        raise UserError(_one_line(str(error), parser)) from error


def _read_inner(parsed: Namespace, arguments: list[str]) -> None:
    """Read the numbers of options in options, ``--env.options.corridor 5``: jsonargparse leaves them as text."""
    for argument in arguments:
        path = argument.partition("=")[0].removeprefix("--").split(".")
        inner = parsed.get(path[0]) if len(path) == 3 else None
        inner = inner.get(path[1]) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get(path[2]), str):
            inner[path[2]] = _load(inner[path[2]])


def _one_line(message: str, parser: ArgumentParser) -> str:
    options = {option[2:] for action in parser._actions for option in action.option_strings if option[:2] == "--"}
    options -= {option for option in options if option.startswith("print_") or option.endswith(".help")}
    unknown = re.search(
        r"unrecognized arguments: (?:--)?(?P<given>[^\s=]+)|Option '(?P<read>[^']+)' is not accepted"
        r"|Group '(?P<group>[^']+)' does not accept option '(?P<inner>[^']+)'",
        message,
    )
    if unknown:
        name = unknown["given"] or unknown["read"] or f"{unknown['group']}.{unknown['inner']}"
        close = nearest(name, options)
        return f"there is no option {name!r}; " + (close if close.startswith("did") else f"see {parser.prog} --help")
    # Of the ways to read a value that may be null, the first is the one that was meant.
    message = re.sub(
        r"Does not validate against any of the Union subtypes.*?Errors:\s*- (.*?)\n\s*- .*", r"\1", message, flags=re.S
    )
    message = re.sub(r"Problem with given class_path '[^']*':\s*", "", message)
    wrong = re.search(r'Parser key "([^"]+)":\s*(.*)', message, re.DOTALL)
    if wrong:
        inner = re.sub(r'^Parser key "([^"]+)":\s*', r".\1: ", wrong.group(2))
        reason = re.sub(r"<class '(?:\w+\.)*(\w+)'>|typing\.(?=Literal)", r"\1", " ".join(inner.split()))
        return f"{wrong.group(1)}{'' if inner.startswith('.') else ': '}{reason}"
    return f"{' '.join(message.split())}; see {parser.prog} --help"


def override(options: dict[str, Any]) -> list[str]:
    """Write options, such as ``{"env.corridor": [2, 8]}``, as a command line would.

    >>> override({"memory": "gru", "env.corridor": [2, 8], "curriculum": None})
    ['--memory=gru', '--env.corridor=[2, 8]', '--curriculum=null']
    """
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items()]


def values(given: Any) -> list[Any]:
    """Read the values of a grid: a list, a number, or numbers and words with commas between them.

    Raises:
        UserError: if they are none of these.

    >>> values("100,1000"), values([5, 6]), values(7)
    ([100, 1000], [5, 6], [7])
    """
    if isinstance(given, str):
        try:
            return [yaml.safe_load(part) for part in given.split(",") if part.strip()]
        except yaml.YAMLError as error:
            raise UserError(f"{given!r} are no values with commas between them: 10,100, or [[0,1],[2,3]]") from error
    return given if isinstance(given, list) else [given]
