"""Training: a recipe in, a run folder out."""

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from rich.console import Console

from recurra.agents import ActorCritic, Reader
from recurra.envs import make_streams
from recurra.envs.documents import expand
from recurra.errors import UserError
from recurra.recipes import devices, parsing, runs, settings
from recurra.recipes.callbacks import Checkpoints, Display, Metrics, StopOnInterrupt
from recurra.recipes.curriculum import Curriculum
from recurra.recipes.ppo import PPO
from recurra.recipes.reading import Reading
from recurra.recipes.rollout import Collector
from recurra.recipes.settings import ActingRecipe, ReadingRecipe, Recipe


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C, its checkpoint saved."""


def train(
    recipe: str, *, resume: str | None = None, root: str = "runs", console: Console | None = None, **overrides: Any
) -> dict[str, Any]:
    """Train what a recipe says; the Python door of ``recurra train``.

    Args:
        recipe: a shipped recipe's name or the path of a YAML file.
        resume: "auto" goes on with the newest unfinished run of the recipe under ``root`` (and begins a new one if
            there is none), a run folder's path with that run.
        root: where run folders are made, as ``root/RECIPE/N``.
        console: where progress is shown; None shows nothing.
        overrides: settings on top of the recipe, such as ``memory="gru"`` or ``**{"env.corridor": [2, 64]}``.

    Returns:
        ``run`` (the folder), ``seconds``, ``steps``, ``steps_per_second`` and ``metrics`` of the last update.

    Raises:
        UserError: if the recipe, a setting or the run to resume is wrong.
        Interrupted: if Ctrl-C stopped it.
    """
    return start(recipe, parsing.override(overrides), resume=resume, root=root, console=console)


def start(
    recipe: str, overrides: list[str], *, resume: str | None = None, root: str = "runs", console: Console | None = None
) -> dict[str, Any]:
    """Do what `train` does, with overrides as on a command line."""
    console = console or Console(quiet=True)
    path = settings.find(recipe)
    wanted = settings.read(path, overrides)  # before a folder is made: mistakes leave no trace
    run = _resumable(resume, root, path.stem, overrides)
    if run is None:
        devices.precision(wanted.precision, devices.device(wanted.device))
        if wanted.threads is None:
            wanted.threads = torch.get_num_threads()
        module = build(wanted)
        run = runs.create(root, path.stem)
        wanted.write(run.config)
        run.write_versions()
        console.print(f"{run.folder}: training {path.stem}", highlight=False)
    else:
        wanted = settings.read(run.config, [])
        module = build(wanted)
        where = "its checkpoint" if run.checkpoint.is_file() else "the start: it has no checkpoint yet"
        console.print(f"{run.folder}: going on from {where}", highlight=False)
    if isinstance(module, PPO) and not module.collector.streams.saves:
        console.print(
            f"this environment cannot be saved: episodes begin anew at each checkpoint, "
            f"every {wanted.checkpoint_every} updates",
            highlight=False,
        )
    threads = torch.get_num_threads()
    try:
        return _fit(run, wanted, module, console)
    finally:
        torch.set_num_threads(threads)
        if isinstance(module, PPO):
            module.collector.streams.close()
        run.unlock()


def build(recipe: Recipe) -> PPO | Reading:
    """Build what a recipe describes: data, agent and trainer module, all from its seed."""
    torch.manual_seed(recipe.seed)
    network: dict[str, Any] = {
        "memory": recipe.memory,
        "dim": recipe.dim,
        "layers": recipe.layers,
        "expansion": recipe.expansion,
        "memory_options": recipe.memory_options,
    }
    if isinstance(recipe, ActingRecipe):
        return _build_acting(recipe, network)
    assert isinstance(recipe, ReadingRecipe)
    return _build_reading(recipe, network)


def _build_acting(recipe: ActingRecipe, network: dict[str, Any]) -> PPO:
    options = dict(recipe.env)
    name = options.pop("id")
    curriculum = None
    if recipe.curriculum is not None:
        option = recipe.curriculum.option
        if option not in options:
            raise UserError(f"curriculum.option {option!r} is not among the settings of env: {', '.join(options)}")
        make_streams(name, 1, **options).close()  # a wrong target is told now, not when it is reached
        curriculum = Curriculum(recipe.curriculum, target=options[option])
        options[option] = curriculum.value
    streams = make_streams(name, recipe.environments, **options)
    agent = ActorCritic(streams.observation_space, streams.action_space, **network)
    collector = Collector(
        streams, seed=recipe.seed, discount=recipe.ppo.discount, scale_rewards=recipe.ppo.scale_rewards
    )
    return PPO(agent, collector, options=recipe.ppo, updates=recipe.updates, seed=recipe.seed, curriculum=curriculum)


def _build_reading(recipe: ReadingRecipe, network: dict[str, Any]) -> Reading:
    return Reading(
        Reader(**network),
        expand(recipe.documents),
        expand(recipe.held_out),
        options=recipe.reading,
        updates=recipe.updates,
        seed=recipe.seed,
    )


def _resumable(resume: str | None, root: str, name: str, overrides: list[str]) -> runs.Run | None:
    if resume is None:
        return None
    run = runs.unfinished(root, name) if resume == "auto" else runs.reopen(resume)
    if run is not None and overrides:
        run.unlock()
        raise UserError(f"a resumed run keeps its settings: leave out {' '.join(overrides)}, or start a new run")
    return run


def _fit(run: runs.Run, recipe: Recipe, module: PPO | Reading, console: Console) -> dict[str, Any]:
    metrics, stop = Metrics(run.metrics), StopOnInterrupt()
    display = Display(console, metrics, title=str(run.folder))
    _quieten()
    trainer = lightning.Trainer(
        accelerator="gpu" if devices.device(recipe.device).type == "cuda" else "cpu",
        devices=1,
        precision=recipe.precision,  # type: ignore[arg-type]
        max_epochs=1,
        logger=_loggers(run.folder),
        callbacks=[metrics, display, stop, Checkpoints(run, every=recipe.checkpoint_every)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        use_distributed_sampler=False,
    )
    torch.set_num_threads(recipe.threads or torch.get_num_threads())
    checkpoint = run.checkpoint if run.checkpoint.is_file() else None
    trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    if module.done < module.updates:
        raise Interrupted(f"stopped; go on with --resume {run.folder}")
    result = {
        "run": str(run.folder),
        "seconds": round(metrics.clock.seconds, 3),
        "steps": module.steps,
        "steps_per_second": round(module.steps / max(metrics.clock.seconds, 1e-9), 1),
        "next": module.next(str(run.folder)),
        "metrics": {name: None if figure != figure else figure for name, figure in module.metrics.items()},
    }
    run.write_result(result)
    return result


def _loggers(folder: Path) -> list[Any]:
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        return [TensorBoardLogger(save_dir=folder, name="", version="tensorboard")]
    except ModuleNotFoundError:
        return []


def _quieten() -> None:
    """Keep Lightning's own talk, of devices and of tips, off the screen."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # it gives numbers only
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
