"""Tasks about things that people take, carry, leave and give: qa2, qa3 and qa5 to qa8."""

from random import Random
from typing import ClassVar, NamedTuple

from recurra.envs.documents.babi.story import DROP, GET, GIVE, GO, PEOPLE, ROOMS, Question, Story

THINGS = ("apple", "football", "milk")

#: How likely a sentence of what is left ends in "there", as in the released stories.
THERE = 0.2


class Carrying(Story):
    """People in rooms with three things; nobody is told where anything was at first.

    Attributes:
        people: who they are.
        deeds: what they do, one as likely as another where it can be done. In the released stories of qa2 two facts of
            three tell who goes where, one of five who takes what.
        got_there: how likely a sentence of what is taken ends in "there".
    """

    people: ClassVar[tuple[str, ...]] = PEOPLE
    deeds: ClassVar[tuple[str, ...]] = ("go", "go", "get", "drop")
    got_there: ClassVar[float] = 1.0

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.place = {person: rng.choice(ROOMS) for person in self.people}
        self.where = {thing: rng.choice(ROOMS) for thing in THINGS}  # a room, or who carries it
        self.told: dict[str, int] = {}  # the fact that says where a person is
        self.moved: dict[str, tuple[int, ...]] = {}  # the facts that say where a thing is, or who carries it
        self.left: dict[str, str | None] = {}  # where a thing was left, as far as it was told

    def happen(self) -> bool:
        """Let somebody do something."""
        while not getattr(self, f"_{self.rng.choice(self.deeds)}")():
            pass
        return True

    def _go(self) -> bool:
        person = self.rng.choice(self.people)
        self.place[person] = self.other(ROOMS, self.place[person])
        self.told[person] = self.tell(f"{person} {self.rng.choice(GO)} the {self.place[person]}.")
        return True

    def _get(self) -> bool:
        can = [(who, thing) for who, at in self.place.items() for thing in THINGS if self.where[thing] == at]
        if not can:
            return False
        person, thing = self.rng.choice(can)
        self.where[thing] = person
        self.moved[thing] = (self.tell(f"{person} {self.rng.choice(GET)} the {thing}{self._there(self.got_there)}."),)
        self.left.pop(thing, None)
        return True

    def _drop(self) -> bool:
        carried = [thing for thing in THINGS if self.where[thing] in self.people]
        if not carried:
            return False
        thing = self.rng.choice(carried)
        person = self.where[thing]
        fact = self.tell(f"{person} {self.rng.choice(DROP)} the {thing}{self._there(THERE)}.")
        self.where[thing] = self.place[person]
        self.left[thing] = self.place[person] if person in self.told else None
        self.moved[thing] = (self.told[person], fact) if person in self.told else (fact,)
        return True

    def _there(self, chance: float) -> str:
        return " there" if self.rng.random() < chance else ""

    def found(self, thing: str) -> tuple[str, tuple[int, ...]] | None:
        """Say in which room a thing is and which facts tell so, None if they do not."""
        if thing not in self.moved:
            return None
        holder = self.where[thing]
        if holder in self.people:
            told = self.told.get(holder)
            return None if told is None else (self.place[holder], tuple(sorted((*self.moved[thing], told))))
        room = self.left[thing]
        return None if room is None else (room, self.moved[thing])


class WhereIsThing(Carrying):
    """qa2, two supporting facts: where is the milk?"""

    labels = ROOMS
    chance = 0.5

    def ask(self) -> Question | None:
        """Ask where a thing is."""
        known = [(thing, found) for thing in THINGS if (found := self.found(thing)) is not None]
        if not known:
            return None
        thing, (room, support) = self.rng.choice(known)
        return Question(f"Where is the {thing}?", room, support)


class WhereWasThing(Carrying):
    """qa3, three supporting facts: where was the milk before the kitchen, where it now is?"""

    labels = ROOMS
    least = 4
    chance = 0.25
    got_there = THERE

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.ways: dict[str, list[tuple[str, tuple[int, ...]]]] = {thing: [] for thing in THINGS}

    def happen(self) -> bool:
        """Let somebody do something, and note where things now are."""
        super().happen()
        for thing, way in self.ways.items():
            found = self.found(thing)
            if found is not None and (not way or way[-1][0] != found[0]):
                way.append(found)
        return True

    def ask(self) -> Question | None:
        """Ask where a thing was before it came to where it was last known to be."""
        known = [thing for thing, way in self.ways.items() if len(way) > 1]
        if not known:
            return None
        thing = self.rng.choice(known)
        (answer, first), (room, second) = self.ways[thing][-2:]
        support = tuple(sorted({*first, *second}))
        return Question(f"Where was the {thing} before the {room}?", answer, support)


class IsThere(Carrying):
    """qa6, yes/no questions: is Mary in the kitchen?"""

    labels = ("no", "yes")
    chance = 0.5

    def ask(self) -> Question | None:
        """Ask whether somebody is in a room."""
        if not self.told:
            return None
        person = self.rng.choice(list(self.told))
        return self.is_there(person, self.place[person], (self.told[person],))


class Gift(NamedTuple):
    """Who gave what to whom, and the number of the fact."""

    giver: str
    thing: str
    taker: str
    number: int


class Gifts(Carrying):
    """People who give things to one another, too."""

    deeds = ("go", "get", "drop", "give")

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.gifts: list[Gift] = []

    def _give(self) -> bool:
        can = [
            (giver, thing, taker)
            for thing, giver in self.where.items()
            if giver in self.people
            for taker in self.people
            if taker != giver and self.place[taker] == self.place[giver]
        ]
        if not can:
            return False
        giver, thing, taker = self.rng.choice(can)
        number = self.tell(f"{giver} {self.rng.choice(GIVE)} the {thing} to {taker}.")
        self.where[thing] = taker
        self.gifts.append(Gift(giver, thing, taker, number))
        return True


class Giving(Gifts):
    """qa5, three argument relations: who gave what to whom?"""

    labels = ("Bill", "Fred", "Jeff", "Mary", "apple", "football", "milk")
    people = ("Bill", "Fred", "Jeff", "Mary")
    chance = 0.3

    def ask(self) -> Question | None:
        """Ask about one of the last gifts, in a way that no later one answers otherwise."""
        if not self.gifts:
            return None
        gift = self.rng.choice(self.gifts[-3:])
        form = self.rng.choice(("what", "what", "giver", "giver to", "taker", "taker from"))
        same = {"what": (0, 2), "giver": (1,), "giver to": (1, 2), "taker": (1,), "taker from": (0, 1)}[form]
        gift = next(later for later in self.gifts[::-1] if all(later[part] == gift[part] for part in same))
        giver, thing, taker, number = gift
        text, answer = {
            "what": (f"What did {giver} give to {taker}?", thing),
            "giver": (f"Who gave the {thing}?", giver),
            "giver to": (f"Who gave the {thing} to {taker}?", giver),
            "taker": (f"Who received the {thing}?", taker),
            "taker from": (f"Who did {giver} give the {thing} to?", taker),
        }[form]
        return Question(text, answer, (number,))


class Holding(Gifts):
    """What somebody carries, in the order in which they came by it."""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.hands: dict[str, list[str]] = {person: [] for person in self.people}
        self.facts_of: dict[str, list[int]] = {}

    def happen(self) -> bool:
        """Let somebody do something, and note who has what."""
        told = len(self.facts)
        super().happen()
        for thing, holder in self.where.items():
            for person, hand in self.hands.items():
                if (thing in hand) != (holder == person):
                    hand.remove(thing) if thing in hand else hand.append(thing)
                    self.facts_of.setdefault(person, []).append(told)
        return True

    def whose(self) -> str | None:
        """Choose somebody who has, or had, something."""
        return self.rng.choice(list(self.facts_of)) if self.facts_of else None


class Counting(Holding):
    """qa7, counting: how many things does Mary carry?"""

    labels = ("none", "one", "three", "two")

    def ask(self) -> Question | None:
        """Ask how many things somebody carries."""
        person = self.whose()
        if person is None:
            return None
        count = ("none", "one", "two", "three")[len(self.hands[person])]
        return Question(f"How many objects is {person} carrying?", count, tuple(self.facts_of[person]))


class Listing(Holding):
    """qa8, lists: what does Mary carry?"""

    labels = ("apple", "football", "milk", "nothing")
    deeds = ("go", "get", "get", "drop")  # as often with something in hand as in the released stories

    def ask(self) -> Question | None:
        """Ask what somebody carries."""
        person = self.whose()
        if person is None:
            return None
        carried = ",".join(self.hands[person]) or "nothing"
        return Question(f"What is {person} carrying?", carried, tuple(self.facts_of[person]))
