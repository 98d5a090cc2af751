"""How agents are trained and measured: recipes, and the command line.

The doors ``train``, ``evaluate``, ``read`` and ``record`` import Lightning and torch only when they are opened.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recurra.recipes.collecting import record
    from recurra.recipes.evaluation import evaluate
    from recurra.recipes.streaming import read
    from recurra.recipes.training import Interrupted, train

__all__ = ["Interrupted", "evaluate", "read", "record", "train"]

_HOMES = {
    "evaluate": "evaluation",
    "read": "streaming",
    "record": "collecting",
    "train": "training",
    "Interrupted": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
