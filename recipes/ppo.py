"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347) for agents with memory.

One step of the Lightning trainer is one rollout with all its updates. Every update reads whole sequences again from
the states stored at their starts, resets included, so gradients flow through the memory as far as a sequence goes.
"""

import math
from itertools import chain
from typing import Any, NamedTuple

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recurra.agents import ActorCritic
from recurra.agents.encoder import Leaves
from recurra.errors import UserError
from recurra.memory import state as states
from recurra.recipes import processes
from recurra.recipes.compiling import compiled
from recurra.recipes.curriculum import Curriculum
from recurra.recipes.rollout import Collector, Rollout
from recurra.recipes.settings import PPOOptions


def advantages(
    rewards: Tensor, values: Tensor, ends: Tensor, next_value: Tensor, *, discount: float, gae_lambda: float
) -> Tensor:
    """Estimate advantages (Schulman et al. 2016, arXiv 1506.02438, Eq. 16).

    Args:
        rewards: ``(batch, time)``, a truncated episode's last with its discounted bootstrap value.
        values: ``(batch, time)``.
        ends: ``(batch, time)`` bool, whether the episode ended after this step.
        next_value: ``(batch,)``.
        discount: gamma.
        gae_lambda: λ of generalised advantage estimation.

    Returns:
        ``(batch, time)``: A_t = delta_t + gamma lambda A_{t+1}, delta_t = r_t + gamma V_{t+1} - V_t.

    >>> one = torch.ones(1, 2)
    >>> advantages(one, 0 * one, one.bool(), torch.ones(1), discount=0.9, gae_lambda=1.0)
    tensor([[1., 1.]])
    """
    going_on = discount * (~ends).to(values.dtype)
    following = torch.cat((values[:, 1:], next_value[:, None]), 1)
    delta = rewards + going_on * following - values
    estimates = [torch.zeros_like(next_value)]
    for delta_t, going_on_t in zip(reversed(delta.unbind(1)), reversed((gae_lambda * going_on).unbind(1)), strict=True):
        estimates.append(torch.addcmul(delta_t, going_on_t, estimates[-1]))
    return torch.stack(estimates[:0:-1], 1)


class Batch(NamedTuple):
    """Sequences to learn from, in the form of a state: tensors ``(sequences, time, ...)`` and the memory's starts.

    Where ``present`` is None, all is.
    """

    tokens: Leaves
    first: Tensor
    present: Tensor | None
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor
    starts: Any


def sequences(rollout: Rollout, length: int, *, discount: float, gae_lambda: float) -> Batch:
    """Cut a rollout into sequences of a length, each with the memory's state at its start.

    Advantages are normalised over the whole rollout (over what is present, in every process that learns from it);
    returns are what the critic is to learn.
    """
    advantage = advantages(
        rollout.rewards, rollout.values, rollout.ends, rollout.next_value, discount=discount, gae_lambda=gae_lambda
    )
    returns = advantage + rollout.values
    known = torch.cat([part.to(advantage.device) for part in processes.gather(advantage[rollout.present])])
    advantage = (advantage - known.mean()) / (known.std() + 1e-8)

    # (batch, time, ...) -> (pieces * batch, length, ...), piece by piece like the stored states.
    def cut(tensor: Tensor) -> Tensor:
        return torch.cat(tensor.split(length, dim=1))

    return Batch(
        tokens=states.transform(cut, rollout.tokens),
        first=cut(rollout.first),
        present=cut(rollout.present),
        actions=cut(rollout.actions),
        log_probs=cut(rollout.log_probs),
        advantages=cut(advantage),
        returns=cut(returns),
        starts=states.transform(lambda *pieces: torch.cat(pieces), *rollout.starts),
    )


def losses(agent: ActorCritic, batch: Batch, share: Tensor, *, options: PPOOptions) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the loss of sequences that are read again from their starts, and figures to watch.

    All are means over what is present, of which every process has ``share`` on average: DDP takes the mean of the
    processes' gradients, and that is then the gradient of one process on everyone's sequences.
    """
    present = batch.present

    def known(figures: Tensor) -> Tensor:
        return figures if present is None else figures.masked_fill(~present, 0.0)

    def mean(figures: Tensor) -> Tensor:
        return figures.sum() / share

    output, _ = agent(batch.tokens, batch.starts, first=batch.first, present=present)
    log_ratio = known(output.policy.log_prob(batch.actions) - batch.log_probs)
    ratio, gain = log_ratio.exp(), known(batch.advantages)
    policy_loss = -mean(torch.min(ratio * gain, ratio.clamp(1 - options.clip, 1 + options.clip) * gain))
    value_loss = mean(known(output.value - batch.returns).square())
    entropy = mean(known(output.policy.entropy()))
    loss = policy_loss + options.value * value_loss - options.entropy * entropy
    with torch.no_grad():
        figures = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "divergence": mean(ratio - 1 - log_ratio),
            "clipped": mean(((ratio - 1).abs() > options.clip).float()),
        }
    return loss, {name: figure.detach() for name, figure in figures.items()}


class PPO(lightning.LightningModule):
    """An agent, the environments it learns in, and the updates.

    Args:
        agent: what learns.
        collector: where it acts.
        options: see `PPOOptions`.
        updates: how many rollouts to learn from.
        seed: names the episodes that begin anew at checkpoints, where environments cannot be saved.
        curriculum: what grows as the agent succeeds.
        devices: how many processes learn together, each in environments of its own.
        compile: compile what is learnt by, see `recurra.recipes.compiling`.
    """

    def __init__(
        self,
        agent: ActorCritic,
        collector: Collector,
        *,
        options: PPOOptions,
        updates: int,
        seed: int,
        curriculum: Curriculum | None = None,
        devices: int = 1,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.agent, self.collector, self.options, self.curriculum = agent, collector, options, curriculum
        self.updates, self.seed, self.devices, self.done = updates, seed, devices, 0
        self.metrics: dict[str, float] = {}
        self._losses = compiled(losses) if compile else losses
        count = collector.streams.num * (options.rollout // options.sequence)
        if count < options.minibatches:
            raise UserError(
                f"{count} sequences cannot be split in {options.minibatches} minibatches: "
                "lower ppo.minibatches or raise environments"
            )
        if self.steps_per_update < 2:
            raise UserError("a rollout of one step has nothing to compare: raise ppo.rollout or environments")

    @property
    def shown(self) -> tuple[str, ...]:
        """The metrics to look at while it learns."""
        stage = () if self.curriculum is None else (self.curriculum.options.option,)
        return ("mean_return", "success_rate", "mean_length", *stage, "entropy")

    @property
    def saves(self) -> bool:
        """Whether a checkpoint holds all that learning goes on from, the environments too."""
        return self.collector.streams.saves

    def close(self) -> None:
        """Close the environments."""
        self.collector.streams.close()

    def next(self, run: str) -> str:
        """Give the command that shows what was learnt."""
        return f"recurra eval {run}"

    @property
    def steps(self) -> int:
        """Environment steps taken."""
        return self.done * self.steps_per_update

    @property
    def steps_per_update(self) -> int:
        """Environment steps in a rollout."""
        return self.options.rollout * self.collector.streams.num * self.devices

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Give Adam, with the epsilon that PPO's authors use."""
        return torch.optim.Adam(self.agent.parameters(), lr=self.options.learning_rate, eps=1e-5, fused=True)

    def train_dataloader(self) -> DataLoader:
        """Give the numbers of the rollouts that are left: the data is made by acting."""
        return DataLoader(range(self.done, self.updates), batch_size=None)  # type: ignore[arg-type]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Collect one rollout and learn from it."""
        options = self.options
        remaining = 1.0 - self.done / self.updates if options.anneal else 1.0
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = options.learning_rate * remaining
        rollout = self.collector.collect(self.agent, steps=options.rollout, sequence=options.sequence)
        self.metrics = self._learn(rollout)
        if self.agent.config["normalize_observations"]:  # not before: learning is to see the numbers that acting saw
            everyones = processes.gather(states.move((rollout.tokens, rollout.first, rollout.present), "cpu"))
            for tokens, first, present in everyones:
                self.agent.watch(tokens, first=first, present=present)
        self.done += 1
        finished = list(chain(*processes.gather(self.collector.take_finished())))
        recent = list(chain(*processes.gather(list(self.collector.episodes))))
        self.metrics |= {
            "episodes": float(len(finished)),
            "mean_return": _mean([episode.total for episode in recent]),
            "mean_length": _mean([float(episode.length) for episode in recent]),
            "success_rate": _mean([episode.success for episode in recent]),
            "learning_rate": options.learning_rate * remaining,
        }
        if self.curriculum is not None:
            if self.curriculum.promote([episode.success for episode in finished]):
                self._set_curriculum(self.curriculum)
            self.metrics[self.curriculum.options.option] = float(self.curriculum.level)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add all that training goes on from: where acting stands, the curriculum, the random numbers.

        Environments that cannot be saved begin their episodes anew, here and where the checkpoint is loaded: so a
        resumed run sees what an unbroken one sees.
        """
        if not self.saves:
            self.collector.restart(processes.seed(self.seed, self.done))
        checkpoint["agent"] = {"kind": type(self.agent).__name__, **self.agent.config}
        checkpoint["ppo"] = {
            "done": self.done,
            "collectors": processes.gather(self.collector.state_dict()),
            "curriculum": None if self.curriculum is None else self.curriculum.state_dict(),
            "random": processes.gather(torch.get_rng_state()),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from where `on_save_checkpoint` was called; the random numbers follow when training starts."""
        saved = checkpoint["ppo"]
        self.done = saved["done"]
        self.collector.load_state_dict(saved["collectors"][processes.rank()], self.agent)
        if not self.saves:
            self.collector.restart(processes.seed(self.seed, self.done))
        if self.curriculum is not None:
            self.curriculum.load_state_dict(saved["curriculum"])
            self._set_curriculum(self.curriculum)
        self._random = saved["random"][processes.rank()]

    def _set_curriculum(self, curriculum: Curriculum) -> None:
        for name, value in curriculum.settings.items():
            self.collector.streams.set(name, value)

    _random: Tensor | None = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Take up the random numbers where the checkpoint left them, once all that draws on them is set up."""
        if self._random is not None:
            torch.set_rng_state(self._random)
            self._random = None

    def _learn(self, rollout: Rollout) -> dict[str, float]:
        """Update the agent by a rollout, several times over; give the means of the updates' figures."""
        options = self.options
        batch = sequences(rollout, options.sequence, discount=options.discount, gae_lambda=options.gae_lambda)
        optimizer: Any = self.optimizers()
        weights = list(self.agent.parameters())
        names: list[str] = []
        seen: list[Tensor] = []
        for _ in range(options.epochs):
            for rows in torch.randperm(len(batch.first), device=batch.first.device).tensor_split(options.minibatches):
                part = states.select(batch, rows)
                assert part.present is not None
                share = processes.mean(part.present.sum().float())
                if not share:
                    continue
                part = part._replace(present=None) if part.present.all() else part
                loss, figures = self._losses(self.agent, part, share, options=options)
                optimizer.zero_grad()
                self.manual_backward(loss)
                figures["gradient_norm"] = nn.utils.clip_grad_norm_(weights, options.gradient_norm)
                optimizer.step()
                names = list(figures)
                seen.append(torch.stack(list(figures.values())))
        everyones = torch.tensor(list(chain(*processes.gather(torch.stack(seen).tolist()))), dtype=torch.float64)
        return dict(zip(names, everyones.mean(0).tolist(), strict=True))


def _mean(numbers: list[float]) -> float:
    known = [number for number in numbers if not math.isnan(number)]
    return sum(known) / len(known) if known else math.nan
