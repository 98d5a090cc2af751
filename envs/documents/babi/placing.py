"""Tasks about where people are said to be, not to be, or perhaps to be: qa9 and qa10."""

from random import Random
from typing import NamedTuple

from recurra.envs.documents.babi.story import GO, PEOPLE, ROOMS, TOWN, TOWNSPEOPLE, Question, Story


class Said(NamedTuple):
    """The last that was told of a person: the rooms where they are (two: in one of them), or are not."""

    rooms: tuple[str, ...]
    there: bool
    number: int


class Negation(Story):
    """qa9, simple negation: people are in a room, or are not, or no longer; is one of them in this room?"""

    labels = ("no", "yes")

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.place = {person: rng.choice(ROOMS) for person in PEOPLE}
        self.said: dict[str, Said] = {}

    def happen(self) -> bool:
        """Let somebody go elsewhere, or say where somebody is or is not."""
        person, kind = self.rng.choice(PEOPLE), self.rng.random()
        before = self.said.get(person)
        there = kind < 0.72  # which makes as many answers yes as in the released stories
        if kind < 0.48:
            self.place[person] = room = self.other(ROOMS, self.place[person])
            fact = f"{person} {self.rng.choice(GO)} the {room}."
        elif there:
            room = self.place[person]
            fact = f"{person} is in the {room}."
        elif before is not None and before.there:
            (room,) = before.rooms
            self.place[person] = self.other(ROOMS, room)
            fact = f"{person} is no longer in the {room}."
        else:
            room = self.other(ROOMS, self.place[person])
            fact = f"{person} is not in the {room}."
        self.said[person] = Said((room,), there, self.tell(fact))
        return True

    def ask(self) -> Question | None:
        """Ask whether somebody is in a room, of which the last fact about them tells."""
        if not self.said:
            return None
        person = self.rng.choice(list(self.said))
        (room,), there, number = self.said[person]
        if there:
            return self.is_there(person, room, (number,))
        return Question(f"Is {person} in the {room}?", "no", (number,))


class Either(Story):
    """qa10, indefinite knowledge: people are in a room, or in one of two; is one of them in this room?"""

    labels = ("maybe", "no", "yes")
    labels_of_rooms = TOWN

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.place = {person: rng.choice(TOWN) for person in TOWNSPEOPLE}
        self.said: dict[str, Said] = {}

    def happen(self) -> bool:
        """Let somebody go elsewhere, or say where somebody is, or in which two rooms they may be."""
        person, kind = self.rng.choice(TOWNSPEOPLE), self.rng.randrange(3)
        if kind == 0:
            self.place[person] = self.other(TOWN, self.place[person])
            fact = f"{person} {self.rng.choice(GO)} the {self.place[person]}."
        elif kind == 1:
            fact = f"{person} is in the {self.place[person]}."
        rooms: tuple[str, ...] = (self.place[person],)
        if kind == 2:
            self.place[person] = self.rng.choice(TOWN)
            rooms = (self.place[person], self.other(TOWN, self.place[person]))
            rooms = rooms if self.rng.random() < 0.5 else rooms[::-1]
            fact = f"{person} is either in the {rooms[0]} or the {rooms[1]}."
        self.said[person] = Said(rooms, True, self.tell(fact))
        return True

    def ask(self) -> Question | None:
        """Ask whether somebody is in a room; the shares of the answers are those of the released stories."""
        if not self.said:
            return None
        person = self.rng.choice(list(self.said))
        rooms, _, number = self.said[person]
        if len(rooms) == 1:
            return self.is_there(person, rooms[0], (number,), yes=0.62)
        perhaps = self.rng.random() < 0.45
        room = self.rng.choice(rooms) if perhaps else self.other(TOWN, *rooms)
        return Question(f"Is {person} in the {room}?", "maybe" if perhaps else "no", (number,))
