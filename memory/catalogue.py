"""The memories by name: what `recurra memories` lists and `--memory NAME` builds."""

import importlib
import inspect
from dataclasses import dataclass
from typing import Any, NamedTuple

from recurra.errors import UserError, nearest
from recurra.kernels import launching
from recurra.memory.attention import Attention, MemoryAsContext, Samba, SlidingWindow, WithAttention
from recurra.memory.base import Memory
from recurra.memory.miras import PRESETS, Associative, DeltaNet, LinearAttention, Retention
from recurra.memory.none import NoMemory
from recurra.memory.options import made
from recurra.memory.recurrent import GRU, LSTM, MinGRU, MinLSTM
from recurra.memory.segment import ARMT, ELMUR, RMT, TransformerXL
from recurra.memory.shared import SRMT, Alone, Pooled


@dataclass(frozen=True)
class MemoryInfo:
    """What is known of a memory.

    Attributes:
        name: what `build` calls it.
        family: whose kind it is of, such as ``recurrent``; ``own`` of a user's.
        paper: where it was published; empty where it was not.
        grain: see `Memory`.
        bounded: see `Memory`.
        backends: those of the memory's backends that this machine can run.
        rule: of an associative memory, its architecture, attentional bias, retention gate and learning algorithm.
        path: what computes it: an operation of `recurra.kernels` or of torch, or ``generic``, any rule in plain torch;
            empty where nothing is said.
        team: whether a team shares it.
    """

    name: str
    family: str
    paper: str
    grain: int
    bounded: bool
    backends: tuple[str, ...]
    rule: str
    path: str
    team: bool


class _Entry(NamedTuple):
    module: type[Memory]
    family: str
    paper: str
    options: dict[str, Any] = {}  # noqa: RUF012 (never written to)
    rule: str = ""
    path: str = ""


_TABLE = {
    "none": _Entry(NoMemory, "none", ""),
    "gru": _Entry(GRU, "recurrent", "Cho et al. 2014, arXiv 1406.1078", path="torch"),
    "lstm": _Entry(LSTM, "recurrent", "Hochreiter and Schmidhuber 1997", path="torch"),
    "min_gru": _Entry(MinGRU, "recurrent", "Feng et al. 2024, arXiv 2410.01201", path="linear_recurrence"),
    "min_lstm": _Entry(MinLSTM, "recurrent", "Feng et al. 2024, arXiv 2410.01201", path="linear_recurrence"),
    "linear_attention": _Entry(
        LinearAttention,
        "miras",
        "Katharopoulos et al. 2020, arXiv 2006.16236",
        rule="matrix, dot, none, gradient",
        path="delta_rule",
    ),
    "retention": _Entry(
        Retention,
        "miras",
        "Sun et al. 2023, arXiv 2307.08621",
        rule="matrix, dot, scalar, gradient",
        path="delta_rule",
    ),
    "delta_net": _Entry(
        DeltaNet,
        "miras",
        "Yang et al. 2024, arXiv 2406.06484",
        rule="matrix, l2, none, gradient",
        path="delta_rule",
    ),
    "gated_delta_net": _Entry(
        DeltaNet,
        "miras",
        "Yang et al. 2024, arXiv 2412.06464",
        {"decay": True, "gate": True, "value_factor": 2},
        rule="matrix, l2, scalar, gradient",
        path="delta_rule",
    ),
    **{name: _Entry(Associative, "miras", preset.paper, preset.options) for name, preset in PRESETS.items()},
    "titans_mac": _Entry(MemoryAsContext, "attention", "Behrouz et al. 2025, arXiv 2501.00663"),
    "titans_mag": _Entry(WithAttention, "attention", "Behrouz et al. 2025, arXiv 2501.00663", {"join": "gate"}),
    "titans_mal": _Entry(WithAttention, "attention", "Behrouz et al. 2025, arXiv 2501.00663", {"join": "layer"}),
    "attention": _Entry(Attention, "attention", "Vaswani et al. 2017, arXiv 1706.03762", path="torch"),
    "window": _Entry(SlidingWindow, "attention", "Ren et al. 2024, arXiv 2406.07522", path="torch"),
    "samba": _Entry(Samba, "attention", "Ren et al. 2024, arXiv 2406.07522"),
    "rmt": _Entry(RMT, "segment", "Bulatov et al. 2022, arXiv 2207.06881", path="torch"),
    "rate": _Entry(
        RMT, "segment", "Cherepanov et al. 2023, arXiv 2306.09459", {"valve": "ca2", "mutual": True}, path="torch"
    ),
    "armt": _Entry(ARMT, "segment", "Rodkin et al. 2024, arXiv 2407.04841", path="torch"),
    "elmur": _Entry(ELMUR, "segment", "Cherepanov et al. 2025, arXiv 2510.07151", path="torch"),
    "transformer_xl": _Entry(TransformerXL, "segment", "Dai et al. 2019, arXiv 1901.02860", path="torch"),
    "associative": _Entry(Associative, "miras", "Behrouz et al. 2025, arXiv 2504.13173"),
    "srmt": _Entry(SRMT, "shared", "Sagirova et al. 2025, arXiv 2501.13200"),
    "pooled_yaad": _Entry(Pooled, "shared", "Behrouz et al. 2025, arXiv 2504.13173", {"memory": "yaad"}),
    "pooled_gated_delta_net": _Entry(
        Pooled, "shared", "Yang et al. 2024, arXiv 2412.06464", {"memory": "gated_delta_net"}
    ),
    "pooled": _Entry(Pooled, "shared", "Behrouz et al. 2025, arXiv 2504.13173"),
    "alone": _Entry(Alone, "alone", ""),
}


def names(*, team: bool | None = None) -> list[str]:
    """List the memories that `build` knows by name: all, those of one stream, or those that a team shares.

    >>> "delta_net" in names()
    True
    """
    return [name for name, entry in _TABLE.items() if team is None or entry.module.team == team]


def describe(name: str) -> MemoryInfo:
    """Say what a memory is: a listed one, or a user's own, as in `build`.

    >>> describe("gru").family
    'recurrent'

    Raises:
        UserError: if there is no such memory, or it cannot be built without options.
    """
    entry = _named(name)
    memory: Any = build(name, 16)
    rule, path = entry.rule, entry.path
    learner = memory
    while not isinstance(learner, Associative) and hasattr(learner, "memory"):
        learner = learner.memory
    if isinstance(learner, Associative):
        rule, path = learner.rule.summary, getattr(memory, "path", learner.path)
    return MemoryInfo(
        name,
        entry.family,
        entry.paper,
        memory.grain,
        memory.bounded,
        tuple(backend for backend in memory.backends if backend != "triton" or launching.available()),
        rule=rule,
        path=path,
        team=memory.team,
    )


def build(name: str, dim: int, **options: Any) -> Memory:
    """Build a memory by its name, or a user's own by its dotted path ``package.module:Class``.

    >>> build("delta_net", 64, heads=4).dim
    64

    Raises:
        UserError: if there is no such memory, or it does not take an option, or its value, or ``dim``.
    """
    entry = _named(name)
    return made(name, entry.module, dim, {**entry.options, **options})


def takes(name: str, option: str) -> bool:
    """Say whether a memory takes an option of that name.

    >>> takes("delta_net", "heads"), takes("gru", "heads")
    (True, False)

    Raises:
        UserError: if there is no such memory.
    """
    taken = inspect.signature(_named(name).module).parameters
    return option in taken or any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())


def is_team(name: str) -> bool:
    """Say whether a team shares a memory.

    >>> is_team("srmt"), is_team("gru")
    (True, False)

    Raises:
        UserError: if there is no such memory.
    """
    return _named(name).module.team


def has_layers(name: str) -> bool:
    """Say whether a memory is a network of layers itself, and so takes the options ``layers`` and ``expansion``.

    >>> has_layers("rmt"), has_layers("gru")
    (True, False)

    Raises:
        UserError: if there is no such memory.
    """
    return {"layers", "expansion"} <= inspect.signature(_named(name).module).parameters.keys()


def _named(name: str) -> _Entry:
    return _Entry(_import(name), "own", "") if ":" in name else _entry(name)


def _entry(name: str) -> _Entry:
    if name not in _TABLE:
        raise UserError(f"no memory is named {name!r}; {nearest(name, _TABLE)}; your own is named package.module:Class")
    return _TABLE[name]


def _import(path: str) -> type[Memory]:
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # the last two: of names like `:A`, `.a:A`
        raise UserError(f"memory {path} could not be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Memory)):
        raise UserError(f"{path} is no subclass of recurra.memory.Memory")
    if missing := sorted(found.__abstractmethods__):
        raise UserError(f"memory {path} does not implement {', '.join(missing)}")
    return found
