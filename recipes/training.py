"""Training: a recipe in, a run folder out."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from rich.console import Console

from recurra.agents import RATE, ActorCritic, PretrainedReader, Reader
from recurra.envs import Streams, Teams, make_streams, make_teams
from recurra.envs.documents import expand
from recurra.errors import UserError, nearest, reason
from recurra.kernels.compiling import require as require_compiler
from recurra.memory import catalogue
from recurra.recipes import devices, loading, parsing, processes, recording, runs, settings
from recurra.recipes.callbacks import Checkpoints, Display, Finite, Metrics, StopOnInterrupt
from recurra.recipes.curriculum import Curriculum
from recurra.recipes.goals import Best, Stop
from recurra.recipes.measuring import Answering, Evaluation, Playing, Scoring
from recurra.recipes.offline import Offline
from recurra.recipes.ppo import PPO
from recurra.recipes.questions import Questions, tokenizer
from recurra.recipes.reading import Reading
from recurra.recipes.recalling import Recalling
from recurra.recipes.rollout import Collector
from recurra.recipes.settings import (
    ActingRecipe,
    OfflineRecipe,
    QuestionsRecipe,
    ReadingRecipe,
    RecallRecipe,
    Recipe,
)

Module = PPO | Reading | Recalling | Questions | Offline


class Ended(UserError):
    """Training ended before its time; its run is kept."""


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C, its checkpoint saved."""


def train(
    recipe: str, *, resume: str | None = None, root: str = "runs", console: Console | None = None, **overrides: Any
) -> dict[str, Any]:
    """Train what a recipe says; the Python door of ``recurra train``.

    Args:
        recipe: a shipped recipe's name or the path of a YAML file.
        resume: "auto" goes on with the newest unfinished run of the recipe under ``root`` (and begins a new one if
            there is none), a run folder's path with that run. Settings are the run's own: those given must agree.
        root: where run folders are made, as ``root/RECIPE/N``.
        console: where progress is shown; None shows nothing.
        overrides: settings on top of the recipe, such as ``memory="gru"`` or ``**{"env.corridor": [2, 64]}``.

    Returns:
        ``run`` (the folder), ``seconds``, ``steps``, ``steps_per_second``, ``next`` (the command that measures it),
        ``metrics`` of the last update, and ``best`` (its ``folder``, ``metric``, ``figure``, ``update`` and ``steps``)
        where the best along the way is kept.

    Raises:
        UserError: if the recipe, a setting or the run to resume is wrong; no new folder is left.
        Ended: if training diverged or could not be written; the run's folder is kept.
        Interrupted: if Ctrl-C stopped it.
    """
    return start(recipe, parsing.override(overrides), resume=resume, root=root, console=console)


def start(
    recipe: str, overrides: list[str], *, resume: str | None = None, root: str = "runs", console: Console | None = None
) -> dict[str, Any]:
    """Do what `train` does, with overrides as on a command line."""
    led = processes.followed()
    console = console if console and led is None else Console(quiet=True)
    path, threads = settings.find(recipe), torch.get_num_threads()
    name = path.stem
    run = runs.Run(led) if led else _reopen(resume, root, name)
    try:
        wanted = settings.read(path if run is None else run.config, overrides)
        if run is not None and wanted != settings.read(run.config, []):
            given = " ".join(overrides)
            raise UserError(f"{run.folder} keeps its settings when resumed: leave out {given}, or start a new run")
        wanted.threads = wanted.threads or threads
        torch.set_num_threads(wanted.threads)  # before anything is computed: it decides how sums are rounded
        if run is None:
            _check_options(path, wanted)
        module = build(wanted)
        evaluation = _evaluation(wanted, module)
        _check_goals(wanted, (*module.shown, *(evaluation.names if evaluation else ())))
        if run is None:  # only now is a folder made: most mistakes are told before
            run = runs.create(root, name)
            run.write_config(wanted)
            run.write_versions()
            anew = f" (nothing in {Path(root, name)} is left to resume)" if resume == "auto" else ""
            _say(console, f"{run.folder}: training {name}{anew}")
        else:
            where = "its checkpoint" if run.checkpoint.is_file() else "the start: it has no checkpoint yet"
            _say(console, f"{run.folder}: going on from {where}")
        if isinstance(wanted, OfflineRecipe):
            assert isinstance(module, Offline)
            module.open(recording.store(wanted, run.folder, lambda line: _say(console, line)))
        if not module.saves:
            every = f"every {wanted.checkpoint_every} updates"
            _say(console, f"this environment cannot be saved: episodes begin anew at each checkpoint, {every}")
        if wanted.devices > 1:
            processes.lead(str(run.folder), threads=wanted.threads)
        with closing(module):
            return _fit(run, wanted, module, evaluation, console)
    except Ended:
        raise
    except UserError:  # a mistake leaves no trace, unless something was learnt
        if run is not None:
            run.discard()
        raise
    finally:
        torch.set_num_threads(threads)
        processes.dismiss()
        if run is not None:
            run.unlock()


def _reopen(resume: str | None, root: str, name: str) -> runs.Run | None:
    if resume is None:
        return None
    return runs.unfinished(root, name) if resume == "auto" else runs.reopen(resume)


def build(recipe: Recipe) -> Module:
    """Build what a recipe describes: data, agent and trainer module, all from its seed.

    Raises:
        UserError: if a setting is wrong.
    """
    devices.precision(recipe.precision, devices.device(recipe.device))
    torch.manual_seed(recipe.seed)
    network: dict[str, Any] = {
        "memory": recipe.memory,
        "dim": recipe.dim,
        "layers": recipe.layers,
        "expansion": recipe.expansion,
        "memory_options": recipe.memory_options,
    }
    if isinstance(recipe, ActingRecipe):
        module = _build_acting(recipe, network)
        if module.saves:
            module.collector.streams.state_dict()  # what a checkpoint cannot hold is told now
        return module
    if isinstance(recipe, RecallRecipe):
        return _build_recalling(recipe, network)
    if isinstance(recipe, QuestionsRecipe):
        return _build_questions(recipe, network)
    if isinstance(recipe, OfflineRecipe):
        return _build_offline(recipe, network)
    assert isinstance(recipe, ReadingRecipe)
    return _build_reading(recipe, network)


def _build_acting(recipe: ActingRecipe, network: dict[str, Any]) -> PPO:
    if recipe.compile:
        require_compiler()
    options = dict(recipe.env)
    name = options.pop("id")
    make: Callable[..., Streams | Teams] = make_teams if recipe.team else make_streams
    curriculum = None
    if recipe.curriculum is not None:
        map = options.get("options") or {}  # of a grid world's generator, which may grow as well
        curriculum = Curriculum(recipe.curriculum, env={**options, **map})
        make(name, 1, **options).close()  # a wrong target is told now, not when it is reached
        for option, value in curriculum.settings.items():
            if option in map:
                options["options"] = {**options["options"], option: value}
            else:
                options[option] = value
    streams = make(name, recipe.environments // recipe.devices, **options)
    about = ("previous_action", "previous_reward", "normalize_observations", "encoder", "encoder_options", "team")
    told = {name: getattr(recipe, name) for name in about}
    agent = ActorCritic(streams.observation_space, streams.action_space, **network, **told)
    seed = recipe.seed
    if processes.rank():  # the same weights in every process, other episodes and actions
        seed = processes.seed(recipe.seed)
        torch.manual_seed(seed)
    collector = Collector(
        streams,
        seed=seed,
        discount=recipe.ppo.discount,
        scale_rewards=recipe.ppo.scale_rewards,
        compile=recipe.compile,
    )
    return PPO(
        agent,
        collector,
        options=recipe.ppo,
        updates=recipe.updates,
        seed=recipe.seed,
        curriculum=curriculum,
        devices=recipe.devices,
        compile=recipe.compile,
    )


def _build_reading(recipe: ReadingRecipe, network: dict[str, Any]) -> Reading:
    return Reading(
        Reader(**network),
        expand(recipe.documents),
        options=recipe.reading,
        updates=recipe.updates,
        seed=recipe.seed,
    )


def _build_recalling(recipe: RecallRecipe, network: dict[str, Any]) -> Recalling:
    tasks = recipe.env.tasks()
    reader = Reader(**network, vocabulary=tasks[0].vocabulary)
    return Recalling(reader, tasks, options=recipe.reading, updates=recipe.updates, seed=recipe.seed)


def _build_questions(recipe: QuestionsRecipe, network: dict[str, Any]) -> Questions:
    documents = expand(recipe.env.documents)
    shared = {source.name for source in documents} & {source.name for source in expand(recipe.env.held_out)}
    if shared:
        raise UserError(f"{min(shared)} is learnt from and measured by: leave it out of env.documents or env.held_out")
    reader: Reader
    if recipe.pretrained is None:
        reader = Reader(**network, tokenizer=tokenizer(recipe.env, documents), answers=True)
    else:
        memory = {name: network[name] for name in ("memory", "memory_options")}
        reader = PretrainedReader.from_pretrained(recipe.pretrained, **memory, answers=True)
    return Questions(
        reader,
        documents,
        tasks=recipe.env.tasks,
        options=recipe.reading,
        updates=recipe.updates,
        seed=recipe.seed,
    )


def _build_offline(recipe: OfflineRecipe, network: dict[str, Any]) -> Offline:
    observation_space, action_space = recording.check(recipe)
    told: dict[str, Any] = {name: getattr(recipe, name) for name in ("returns", "actions", "target", "scale")}
    grid = " --grid.corridor 7,28,88,148,298,598,898,1198,2398,4798,9598" if "corridor" in recipe.env else ""
    return Offline(
        RATE(observation_space, action_space, **network, **told),
        options=recipe.reading,
        updates=recipe.updates,
        seed=recipe.seed,
        show=f"recurra eval {{run}}{grid}",
    )


def _check_options(path: Path, recipe: Recipe) -> None:
    """Say which options that a recipe's file sets for its own memory another one does not take."""
    usual = settings.read(path, [])
    left = [
        name
        for name in usual.memory_options
        if name in recipe.memory_options and recipe.memory != usual.memory and not catalogue.takes(recipe.memory, name)
    ]
    if left:
        raise UserError(
            f"{path.stem} sets {', '.join(left)} for {usual.memory}, which {recipe.memory} does not take: begin from "
            "none with --memory_options '{}', and add its own as --memory_options.NAME VALUE"
        )


def _evaluation(recipe: Recipe, module: Module) -> Evaluation | None:
    """Build what measures while training goes on, if anything does."""
    measure: Scoring | Playing | Answering
    if isinstance(recipe, ReadingRecipe) and recipe.held_out:
        measure = Scoring(expand(recipe.held_out))
    elif isinstance(recipe, ActingRecipe | OfflineRecipe) and recipe.evaluation.every:
        assert isinstance(module, PPO | Offline)
        measure = Playing(recipe, module.agent)
    elif isinstance(recipe, QuestionsRecipe) and recipe.evaluation.episodes:
        measure = Answering(recipe)
    elif recipe.evaluation.every:
        raise UserError("evaluation.every needs held_out documents to measure by")
    else:
        return None
    return Evaluation(measure, measure.names, every=recipe.evaluation.every, precision=recipe.precision)


def _check_goals(recipe: Recipe, names: tuple[str, ...]) -> None:
    """Make sure that the figures which decide are known while training goes on."""
    later = (*Scoring.names, *Answering.names, *Playing.names)
    for role, goal in (("best", recipe.best), ("stop", recipe.stop)):
        if goal is None or (goal.metric in names and (recipe.evaluation.every or goal.metric not in later)):
            continue
        if goal.metric not in later:
            raise UserError(
                f"{role}.metric {goal.metric!r} is none of this recipe's figures; {nearest(goal.metric, names)}"
            )
        if role == "stop":
            raise UserError(f"stop.metric {goal.metric} is measured only with evaluation: --evaluation.every 10, say")


def _fit(
    run: runs.Run, recipe: Recipe, module: Module, evaluation: Evaluation | None, console: Console
) -> dict[str, Any]:
    metrics, interrupt = Metrics(run.metrics), StopOnInterrupt()
    names = (*module.shown, *(evaluation.names if evaluation else ()))
    best = Best(run, recipe.best) if recipe.best is not None and recipe.best.metric in names else None
    stop = Stop(recipe.stop) if recipe.stop is not None else None
    checkpoints = Checkpoints(run, every=recipe.checkpoint_every)
    display = Display(console, metrics, title=str(run.folder), names=names)
    in_turn = [Finite(), evaluation, metrics, best, stop, display, interrupt, checkpoints]  # after each update
    _quieten()
    trainer = lightning.Trainer(
        accelerator="gpu" if devices.device(recipe.device).type == "cuda" else "cpu",
        devices=recipe.devices,
        strategy="ddp" if recipe.devices > 1 else "auto",
        precision=recipe.precision,  # type: ignore[arg-type]
        max_epochs=1,
        default_root_dir=run.folder,
        logger=_loggers(run.folder),
        callbacks=[callback for callback in in_turn if callback is not None],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        use_distributed_sampler=False,
    )
    checkpoint = run.checkpoint if run.checkpoint.is_file() else None
    if checkpoint is not None:
        loading.checkpoint(checkpoint)  # Lightning's error for a damaged one is no clear line
    with interrupt, _telling(run, module, checkpoints):
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    stopped = stop is not None and stop.reached
    if module.done < module.updates and not stopped:
        raise Interrupted(f"stopped; go on with --resume {run.folder}")
    result = {
        "run": str(run.folder),
        "seconds": round(metrics.clock.seconds, 3),
        "steps": module.steps,
        "steps_per_second": round(module.steps / max(metrics.clock.seconds, 1e-9), 1),
        "next": module.next(str(run.folder)),
        "metrics": {name: None if figure != figure else figure for name, figure in module.metrics.items()},
    }
    if best is not None and best.found:
        result["best"] = {"folder": str(run.best), **best.found}
    if module.global_rank == 0:
        run.write_result(result)
    return result


@contextmanager
def _telling(run: runs.Run, module: Module, checkpoints: Checkpoints) -> Iterator[None]:
    """Tell in a line what ended training before its time, and how to go on: its last checkpoint is kept."""
    try:
        yield
    except SystemExit as ended:  # what Lightning makes of a KeyboardInterrupt: a second Ctrl-C
        raise KeyboardInterrupt(f"stopped at once; go on from before with --resume {run.folder}") from ended
    except OSError as error:  # a full disk, say
        again = f"go on from update {checkpoints.written} with --resume {run.folder}"
        raise Ended(f"{reason(error)}; {again}") from error
    except FloatingPointError as error:
        kept = f"update {checkpoints.written}" if checkpoints.written else "the figures up to there"
        raise Ended(
            f"training diverged at update {module.done}: {reason(error)}; {run.folder} keeps {kept}; "
            "begin anew with a lower learning rate or gradient norm"
        ) from error


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
    for message in (
        "does not have many workers",
        "Mismatch dtype between input and weight",
        "isinstance\\(treespec, LeafSpec\\)",
        "across ranks is zero",
    ):
        warnings.filterwarnings("ignore", message=f".*{message}.*")


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)
