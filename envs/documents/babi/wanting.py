"""The task about what people want: qa20."""

from random import Random
from typing import NamedTuple

from recurra.envs.documents.babi.story import GET, GO, Question, Story


class Want(NamedTuple):
    """What a mood makes somebody do: go to a room, and take a thing there."""

    room: str
    thing: str


WANTS = {
    "bored": Want("garden", "football"),
    "hungry": Want("kitchen", "apple"),
    "thirsty": Want("kitchen", "milk"),
    "tired": Want("bedroom", "pajamas"),
}


class Motive(Story):
    """qa20, agents' motivations: Sumit is tired; where will he go, and why does he?"""

    labels = ("bedroom", "bored", "garden", "hungry", "kitchen", "thirsty", "tired")
    least = 1

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        people = ["Antoine", "Jason", "Sumit", "Yann"]
        self.mood = dict(zip(people, rng.sample(list(WANTS), 4), strict=True))
        self.told: dict[str, list[int]] = {person: [] for person in people}
        # Not everybody takes what they went for.
        self.left = [person for person in people for _ in range(2 + (rng.random() < 0.7))]
        rng.shuffle(self.left)
        self.questions = len(self.left)  # one for each fact
        self.open: list[Question] = []

    @property
    def over(self) -> bool:
        """Whether all is told."""
        return not self.left

    def happen(self) -> bool:
        """Let somebody be in a mood, then go, then take something, and keep the question that this raises."""
        if self.over:
            return False
        person = self.left.pop()
        mood = self.mood[person]
        room, thing = WANTS[mood]
        said, done = person.lower(), len(self.told[person])
        if done == 0:
            fact, text, answer = f"{person} is {mood}.", f"Where will {said} go?", room
        elif done == 1:
            fact = f"{person} {self.rng.choice(GO)} the {room}."
            text, answer = f"Why did {said} go to the {room}?", mood
        else:
            fact = f"{person} {self.rng.choice(GET)} the {thing} there."
            text, answer = f"Why did {said} get the {thing}?", mood
        self.told[person].append(self.tell(fact))
        self.open.append(Question(text, answer, (self.told[person][0],)))
        return True

    def ask(self) -> Question | None:
        """Ask one of the questions that the story has raised, each once."""
        return self.open.pop(self.rng.randrange(len(self.open))) if self.open else None
