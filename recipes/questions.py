"""Learning to answer questions about documents: of growing length first, then about streams that do not end.

Two kinds of updates. In a curriculum, documents of some segments each, whole, gradients flowing through all of them;
in each task, who answers goes on to longer ones. Of tasks that have passed the last stage every second update reads the
next piece of each stream, with the memory's state carried and detached: what was written many pieces ago is asked for.
The loss is of answers alone, and of what is written but is no fact where that is asked for: a memory that writes prose
drowns the facts in it. In documents of facts alone writing costs nothing: a gate that is closed to everything learns
nothing any more.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recurra.agents import Reader, tokens
from recurra.agents.reader import ReaderState
from recurra.envs.documents import Source
from recurra.errors import UserError
from recurra.memory import gates
from recurra.memory import state as states
from recurra.recipes.optimising import Learning
from recurra.recipes.settings import QuestionsEnv, QuestionsOptions
from recurra.recipes.stages import Stages
from recurra.recipes.storytelling import Bank, Stream, Told, document, words


def tokenizer(env: QuestionsEnv, documents: list[Source]) -> str | None:
    """Learn or read the vocabulary that a recipe names; None for bytes.

    Raises:
        FileNotFoundError: if it names a file that is not there.
        UserError: if the file is no tokenizer's.
    """
    if env.tokens == "bytes":
        return None
    if env.tokens == "bpe":
        return tokens.learn(words(documents, env.tasks), env.vocabulary)
    if not Path(env.tokens).suffix and not Path(env.tokens).exists():
        raise UserError(f"env.tokens must be bpe, bytes or the path of a tokenizers file, got {env.tokens!r}")
    return tokens.read(env.tokens)


class Questions(Learning):
    """A reader, the documents it learns from, and the steps.

    Args:
        reader: what learns.
        documents: books to hide facts in.
        tasks: which facts and questions.
        options: see `QuestionsOptions`.
        updates: how many to make.
        seed: of the documents.

    Raises:
        UserError: if there are no sentences in the books, or writes are to cost that the memory does not tell.
    """

    options: QuestionsOptions
    shown = ("loss", "accuracy", "stage", "stream_accuracy", "written", "gradient_norm", "learning_rate")

    def __init__(
        self,
        reader: Reader,
        documents: list[Source],
        *,
        tasks: Sequence[str],
        options: QuestionsOptions,
        updates: int,
        seed: int,
    ) -> None:
        super().__init__(reader, options=options, updates=updates)
        self.seed = seed
        if options.write_penalty and not _heard(reader):
            raise UserError(
                f"memory {reader.config['memory']} does not say how strongly it writes: --reading.write_penalty 0"
            )
        self.bank = Bank(documents, reader.tokens)
        if not len(self.bank):
            raise UserError("there are no sentences in the documents to hide facts in")
        self.streams = [
            Stream(
                tasks,
                self.bank,
                length=options.piece,
                mean=options.document,
                rates=(options.facts[0], options.facts[1]),
                seed=f"{seed}/stream/{row}",
                decoys=options.decoys,
                false_answers=options.false_answers,
            )
            for row in range(options.streams)
        ]
        self.stages = Stages(tasks, options)
        self.turns = 0  # of tasks that have passed the last stage
        self.state: ReaderState | None = None

    def next(self, run: str) -> str:
        """Give the command that measures what was learnt."""
        return f"recurra eval {run} --grid.length 0,1k,4k,16k,128k"

    @property
    def steps_per_update(self) -> int:
        """Tokens of an update."""
        return self.options.tokens

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Learn from documents of the stage, or from the next piece of each stream."""
        stage = self.stages.draw_stage(Random(f"{self.seed}/{self.done}/stage"))
        graduated = stage == self.stages.end
        self.turns += graduated
        streaming = graduated and self.turns % 2 == 1
        tasks, rows = self._pieces() if streaming else self._documents(stage)
        read, numbers, right, idle, first = (np.stack(parts) for parts in zip(*rows, strict=True))
        within = streaming or first[:, 1:].any()  # documents begin elsewhere than with the piece
        asked = torch.as_tensor(numbers > 0, device=self.device)
        inputs = torch.as_tensor(read, device=self.device)
        with gates.heard() as costs:
            logits, state = self.agent.answer(
                inputs,
                asked,
                self.state if streaming else None,
                first=torch.as_tensor(first, device=self.device) if within else None,
            )
        if streaming:
            self.state = states.detach(state)
        written = self._written(costs, torch.as_tensor(idle, device=self.device))
        wanted = torch.as_tensor(right, device=self.device)[asked]
        # A piece may ask for nothing: then there is only what was written to learn from.
        loss = functional.cross_entropy(logits, wanted) if len(wanted) else logits.sum()
        step = self.improve(loss + self.options.write_penalty * written)
        nothing = float("nan")
        found = judged(logits.detach().argmax(-1) == wanted, numbers)
        share = float(np.mean([answer for row in found for answer in row] or nothing))
        if not streaming:
            answers: dict[str, list[bool]] = defaultdict(list)
            for task, row in zip(tasks, found, strict=True):
                answers[task] += row
            for task, own in answers.items():
                if own:  # something was asked
                    self.stages.judge(task, float(np.mean(own)))
        standing = self.stages.standing
        self.metrics = {
            "loss": loss.item(),
            "accuracy": nothing if streaming else share,
            "stage": self.stages.mean,
            "stream_accuracy": share if streaming else nothing,
            "written": written.item(),
            **step,
            **{f"stage/{task}": float(own.stage) for task, own in standing.items() if len(standing) > 1},
        }

    def _written(self, costs: list[Tensor], idle: Tensor) -> Tensor:
        """Give the cost of idle writing, a mean over tokens and layers; 0 of a memory that does not tell.

        Args:
            costs: of each layer ``(batch, time, ...)``.
            idle: ``(batch, time)`` bool, the tokens that need not be written.
        """
        if not costs:
            return torch.zeros((), device=self.device)
        return torch.stack([(cost.flatten(2).mean(2) * idle).mean() for cost in costs]).mean()

    def _documents(self, stage: int) -> tuple[list[str], list[Told]]:
        """Make documents of the tasks at a stage; of those past the last, of all stages.

        Those of facts alone are short at first, so that there is little to learn from, later as long as any.
        """
        rng = Random(f"{self.seed}/{self.done}/{stage}")
        lengths = self.options.lengths
        graduated = stage == self.stages.end
        drawn = rng.randrange(len(lengths)) if graduated else stage
        facts_alone = drawn < len(self.options.facts_alone)
        length = rng.choice(lengths) if graduated and facts_alone else lengths[drawn]
        tasks, rows = [], []
        for _ in range(self.options.tokens // length):
            tasks.append(self.stages.draw_task(rng, stage))
            rows.append(
                document(
                    tasks[-1],
                    self.bank,
                    rng,
                    length=length,
                    facts_alone=facts_alone,
                    decoys=self.options.decoys,
                    false_answers=self.options.false_answers,
                )
            )
        return tasks, rows

    def _pieces(self) -> tuple[list[str], list[Told]]:
        """Read on in each stream; the documents that it comes to are of tasks that have passed the last stage."""
        if self.state is None:
            self.state = self.agent.initial_state(self.options.streams)
        rows = []
        for stream in self.streams:
            stream.tasks = self.stages.graduates
            rows.append(next(stream))
        return [stream.task for stream in self.streams], rows

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add all that learning goes on from: the stage, the place in each stream, and the memory's state there."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["questions"] = {
            "done": self.done,
            "stages": self.stages.state_dict(),
            "turns": self.turns,
            "streams": [[stream.number, stream.piece, stream.task] for stream in self.streams],
            "state": None if self.state is None else dict(states.fields(self.state)),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from where `on_save_checkpoint` was called."""
        saved = checkpoint["questions"]
        if checkpoint["agent"]["tokenizer"] != self.agent.config["tokenizer"]:
            raise UserError(
                "the checkpoint is of other documents, from which another vocabulary is learnt: name the same"
            )
        self.done, self.turns = saved["done"], saved["turns"]
        self.stages.load_state_dict(saved["stages"])
        for stream, place in zip(self.streams, saved["streams"], strict=True):
            if place[0] >= 0:
                stream.open(*place)
        if saved["state"] is not None:
            self.state = states.rebuild(saved["state"], self.agent.initial_state(self.options.streams))


@torch.no_grad()
def _heard(reader: Reader) -> bool:
    """Say whether a reader's memory tells how strongly it writes."""
    with gates.heard() as costs:
        reader.advance(torch.zeros(1, 1, dtype=torch.long), reader.initial_state(1))
    return bool(costs)


def judged(right: Tensor, numbers: NDArray[np.int64]) -> list[list[bool]]:
    """Say of each row's answers whether all their tokens are right.

    Args:
        right: ``(count,)`` bool, of the tokens of answers, row by row.
        numbers: ``(rows, time)``, the answer that each token belongs to, 0 for none.
    """
    rows, columns = np.nonzero(numbers)
    answers: list[dict[int, bool]] = [{} for _ in numbers]
    for row, number, fine in zip(rows.tolist(), numbers[rows, columns].tolist(), right.tolist(), strict=True):
        answers[row][number] = answers[row].get(number, True) and fine
    return [list(row.values()) for row in answers]
