"""The peer of ``recurra bench rl``: sb3-contrib's RecurrentPPO, run as a script by a Python that has it.

The script needs sb3-contrib and gymnasium beside it, not recurra: its T-Maze is loaded from the files that lie here.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any


def main(options: dict[str, Any]) -> dict[str, Any]:
    """Train, act, and give what was measured.

    RecurrentPPO in its fastest form: one LSTM, shared by actor and critic, and minibatches as large as ours.

    Args:
        options: ``corridor``, ``environments``, ``rollout``, ``updates``, ``epochs``, ``minibatches``, ``dim``,
            ``layers`` (widths of the actor's and the critic's own layers after the LSTM), ``threads``, ``seed``,
            ``batches`` (of acting) and ``budget`` (seconds for each).

    Returns:
        ``per_second`` (environment steps, of the whole training loop), ``acting`` (seconds of a call of predict, for
        each of the batches), ``parameters``, and ``bytes`` of state for one stream.
    """
    import numpy as np
    import sb3_contrib
    import torch
    from stable_baselines3.common.vec_env import DummyVecEnv

    _load_recurra()
    from recurra.benchmarks.timing import seconds
    from recurra.envs.tmaze import TMaze

    torch.set_num_threads(options["threads"])
    environments, steps = options["environments"], options["rollout"] * options["environments"]
    model = sb3_contrib.RecurrentPPO(
        "MlpLstmPolicy",
        DummyVecEnv([lambda: TMaze(corridor=options["corridor"])] * environments),
        n_steps=options["rollout"],
        batch_size=steps // options["minibatches"],
        n_epochs=options["epochs"],
        policy_kwargs={
            "lstm_hidden_size": options["dim"],
            "shared_lstm": True,
            "enable_critic_lstm": False,
            "net_arch": options["layers"],
        },
        seed=options["seed"],
        device="cpu",
    )
    start = time.perf_counter()
    model.learn(steps * options["updates"])
    passed = time.perf_counter() - start

    acting = []
    for batch in options["batches"]:
        obs, starts = np.zeros((batch, 2), np.float32), np.zeros(batch, bool)
        _, state = model.predict(obs, episode_start=~starts, deterministic=False)

        def act(obs: Any = obs, state: Any = state, starts: Any = starts) -> None:
            model.predict(obs, state, starts, deterministic=False)

        acting.append(seconds(act, budget=options["budget"]))
    return {
        "per_second": model.num_timesteps / passed,
        "parameters": sum(parameter.numel() for parameter in model.policy.parameters() if parameter.requires_grad),
        "bytes": 2 * 4 * options["dim"],
        "acting": acting,
    }


def _load_recurra() -> None:
    """Make the package importable from its own files, whatever their folder is called and whichever Python runs."""
    root = Path(__file__).parents[1]
    spec = importlib.util.spec_from_file_location(
        "recurra", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["recurra"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["recurra"])


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
