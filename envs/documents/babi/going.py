"""Tasks about people who go from room to room: qa1, qa3-people, and qa11 to qa14."""

from random import Random

from recurra.envs.documents.babi.story import GO, PEOPLE, ROOMS, TOWN, TOWNSPEOPLE, Question, Story

#: How a sentence about what came next begins.
NEXT = ("After that", "Afterwards", "Following that", "Then")

#: When, in their order.
TIMES = ("yesterday", "this morning", "this afternoon", "this evening")

PRONOUNS = {"Daniel": "he", "John": "he", "Mary": "she", "Sandra": "she"}


class WhereIs(Story):
    """qa1, single supporting fact: people go to rooms; where is one of them?"""

    labels = ROOMS

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.place: dict[str, str] = {}
        self.told: dict[str, tuple[int, ...]] = {}

    def happen(self) -> bool:
        """Let somebody go elsewhere."""
        person = self.rng.choice(PEOPLE)
        self.move([person], person)
        return True

    def ask(self) -> Question | None:
        """Ask where somebody is of whom it was told."""
        if not self.place:
            return None
        person = self.rng.choice(list(self.place))
        return Question(f"Where is {person}?", self.place[person], self.told[person])

    def move(self, people: list[str], said: str, *, after: tuple[int, ...] = ()) -> None:
        """Let people, whom the sentence calls ``said``, go to a room where none of them was told to be."""
        room = self.other(ROOMS, *(self.place[person] for person in people if person in self.place))
        number = self.tell(f"{said} {self.rng.choice(GO)} the {room}.")
        for person in people:
            self.place[person], self.told[person] = room, (*after, number)


class WhereWas(WhereIs):
    """qa3-people, what qa3 asks of things: where was somebody before the room where they now are?"""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.before: dict[str, tuple[str, tuple[int, ...]]] = {}

    def move(self, people: list[str], said: str, *, after: tuple[int, ...] = ()) -> None:
        """Let people go elsewhere, and note where they were; see `WhereIs.move`."""
        for person in people:
            if person in self.place:
                self.before[person] = self.place[person], self.told[person]
        super().move(people, said, after=after)

    def ask(self) -> Question | None:
        """Ask where somebody was of whom it was told twice."""
        if not self.before:
            return None
        person = self.rng.choice(list(self.before))
        room, told = self.before[person]
        return Question(f"Where was {person} before the {self.place[person]}?", room, (*told, *self.told[person]))


class Coreference(WhereIs):
    """qa11, basic coreference: in every second fact the person of the one before is he or she."""

    def happen(self) -> bool:
        """Let somebody go elsewhere, or go on from there."""
        if len(self.facts) % 2 == 0:
            self.goer = self.rng.choice(PEOPLE)
            self.move([self.goer], self.goer)
        else:
            before = len(self.facts) - 1
            self.move([self.goer], f"{self.rng.choice(NEXT)} {PRONOUNS[self.goer]}", after=(before,))
        return True


class Conjunction(WhereIs):
    """qa12, conjunction: two people at a time."""

    def happen(self) -> bool:
        """Let two people go elsewhere."""
        pair = self.rng.sample(PEOPLE, 2)
        self.move(pair, " and ".join(pair))
        return True


class They(WhereIs):
    """qa13, compound coreference: in every second fact the two of the one before are they."""

    def happen(self) -> bool:
        """Let two people go elsewhere, or go on from there."""
        if len(self.facts) % 2 == 0:
            self.pair = self.rng.sample(PEOPLE, 2)
            self.move(self.pair, " and ".join(self.pair))
        else:
            self.move(self.pair, f"{self.rng.choice(NEXT)} they", after=(len(self.facts) - 1,))
        return True


class Before(Story):
    """qa14, time reasoning: who went where yesterday and today, told in any order; where was one before that?"""

    labels = TOWN

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.left = [(person, time) for person in TOWNSPEOPLE for time in range(len(TIMES))]
        rng.shuffle(self.left)
        self.went: dict[str, dict[int, tuple[str, int]]] = {person: {} for person in TOWNSPEOPLE}

    @property
    def over(self) -> bool:
        """Whether all is told."""
        return not self.left

    def happen(self) -> bool:
        """Tell where somebody went at a time that was not told of, a place that they went to at no other."""
        if self.over:
            return False
        person, time = self.left.pop()
        room = self.other(TOWN, *(room for room, _ in self.went[person].values()))
        said = f"{person} {self.rng.choice(GO)} the {room}"
        when = TIMES[time]
        fact = f"{when.capitalize()} {said}." if self.rng.random() < 0.5 else f"{said} {when}."
        self.went[person][time] = room, self.tell(fact)
        return True

    def ask(self) -> Question | None:
        """Ask where somebody was before a place."""
        known = [person for person, times in self.went.items() if len(times) > 1]
        if not known:
            return None
        person = self.rng.choice(known)
        way = [self.went[person][time] for time in sorted(self.went[person])]
        step = self.rng.randrange(1, len(way))
        (answer, first), (room, second) = way[step - 1], way[step]
        return Question(f"Where was {person} before the {room}?", answer, tuple(sorted((first, second))))
