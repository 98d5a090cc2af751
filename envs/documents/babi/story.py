"""What all tasks share: a story that goes on fact by fact, and that can be asked about at any time."""

from abc import ABC, abstractmethod
from random import Random
from typing import ClassVar, NamedTuple

ROOMS = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
PEOPLE = ("Daniel", "John", "Mary", "Sandra")

#: The people and places of the tasks about time and about what is not sure.
TOWNSPEOPLE = ("Bill", "Fred", "Julie", "Mary")
TOWN = ("bedroom", "cinema", "kitchen", "office", "park", "school")

GO = ("went to", "moved to", "travelled to", "journeyed to", "went back to")
GET = ("got", "took", "grabbed", "picked up")
DROP = ("dropped", "left", "discarded", "put down")
GIVE = ("gave", "handed", "passed")


class Question(NamedTuple):
    """A question about a story.

    Attributes:
        text: the question, as it is asked.
        answer: a word, or words with commas between them.
        support: numbers of the facts that it follows from, counted from 0.
    """

    text: str
    answer: str
    support: tuple[int, ...]


class Story(ABC):
    """A story of one task.

    Attributes:
        labels: the words that answers are made of.
        questions: how many are asked about a story.
        least: how many facts there are at least between two of them.
        chance: how likely a question is after each further fact.
        facts: the sentences told so far.
    """

    labels: ClassVar[tuple[str, ...]]
    questions: int = 5
    least: int = 2
    chance: float = 1.0

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.facts: list[str] = []

    @property
    def over(self) -> bool:
        """Whether there are no more facts; most stories go on without end."""
        return False

    @abstractmethod
    def happen(self) -> bool:
        """Tell the next fact; say whether there was one, which there is until the story is over."""

    @abstractmethod
    def ask(self) -> Question | None:
        """Ask something that the facts told so far answer, None while they answer nothing."""

    def tell(self, fact: str) -> int:
        """Add a fact, and give its number."""
        self.facts.append(fact)
        return len(self.facts) - 1

    def other(self, known: tuple[str, ...], *but: str) -> str:
        """Choose one that is none of those."""
        return self.rng.choice([one for one in known if one not in but])

    def is_there(self, person: str, room: str, support: tuple[int, ...], *, yes: float = 0.5) -> Question:
        """Ask whether a person is in a room: the one where they are with probability ``yes``, or another."""
        right = self.rng.random() < yes
        asked = room if right else self.other(self.labels_of_rooms, room)
        return Question(f"Is {person} in the {asked}?", "yes" if right else "no", support)

    labels_of_rooms: ClassVar[tuple[str, ...]] = ROOMS
