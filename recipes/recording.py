"""What an agent of recorded streams learns from: a folder of trajectories, or episodes that are recorded first."""

import shutil
from collections.abc import Callable
from pathlib import Path

from gymnasium import Space

from recurra.agents.shipped import find
from recurra.envs import make_streams
from recurra.envs.oracles import oracle
from recurra.envs.trajectories import Store
from recurra.errors import UserError
from recurra.recipes import collecting
from recurra.recipes.settings import OfflineRecipe


def check(recipe: OfflineRecipe) -> tuple[Space, Space]:
    """Give the spaces of what a recipe's agent is to learn from: observations, actions.

    Raises:
        UserError: if there is no such environment, or no such data, or nobody to record.
    """
    if recipe.data is not None:
        store = Store(recipe.data)
        return store.observation_space, store.action_space
    streams = make_streams(count=1, **recipe.env)
    streams.close()
    if recipe.policy == "oracle":
        try:
            oracle(streams, recipe.env["id"])
        except UserError as error:
            raise UserError(f"{error}, or a folder of trajectories with --data") from error
    if recipe.policy not in ("oracle", "random") and not find(recipe.policy).exists():
        raise UserError(
            f"there is no policy {recipe.policy!r} to record: name oracle, random, or a trained agent's run"
        )
    return streams.observation_space, streams.action_space


def store(recipe: OfflineRecipe, folder: Path, say: Callable[[str], None]) -> Store:
    """Open a recipe's trajectories; where it names none, record them into a run's folder, once."""
    if recipe.data is not None:
        return Store(recipe.data)
    data, scratch = folder / "data", folder / "data.new"
    if not data.is_dir():
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that ended while it recorded
        options = {name: value for name, value in recipe.env.items() if name != "id"}
        found = collecting.record(
            recipe.env["id"], str(scratch), policy=recipe.policy, episodes=recipe.episodes, options=options,
            environments=recipe.environments, seed=recipe.seed, device=recipe.device,
        )  # fmt: skip
        scratch.rename(data)
        mean = f"mean return {found['mean_return']:.3f}"
        say(f"{data}: recorded {found['episodes']} episodes of {found['steps']} steps, {mean}")
    return Store(data)
