"""The twenty tasks of bAbI, told fact by fact by a simulator of our own.

The worlds, phrases and answers are those of Weston et al. 2015 (arXiv 1502.05698) in the released version 1.2, on which
BABILong stands (Kuratov et al. 2024, arXiv 2406.10149).

>>> from random import Random
>>> sample = draw("qa1", Random(3))
>>> sample.facts[-1], sample.question.text, sample.question.answer
('John journeyed to the bedroom.', 'Where is Sandra?', 'garden')
"""

from random import Random
from typing import NamedTuple

from recurra.envs.documents.babi.carrying import Counting, Giving, IsThere, Listing, WhereIsThing, WhereWasThing
from recurra.envs.documents.babi.disguise import disguised
from recurra.envs.documents.babi.going import Before, Conjunction, Coreference, They, WhereIs, WhereWas
from recurra.envs.documents.babi.placing import Either, Negation
from recurra.envs.documents.babi.reasoning import Colour, Direction, Fear, Path, Position, Size
from recurra.envs.documents.babi.story import Question, Story
from recurra.envs.documents.babi.wanting import Motive
from recurra.errors import UserError, nearest

__all__ = ["TASKS", "Question", "Sample", "Story", "begin", "draw", "tell"]

#: By BABILong's names; ``qa3-people`` is none of its tasks, but a step towards qa3: where was Mary before the kitchen?
_PLAIN: dict[str, type[Story]] = {
    "qa1": WhereIs,
    "qa2": WhereIsThing,
    "qa3": WhereWasThing,
    "qa3-people": WhereWas,
    "qa4": Direction,
    "qa5": Giving,
    "qa6": IsThere,
    "qa7": Counting,
    "qa8": Listing,
    "qa9": Negation,
    "qa10": Either,
    "qa11": Coreference,
    "qa12": Conjunction,
    "qa13": They,
    "qa14": Before,
    "qa15": Fear,
    "qa16": Colour,
    "qa17": Position,
    "qa18": Size,
    "qa19": Path,
    "qa20": Motive,
}

#: These tasks, and each again as ``qa1-varied``: told in words that do not stand out from a book's.
TASKS = _PLAIN | {f"{name}-varied": disguised(story) for name, story in _PLAIN.items()}


class Sample(NamedTuple):
    """One question about the facts before it."""

    facts: list[str]
    question: Question


def begin(task: str, rng: Random) -> Story:
    """Begin a story of a task.

    Raises:
        UserError: if there is no such task.
    """
    if task not in TASKS:
        raise UserError(f"there is no task {task!r}; {nearest(task, TASKS)}")
    return TASKS[task](rng)


def draw(task: str, rng: Random) -> Sample:
    """Tell a story up to one of its questions, any of them as likely as another, as BABILong takes them apart.

    Raises:
        UserError: if there is no such task.
    """
    return tell(begin(task, rng))


def tell(story: Story) -> Sample:
    """Do what `draw` does with a story that has not begun yet; it may be asked more afterwards."""
    left, since = story.rng.randrange(story.questions), 0
    while True:
        told = len(story.facts)
        more = story.happen()
        since += len(story.facts) - told
        if more and (since < story.least or story.rng.random() >= story.chance):
            continue
        question = story.ask()
        if question is not None:
            if left == 0:
                return Sample(story.facts, question)
            left, since = left - 1, 0
