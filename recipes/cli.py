"""The command ``recurra``."""

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from functools import partial
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from recurra import __version__
from recurra.errors import UserError, nearest, reason
from recurra.recipes.figures import shown, spanned

#: What a command gives: the object that --json prints, and what is shown without it.
Answer = tuple[dict[str, Any], list[Any]]

# What is heavy (torch, Lightning) is imported inside the command that needs it.


def recipes(arguments: list[str]) -> Answer:
    """List the shipped recipes."""
    from recurra.recipes import settings

    _parser("recipes", recipes).parse_args(arguments)
    listed = [{"name": name, "summary": settings.summary(path)} for name, path in settings.shipped().items()]
    return {"recipes": listed}, [_table(listed)]


def memories(arguments: list[str]) -> Answer:
    """List the memory modules, or those named; with --laws, how far each is from breaking a law.

    With --choices, what an associative memory can be made of, and which combinations have no meaning.
    """
    from recurra import memory

    parser = _parser("memories", memories)
    parser.add_argument("names", nargs="*", help="memories out of the list (default: all)")
    parser.add_argument("--laws", action="store_true", help="measure each memory against each law (seconds each)")
    parser.add_argument("--choices", action="store_true", help="what an associative memory is made of")
    options = parser.parse_args(arguments)
    if options.choices:
        return _choices()
    listed = []
    for name in options.names or memory.names():
        row = asdict(memory.describe(name))
        if options.laws:
            row |= memory.laws.measure(memory.build(name, 16))
        listed.append(row)
    hidden = {"grain", "bounded", "backends", "paper"}  # in a terminal what fits one; --json has all
    shown = [{key: value for key, value in row.items() if key not in hidden} for row in listed]
    return {"memories": listed}, [_table(shown)]


def _choices() -> Answer:
    """List the four choices of an associative memory, and what is refused of their combinations."""
    from recurra.memory.miras import CHOICES, OBJECTIONS

    rows = [
        {"choice": choice, "name": name, "what": what}
        for choice, known in CHOICES.items()
        for name, what in known.items()
    ]
    refused = [objection.reason for objection in OBJECTIONS]
    return {"choices": rows, "refused": refused}, [_table(rows), "\n".join(("refused, since:", *refused))]


def train(arguments: list[str]) -> Answer:
    """Train what a recipe says: a shipped recipe's name or a YAML file, and settings on top of it."""
    parser = _Parser(prog="recurra train", description=train.__doc__, allow_abbrev=False)
    parser.usage = "recurra train RECIPE [--resume auto|RUN] [--root DIR] [--json] [--setting value ...]"
    parser.epilog = "The settings of a recipe: recurra train RECIPE --help"
    parser.add_argument("recipe", help="a shipped recipe's name (see recurra recipes) or the path of a YAML file")
    _add_beside_settings(parser)
    named = bool(arguments) and not arguments[0].startswith("-")
    asks_help = {"-h", "--help"} & set(arguments)
    from recurra.recipes import settings

    if named and asks_help:
        settings.show_help(settings.find(arguments[0]), f"recurra train {arguments[0]}", add=_add_beside_settings)
        raise SystemExit(0)
    if not named and not asks_help:
        raise UserError("name a recipe first: recurra train RECIPE; recurra recipes lists the shipped ones")
    options, overrides = parser.parse_known_args(arguments)
    path = settings.find(options.recipe)  # before what takes seconds to import
    if "--print_config" in overrides:
        settings.read(path, overrides)
    from recurra.recipes import processes
    from recurra.recipes.training import start

    led = processes.followed()
    result = start(options.recipe, overrides, resume=options.resume, root=options.root, console=Console())
    if led:  # the process that leads tells what came of it
        raise SystemExit(0)
    figures = {"steps": result["steps"], "seconds": result["seconds"], **result["metrics"]}
    rows = [{"figure": name.replace("_", " "), "at the end": value} for name, value in figures.items()]
    found = result.get("best")
    best = (
        [f"best: {found['folder']} ({found['metric']} {found['figure']:.4g}, update {found['update']})"]
        if found
        else []
    )
    return result, [_table(rows), *best, f"next: {result['next']}"]


def _add_beside_settings(parser: argparse.ArgumentParser) -> None:
    """Add what `recurra train` takes beside a recipe's settings."""
    parser.add_argument("--resume", help="auto: the newest unfinished run of the recipe; or a run's folder")
    parser.add_argument("--root", default="runs", help="where run folders are made; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def evaluate(arguments: list[str]) -> Answer:
    """Measure trained agents, by their runs, checkpoints, folders or shipped names, the first beside the others."""
    from recurra.recipes import parsing

    parser = parsing.parser("recurra eval")
    parser.description = evaluate.__doc__
    parser.add_argument("runs", nargs="+", help="run folders, checkpoints, agents' folders or shipped names")
    parser.add_argument("--config", action="config", help="a YAML file of these options")
    parser.add_argument(
        "--env", type=dict[str, Any], default={}, help="--env.OPTION VALUE: on top of the trained one's"
    )
    parser.add_argument("--grid", type=dict[str, Any], default={}, help="--grid.OPTION V1,V2: a row for each value")
    parser.add_argument(
        "--episodes", type=int | None, default=None, help="how many, each row (default: 100, or the protocol's)"
    )
    parser.add_argument(
        "--protocol",
        type=str | None,
        default=None,
        help="of teams: bottleneck, SRMT's, over lengths of corridors; pogema, its benchmark, beside published figures",
    )
    parser.add_argument(
        "--lengths", type=Any, default=None, help="of bottleneck's corridors: 30,400 (default: all 58 of them)"
    )
    parser.add_argument(
        "--kinds",
        type=Any,
        default=None,
        help="of pogema's maps: random,mazes,warehouse,puzzles (default: these); movingai, pathfinding with --data",
    )
    parser.add_argument("--sizes", type=Any, default=None, help="of pogema's teams: 8,16 (default: the benchmark's)")
    parser.add_argument("--tasks", type=Any, default=None, help="of pogema's: lifelong,one-shot")
    parser.add_argument(
        "--sample", type=bool, default=False, help="draw actions, by the seed, instead of taking the likeliest"
    )
    parser.add_argument(
        "--in_pogema", type=bool, default=False, help="have teams play the same episodes in the package pogema itself"
    )
    parser.add_argument(
        "--environments", type=int, default=256, help="the most to act in at once; of documents, at most 16"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the episodes")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda or auto")
    parser.add_argument("--precision", type=str, default="32-true", help="32-true or bf16-mixed")
    parser.add_argument(
        "--data", type=str | None, default=None, help="published files to read: BABILong's; pogema's maps of one kind"
    )
    parser.add_argument("--report", type=str | None, default=None, help="a folder to write an HTML report to")
    parser.add_argument("--trace", action="store_true", help="show there where answers were read, for runs that answer")
    parser.add_argument(
        "--video", type=str | None, default=None, help="a folder to write an episode of each row to: GIF, of teams SVG"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parsing.parse(parser, arguments).as_dict()
    del options["json"], options["config"]
    options["grid"] = {name: parsing.values(given) for name, given in options["grid"].items()}
    for name in ("lengths", "kinds", "sizes", "tasks"):
        if options[name] is not None:
            options[name] = parsing.values(options[name])
    from recurra.recipes.evaluation import evaluate as measure

    result = measure(options.pop("runs"), **options)
    runs = list(dict.fromkeys(row["run"] for row in result["rows"]))
    hidden = ["run", "env", "std_return", "seconds", "steps_per_second", "video"]
    hidden += ["mean_return", "by_depth"] if "by_depth" in result["rows"][0] else ["task"]
    if "protocol" in result:
        hidden += ["episodes", "success_rate", "mean_return", "mean_length", "makespan"]
        hidden += [name for name in result["rows"][0] if all(row[name] is None for row in result["rows"])]
        hidden = [name for name in hidden if name != "task"] if result["protocol"] == "pogema" else hidden
    hidden += [name for name in result["rows"][0] if name.endswith("_95")]
    hidden += ["success_rate"] if "CSR" in result["rows"][0] else []  # the same
    several = len(runs) > 1
    rows = [
        ({"run": runs.index(row["run"]) + 1} if several else {})
        | {
            name: spanned(value, row[f"{name}_95"]) if row.get(f"{name}_95") else value
            for name, value in row.items()
            if name not in hidden
        }
        for row in result["rows"]
    ]
    parts: list[Any] = [_table(rows), *(f"run {number}: {run}" for number, run in enumerate(runs, 1) if several)]
    parts += [] if several else [f"run: {runs[0]}"]
    if result.get("published"):
        parts += ["published:", _table(_by_agents(result["published"]))]
    parts += [f"video: {row['video']}" for row in result["rows"] if "video" in row]
    return result, [*parts, f"report: {result['report']}"] if "report" in result else parts


def _by_agents(published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lay figures of several sizes of teams side by side."""
    sizes = sorted({row["agents"] for row in published})
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in published:
        (figure,) = row.keys() - {"model", "kind", "task", "agents"}
        about = {"model": row["model"], "kind": row["kind"], "task": row["task"], "figure": figure}
        line = lines.setdefault(tuple(about.values()), about | {str(size): None for size in sizes})
        line[str(row["agents"])] = row[figure]
    return list(lines.values())


def read(arguments: list[str]) -> Answer:
    """Read documents of any length with a trained reader, at constant memory, and ask about them."""
    from recurra.recipes import parsing

    parser = parsing.parser("recurra read")
    parser.description = read.__doc__
    parser.add_argument(
        "documents",
        nargs="*",
        default=[],
        help="files, folders, text:WORK for a bundled one, - for standard input; none, to ask of what --state-in read",
    )
    parser.add_argument(
        "--reader", type=str, required=True, help="a run folder, a checkpoint, a reader's folder or shipped name"
    )
    parser.add_argument("--config", action="config", help="a YAML file of these options")
    parser.add_argument(
        "--question", action="append", type=str, help="what to ask about each document; may be repeated"
    )
    parser.add_argument(
        "--answers-as-you-go", type=int | None, default=None, help="ask on the way, too, every so many tokens"
    )
    parser.add_argument("--at-once", type=int, default=1, help="how many documents to read side by side")
    parser.add_argument(
        "--state-in",
        type=str | None,
        default=None,
        help="a state that the first documents continue, as many as it is of",
    )
    parser.add_argument("--state-out", type=str | None, default=None, help="where the state is written as reading goes")
    parser.add_argument(
        "--resume", action="store_true", help="skip what --state-in has read of those that it continues, and count on"
    )
    parser.add_argument(
        "--trace", type=str | None, default=None, help="a folder for a page that shows where each answer was read"
    )
    parser.add_argument("--continue", type=int, default=0, help="how many tokens to write on after the last document")
    parser.add_argument("--temperature", type=float, default=0.8, help="of writing; 0 takes the likeliest")
    parser.add_argument("--seed", type=int, default=0, help="of writing")
    parser.add_argument("--piece", type=int, default=65_536, help="bytes between writes of the state")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda or auto")
    parser.add_argument("--precision", type=str, default="32-true", help="32-true or bf16-mixed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parsing.parse(parser, arguments).as_dict()
    del options["json"], options["config"]
    from recurra.recipes.streaming import read as stream

    options["questions"], options["answers_every"] = options.pop("question"), options.pop("answers_as_you_go")
    done: list[dict[str, Any]] = []
    try:
        result = stream(
            options.pop("documents"), write=options.pop("continue"), console=Console(), each=done.append, **options
        )
    except (UserError, OSError, KeyboardInterrupt):
        for part in _read(done):
            _say(part)
        raise
    said = (
        f"{result['tokens_per_second']:,.0f} tokens/s, state {result['state_bytes']:,} bytes, "
        f"memory at most {result['peak_rss_bytes']:,} bytes"
    )
    page = [f"where it was read: {result['trace']}"] if "trace" in result else []
    written = [result["written"]] if "written" in result else []
    return result, [*_read(result["documents"]), said, *page, *written]


def _read(documents: list[dict[str, Any]]) -> list[Table]:
    """Give tables of what came of documents."""
    names = ("path", "bytes", "tokens", "bits_per_byte")
    answers = [
        {"path": row["path"], "after tokens": answer["at"], "question": answer["question"], "answer": answer["answer"]}
        for row in documents
        for answer in row["answers"]
    ]
    rows = [{name: row[name] for name in names} for row in documents]
    return [_table(part) for part in (rows, answers) if part]


def record(arguments: list[str]) -> Answer:
    """Record episodes of any environment to learn from: random actions, an oracle's, or a trained agent's."""
    from recurra.recipes import parsing

    parser = parsing.parser("recurra record")
    parser.description = record.__doc__
    parser.add_argument("environment", help="a Gymnasium environment's id")
    parser.add_argument("--config", action="config", help="a YAML file of these options")
    parser.add_argument(
        "--policy",
        type=str,
        default="random",
        help="random, oracle (of T-Mazes and MiniGrid-Memory), or a trained agent's run, folder or shipped name",
    )
    parser.add_argument("--episodes", type=int, default=100, help="how many")
    parser.add_argument(
        "--out", type=str, required=True, help="a new folder, or one of the same environment, which is added to"
    )
    parser.add_argument("--env", type=dict[str, Any], default={}, help="--env.OPTION VALUE: of the environment")
    parser.add_argument("--environments", type=int, default=64, help="the most to act in at once")
    parser.add_argument("--seed", type=int, default=0, help="of the environments, and of random actions")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda or auto")
    parser.add_argument("--precision", type=str, default="32-true", help="32-true or bf16-mixed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parsing.parse(parser, arguments).as_dict()
    del options["json"], options["config"]
    from recurra.recipes.collecting import record as collect

    options["options"] = options.pop("env")
    result = collect(options.pop("environment"), options.pop("out"), **options)
    names = ("episodes", "steps", "mean_return", "success_rate", "seconds", "steps_per_second")
    said = f"{result['out']} holds {result['total_episodes']:,} episodes in {result['bytes']:,} bytes"
    return result, [_table([{name: result[name] for name in names}]), said]


def bench(arguments: list[str]) -> Answer:
    """Measure speed and memory, side by side with the peers that are installed."""
    listed = {
        "memory": "tokens per second of every memory, by length",
        "kernels": "the operations' chunked forms, beside token loops; on a GPU the Triton kernels, beside fla-core",
        "mlp_memory": "the operation of the MLP memories, beside what products of matrices can do",
        "rl": "environment steps per second of agents",
        "grid": "environment steps per second of grid worlds",
        "teams": "steps per second of teams: their worlds, acting in them, training",
        "lengths": "a step of acting after 100, 10,000 and 1,000,000 steps, beside a Decision Transformer",
        "segment": "diagonal batching of a segment memory, beside segment by segment",
        "reading": "tokens per second and memory of reading, by the document's length, beside full attention",
    }
    parser = _parser("bench", bench)
    parser.usage = "recurra bench WHAT [--out FILE] [--json] [--option value ...]"
    parser.epilog = "The options of a benchmark: recurra bench WHAT --help"
    parser.add_argument("what", help="; ".join(f"{name}: {summary}" for name, summary in listed.items()))
    parser.add_argument("--out", help="a new file to write the result to, with versions and commit")
    if not arguments or arguments[0].startswith("-"):
        parser.parse_args(arguments)
    what, *rest = arguments
    if what not in listed:
        raise UserError(f"there is no benchmark {what!r}; {nearest(what, listed)}")
    from recurra.benchmarks import (
        grid,
        lengths,
        memories,
        mlp,
        operations,
        reading,
        results,
        segment,
        teams,
        timing,
        training,
    )
    from recurra.recipes import devices, parsing

    inner = parsing.parser(f"recurra bench {what}")
    inner.description = listed[what]
    inner.add_argument("--config", action="config", help="a YAML file of these options")
    measured: dict[str, Callable[..., Any]] = {
        "memory": memories.run,
        "kernels": operations.run,
        "mlp_memory": mlp.run,
        "rl": training.run,
        "grid": grid.run,
        "teams": teams.run,
        "lengths": lengths.run,
        "segment": segment.run,
        "reading": reading.run,
    }
    inner.add_function_arguments(measured[what], skip={"train"})
    inner.add_argument(
        "--out", type=str | None, default=None, help="a new file to write the result to, with versions and commit"
    )
    inner.add_argument("--json", action="store_true", help="print one JSON object")
    options = parsing.parse(inner, rest).as_dict()
    del options["json"], options["config"]
    out = options.pop("out")
    path = None if out is None else results.free(out)  # before minutes of measuring
    if what not in ("rl", "teams"):
        if "device" in options:
            options["device"] = devices.device(options["device"]).type
        rows = measured[what](**options)
    else:
        from recurra.recipes import train as train_recipe

        with tempfile.TemporaryDirectory() as root:
            rows = measured[what](partial(train_recipe, root=root), **options)
    result = {"rows": rows, "machine": timing.machine(options.get("device", "cpu"))}
    if path is not None:
        results.write(path, result, command=["recurra", "bench", *arguments])
    shown_rows = [{name: value for name, value in row.items() if name not in ("parameters", "peer")} for row in rows]
    peers = " or ".join(dict.fromkeys(row["peer"] for row in rows if row["peer"]))
    said = [f"ratio: to {peers or 'a peer, if it were installed'}", result["machine"]]
    if what == "kernels" and options["device"] == "cpu":
        said.append("the Triton kernels are timed with --device cuda, which needs an NVIDIA GPU and torch built for it")
    return result, [_table(shown_rows), *said, *([] if path is None else [f"written to {path}"])]


COMMANDS: dict[str, Callable[[list[str]], Answer]] = {
    "recipes": recipes,
    "train": train,
    "eval": evaluate,
    "read": read,
    "record": record,
    "bench": bench,
    "memories": memories,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; give the exit status: 0, 2 for what the user got wrong, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        if arguments[:1] == ["--version"]:
            print(f"recurra {__version__}")
        elif not arguments or arguments[0] in ("-h", "--help", "help"):
            _help()
        elif arguments[0] not in COMMANDS:
            raise UserError(f"there is no command {arguments[0]!r}; {nearest(arguments[0], COMMANDS)}")
        else:
            sys.path.insert(0, os.getcwd())  # a user's own memory, package.module:Class, lies where they work
            as_json = "--json" in arguments
            with redirect_stdout(sys.stderr) if as_json else nullcontext():  # environments talk, too
                result, parts = COMMANDS[arguments[0]](arguments[1:])
            if as_json:
                print(json.dumps(result))
            else:
                for part in parts:
                    _say(part)
        return 0
    except SystemExit as end:  # a parser's, after --help or --print_config
        return int(end.code or 0)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stop:
        print(f"recurra: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    except (UserError, OSError) as error:
        if debug:
            raise
        print(f"recurra: error: {reason(error)}", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        moot = re.match(r"unrecognized arguments: (--(?:device|precision|print_config))\b", message)
        if moot:
            raise UserError(f"{self.prog} only lists what there is, and has no settings: leave out {moot[1]}")
        raise UserError(f"{message}; see {self.prog} --help")


def _parser(command: str, function: Callable[..., Any]) -> argparse.ArgumentParser:
    parser = _Parser(prog=f"recurra {command}", description=function.__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _help() -> None:
    print("usage: recurra COMMAND [--help] [--debug]\n       recurra --version\n\nRecurrent memory for streams.\n")
    for name, function in COMMANDS.items():
        print(f"  {name:<10}{(function.__doc__ or '').splitlines()[0]}")


def _say(part: Any) -> None:
    """Print a text or a table; what is read by a program, or from a file, is not cut to the width of a window."""
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 1000)
    console.print(part, highlight=False, markup=False, soft_wrap=isinstance(part, str))


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(rows[0]):
        table.add_column(name.replace("_", " "), no_wrap=index == 0)
    for row in rows:
        table.add_row(
            *(", ".join(map(str, value)) if isinstance(value, tuple) else shown(value) for value in row.values())
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
