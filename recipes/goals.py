"""What the figures of training are for: the best agent is kept, and training ends where it was to get."""

import math
from typing import Any

import lightning

from recurra import agents
from recurra.recipes.runs import Run
from recurra.recipes.settings import BestOptions, StopOptions


class Best(lightning.Callback):
    """Keeps the agent of the update where a figure was best so far."""

    def __init__(self, run: Run, options: BestOptions) -> None:
        self.run, self.options = run, options
        self.found: dict[str, Any] = {}

    def on_train_batch_end(self, trainer: Any, module: Any, *unused: Any) -> None:
        """Keep the agent, if it is better than all before it."""
        figure = module.metrics[self.options.metric]
        if math.isnan(figure) or not self._better(figure):
            return
        self.found = {"metric": self.options.metric, "figure": figure, "update": module.done, "steps": module.steps}
        if trainer.is_global_zero:
            agents.save(module.agent, self.run.best)

    def _better(self, figure: float) -> bool:
        if not self.found:
            return True
        return figure < self.found["figure"] if self.options.better == "lower" else figure > self.found["figure"]

    def state_dict(self) -> dict[str, Any]:
        """Hold what the best figure is, and of which update."""
        return dict(self.found)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from it."""
        self.found = dict(state_dict)


class Stop(lightning.Callback):
    """Ends training once a figure has got where it was to get, and stayed there, or gets no better."""

    def __init__(self, options: StopOptions) -> None:
        self.options, self.met, self.best = options, 0, math.nan

    @property
    def reached(self) -> bool:
        """Whether that is so."""
        return self.met >= self.options.patience

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Stop at once, if a run that is resumed had reached it."""
        trainer.should_stop = trainer.should_stop or self.reached

    def on_train_batch_end(self, trainer: Any, module: Any, *unused: Any) -> None:
        """Count how often in a row it was there."""
        figure = trainer.strategy.broadcast(module.metrics[self.options.metric])  # processes stop together
        if not math.isnan(figure):  # measured in this update
            if self.options.met_by(figure, self.best):
                self.met += 1
            else:
                self.met, self.best = 0, figure
            trainer.should_stop = trainer.should_stop or self.reached

    def state_dict(self) -> dict[str, Any]:
        """Hold the count, and the best figure where it is to get better."""
        return {"met": self.met, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from it."""
        self.met, self.best = state_dict["met"], state_dict["best"]
