"""Tasks whose facts stand still and have to be put together: qa4 and qa15 to qa19."""

from abc import abstractmethod
from collections.abc import Iterator
from random import Random

from recurra.envs.documents.babi.story import ROOMS, Question, Story

OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}
SHAPES = ("blue square", "pink rectangle", "red sphere", "red square", "triangle", "yellow square")
SIDES = {"above": (0, 1), "below": (0, -1), "to the left of": (-1, 0), "to the right of": (1, 0)}
STEPS = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}


class Given(Story):
    """A story whose facts are all known from the start; questions wait until all are told.

    Subclasses set ``plan``, the facts in the order of telling.
    """

    plan: list[str]

    @property
    def over(self) -> bool:
        """Whether all is told."""
        return len(self.facts) == len(self.plan)

    def happen(self) -> bool:
        """Tell the next fact."""
        if self.over:
            return False
        self.tell(self.plan[len(self.facts)])
        return True

    def ask(self) -> Question | None:
        """Ask, once all is told."""
        return self.riddle() if self.over else None

    @abstractmethod
    def riddle(self) -> Question:
        """Ask about the facts."""

    def numbers(self, *facts: str) -> tuple[int, ...]:
        """Find facts in the order of telling."""
        return tuple(sorted({self.plan.index(fact) for fact in facts}))


class Direction(Given):
    """qa4, two argument relations: two rooms at opposite sides of a third; what is north of the kitchen?"""

    labels = ROOMS
    questions = 1

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self.before, self.middle, self.behind = rng.sample(ROOMS, 3)
        self.way = rng.choice(list(OPPOSITE))  # from `before` through `middle` to `behind`
        self.pairs = [_said(self.middle, self.way, self.before, rng), _said(self.behind, self.way, self.middle, rng)]
        self.plan = rng.sample(self.pairs, 2)

    def riddle(self) -> Question:
        """Ask what is on a side of the middle, or what the middle is on that side of."""
        ahead = self.rng.random() < 0.5
        answer, fact = (self.behind, self.pairs[1]) if ahead else (self.before, self.pairs[0])
        side = self.way if ahead else OPPOSITE[self.way]
        text = f"What is {side} of the {self.middle}?"
        if self.rng.random() < 0.5:
            text = f"What is the {self.middle} {OPPOSITE[side]} of?"
        return Question(text, answer, self.numbers(fact))


def _said(room: str, side: str, other: str, rng: Random) -> str:
    """Say from either end that a room is on a side of another."""
    if rng.random() < 0.5:
        room, side, other = other, OPPOSITE[side], room
    return f"The {room} is {side} of the {other}."


class Fear(Given):
    """qa15, basic deduction: kinds of animals fear others; what does Gertrude, who is a mouse, fear?"""

    labels = ("cat", "mouse", "sheep", "wolf")
    questions = 4

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        plural = {"cat": "cats", "mouse": "mice", "sheep": "sheep", "wolf": "wolves"}
        self.fears, self.kind = {}, {}
        for animal in plural:
            # Wolves are feared more often than chance has it, as in the released stories.
            wolf = animal != "wolf" and rng.random() < 0.45
            self.fears[animal] = "wolf" if wolf else self.other(self.labels, animal, "wolf")
        for name in ("Emily", "Gertrude", "Jessica", "Winona"):
            self.kind[name] = rng.choice(self.labels)
        self.rule = {
            animal: f"{plural[animal].capitalize()} are afraid of {plural[feared]}."
            for animal, feared in self.fears.items()
        }
        self.fact = {name: f"{name} is a {animal}." for name, animal in self.kind.items()}
        self.plan = [*self.rule.values(), *self.fact.values()]
        rng.shuffle(self.plan)

    def riddle(self) -> Question:
        """Ask what somebody is afraid of."""
        name = self.rng.choice(list(self.kind))
        animal = self.kind[name]
        support = self.numbers(self.fact[name], self.rule[animal])
        return Question(f"What is {name.lower()} afraid of?", self.fears[animal], support)


class Colour(Given):
    """qa16, basic induction: Lily is a frog and green; what colour has Greg, who is a frog too?"""

    labels = ("gray", "green", "white", "yellow")
    questions = 1

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        animals, names = ("frog", "lion", "rhino", "swan"), ["Bernhard", "Brian", "Greg", "Julius", "Lily"]
        rng.shuffle(names)
        self.asked, self.twin = names[:2]
        colours = {animal: rng.choice(self.labels) for animal in animals}
        kind = {name: rng.choice(animals) for name in names[1:]}
        kind[self.asked] = kind[self.twin]
        self.kind = {name: f"{name} is a {animal}." for name, animal in kind.items()}
        self.colour = {name: f"{name} is {colours[kind[name]]}." for name in names[1:]}
        self.answer = colours[kind[self.asked]]
        self.support = [self.kind[self.asked]]
        for name in names[1:]:
            if kind[name] == kind[self.asked]:
                self.support += [self.kind[name], self.colour[name]]
        self.plan = [*self.kind.values(), *self.colour.values()]
        rng.shuffle(self.plan)

    def riddle(self) -> Question:
        """Ask for the colour that was not told."""
        return Question(f"What color is {self.asked}?", self.answer, self.numbers(*self.support))


class Position(Given):
    """qa17, positional reasoning: three shapes on a grid; is the triangle above the red square?"""

    labels = ("no", "yes")
    questions = 8

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        shapes = rng.sample(SHAPES, 3)
        self.at = {shapes[0]: (0, 0)}
        self.plan = []
        while len(self.at) < 3:
            new = shapes[len(self.at)]
            old = rng.choice(list(self.at))
            side, (across, up) = rng.choice(list(SIDES.items()))
            place = self.at[old][0] + across, self.at[old][1] + up
            if place in self.at.values():
                continue
            self.at[new] = place
            self.plan.append(f"The {new} is {side} the {old}.")
        # Two facts of three shapes share one of them: the others are those that no fact compares.
        self.apart = [shape for shape in shapes if sum(shape in fact for fact in self.plan) == 1]

    def riddle(self) -> Question:
        """Ask about the two shapes that no fact compares, on an axis on which they differ."""
        one, other = self.rng.sample(self.apart, 2)
        apart = [here - there for here, there in zip(self.at[one], self.at[other], strict=True)]
        yes = self.rng.random() < 0.52
        sides = [
            side
            for side, step in SIDES.items()
            for axis in (0, 1)
            if step[axis] and apart[axis] and (step[axis] * apart[axis] > 0) == yes
        ]
        text = f"Is the {one} {self.rng.choice(sides)} the {other}?"
        return Question(text, "yes" if yes else "no", (0, 1))


class Size(Given):
    """qa18, size reasoning: what is bigger than what; does the chocolate fit in the chest?"""

    labels = ("no", "yes")

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        boxes = ["box", "chest", "container", "suitcase"]
        rng.shuffle(boxes)
        things = ["chocolate", "box of chocolates", *boxes]  # the smallest first
        self.told: dict[tuple[str, str], str] = {}
        while len(self.told) < 5 or not self.chains():
            if len(self.told) == 8:  # so much is told that no two sizes need a third to be compared
                self.told = {}
            small, large = sorted(rng.sample(range(len(things)), 2))
            pair = things[small], things[large]
            says = (f"The {pair[0]} fits inside the {pair[1]}.", f"The {pair[1]} is bigger than the {pair[0]}.")
            self.told.setdefault(pair, rng.choice(says))
        self.plan = list(self.told.values())
        rng.shuffle(self.plan)

    def chains(self) -> list[tuple[str, str, str]]:
        """List what is smaller than what by way of a third alone."""
        return [
            (small, middle, large)
            for small, middle in self.told
            for other, large in self.told
            if other == middle and (small, large) not in self.told
        ]

    def riddle(self) -> Question:
        """Ask about two sizes that two facts compare."""
        small, middle, large = self.rng.choice(self.chains())
        text, answer = self.rng.choices(
            (
                (f"Does the {small} fit in the {large}?", "yes"),
                (f"Does the {large} fit in the {small}?", "no"),
                (f"Is the {large} bigger than the {small}?", "yes"),
                (f"Is the {small} bigger than the {large}?", "no"),
            ),
            (47, 53, 47, 53),
        )[0]
        return Question(text, answer, self.numbers(self.told[small, middle], self.told[middle, large]))


class Path(Given):
    """qa19, path finding: rooms beside one another; how do you go from the kitchen to the garden?"""

    labels = tuple(f"{one[0]},{two[0]}" for one in sorted(OPPOSITE) for two in sorted(OPPOSITE) if two != OPPOSITE[one])
    questions = 1

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        rooms = rng.sample(ROOMS, len(ROOMS))
        self.at = {rooms[0]: (0, 0)}
        self.ways: dict[str, dict[str, tuple[str, str]]] = {room: {} for room in rooms}  # by side: a room, the fact
        self.plan = []
        while len(self.at) < len(rooms):
            old, new, side = rng.choice(list(self.at)), rooms[len(self.at)], rng.choice(list(OPPOSITE))
            place = self.at[old][0] + STEPS[side][0], self.at[old][1] + STEPS[side][1]
            if place in self.at.values():
                continue
            self.at[new] = place
            fact = _said(new, side, old, rng)
            self.ways[old][side], self.ways[new][OPPOSITE[side]] = (new, fact), (old, fact)
            self.plan.append(fact)
        rng.shuffle(self.plan)

    def riddle(self) -> Question:
        """Ask for a way of two steps, each sequence of sides as likely as another."""
        routes: dict[str, list[tuple[str, str, str, str]]] = {}
        for sides, *route in self._routes():
            routes.setdefault(sides, []).append((route[0], route[1], route[2], route[3]))
        sides = self.rng.choice(sorted(routes))
        begin, end, first, second = self.rng.choice(routes[sides])
        return Question(f"How do you go from the {begin} to the {end}?", sides, self.numbers(first, second))

    def _routes(self) -> Iterator[tuple[str, str, str, str, str]]:
        for begin, exits in self.ways.items():
            for one, (middle, first) in exits.items():
                for two, (end, second) in self.ways[middle].items():
                    if end != begin:
                        yield f"{one[0]},{two[0]}", begin, end, first, second
