"""Facts that do not stand out: other people in every story, many ways to say a thing, and words that tell nothing."""

import re
from collections.abc import Mapping
from random import Random
from typing import ClassVar

from recurra.envs.documents.babi.story import DROP, GET, GIVE, GO, Question, Story

#: Whom bAbI's stories are about, and who takes their places: people of the bundled plays, no name part of another.
MEN = (
    "Antoine", "Bernhard", "Bill", "Brian", "Daniel", "Fred", "Greg", "Jason", "Jeff", "John", "Julius", "Sumit",
    "Yann",
)  # fmt: skip
WOMEN = ("Emily", "Gertrude", "Jessica", "Julie", "Lily", "Mary", "Sandra", "Winona")
HEROES = (
    "Antonio", "Banquo", "Benedick", "Benvolio", "Brutus", "Cassio", "Claudio", "Demetrius", "Duncan", "Edgar",
    "Edmund", "Ferdinand", "Hamlet", "Horatio", "Iago", "Laertes", "Lorenzo", "Lysander", "Macduff", "Malcolm",
    "Mercutio", "Oberon", "Orlando", "Orsino", "Prospero", "Roderigo", "Romeo", "Sebastian", "Theseus", "Tybalt",
)  # fmt: skip
HEROINES = (
    "Audrey", "Beatrice", "Bianca", "Celia", "Cordelia", "Desdemona", "Emilia", "Goneril", "Helena", "Hermia",
    "Hippolyta", "Imogen", "Juliet", "Miranda", "Nerissa", "Olivia", "Ophelia", "Perdita", "Portia", "Regan",
    "Rosalind", "Titania",
)  # fmt: skip

#: What else the verbs of a story are called.
WORDS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    GO: ("came to", "fled to", "hastened to", "repaired to", "returned to", "ran to", "stole to", "walked to", *GO),
    GET: ("bore off", "caught up", "laid hold of", "seized", "snatched", "took up", *GET),
    DROP: ("cast down", "laid down", "let fall", "parted with", "set down", "threw down", *DROP),
    GIVE: ("brought", "delivered", "presented", "rendered", "tendered", "yielded", *GIVE),
}

OPENINGS = (
    "", "", "", "Alas,", "As I live,", "Good sir,", "I pray thee, hear:", "In sooth,", "Indeed,", "Mark me:",
    "Marry,", "My lord,", "Now", "So,", "Truly,", "Well,",
)  # fmt: skip
CLOSINGS = (
    "", "", "", ", as all men know", ", as they say", ", by my faith", ", gentle sir", ", God be thanked",
    ", I tell thee", ", in truth", ", my lord", ", so please you", ", upon my word",
)  # fmt: skip

#: Sentences about somebody of the story, or about a place in it besides, from which nothing follows.
REMARKS = (
    "{who} sighed.", "Speak of {who} no more.", "O {who}, what news?", "What says {who} to this?", "God save {who}!",
)  # fmt: skip
ASIDES = (
    "Would that {who} had never seen the {where}!", "{who} dreamt of the {where}.", "{who} spoke ill of the {where}.",
    "Why should {who} fear the {where}?", "Who swept the {where}, {who} or I?",
)  # fmt: skip

#: How likely an aside follows a fact about somebody.
ASIDE = 0.25

_VERBS = {
    re.compile(rf"\b(?:{'|'.join(sorted(plain, key=len, reverse=True))})(?= the\b)"): words
    for plain, words in WORDS.items()
}
_WHO = re.compile(rf"\b(?:{'|'.join(MEN + WOMEN)})\b", re.IGNORECASE)
_WHERE = re.compile(r"\b(?:bathroom|bedroom|cinema|garden|hallway|kitchen|office|park|school)\b")


class Disguise(Story):
    """A story told in another way: what is true in it, and what is asked, is the same.

    Its people have other names, its verbs are drawn out of many, speech surrounds its sentences, and there are asides
    about its people and places from which nothing follows.
    """

    kind: ClassVar[type[Story]]

    def __init__(self, rng: Random) -> None:
        super().__init__(Random(rng.getrandbits(64)))  # which decides how the story is told
        self.story = self.kind(rng)
        self.questions, self.least, self.chance = self.story.questions, self.story.least, self.story.chance
        called = [*self.rng.sample(HEROES, len(MEN)), *self.rng.sample(HEROINES, len(WOMEN))]
        self.names = dict(zip(MEN + WOMEN, called, strict=True))
        self.numbers: list[int] = []  # of the story's facts among those told here

    @property
    def over(self) -> bool:
        """Whether the story is."""
        return self.story.over

    def happen(self) -> bool:
        """Tell the next fact, and perhaps an aside."""
        if not self.story.happen():
            return False
        for fact in self.story.facts[len(self.numbers) :]:
            self.numbers.append(self.tell(self._disguised(fact)))
            who, where = _WHO.search(fact), _WHERE.search(fact)
            if who and self.rng.random() < ASIDE:
                aside = self.rng.choice(REMARKS + ASIDES if where else REMARKS)
                self.tell(aside.format(who=self._renamed(who[0]), where=where and where[0]))
        return True

    def ask(self) -> Question | None:
        """Ask what the story asks."""
        question = self.story.ask()
        if question is None:
            return None
        support = tuple(self.numbers[number] for number in question.support)
        return Question(self._renamed(question.text), self._renamed(question.answer), support)

    def _disguised(self, fact: str) -> str:
        for verbs, words in _VERBS.items():
            fact = verbs.sub(self.rng.choice(words), fact)
        opening, closing = self.rng.choice(OPENINGS), self.rng.choice(CLOSINGS)
        if opening and not _WHO.match(fact):
            fact = fact[0].lower() + fact[1:]
        return f"{opening} {self._renamed(fact.removesuffix('.'))}{closing}.".lstrip()

    def _renamed(self, text: str) -> str:
        def other(found: re.Match[str]) -> str:
            name = self.names[found[0].capitalize()]
            return name if found[0][0].isupper() else name.lower()

        return _WHO.sub(other, text)


def disguised(story: type[Story]) -> type[Story]:
    """Give the same kind of story, disguised: its answers, where they are names, are any of those drawn from."""
    people = {name: names for names, plain in ((HEROES, MEN), (HEROINES, WOMEN)) for name in plain}
    labels = {word for label in story.labels for word in people.get(label, (label,))}
    return type(f"Disguised{story.__name__}", (Disguise,), {"kind": story, "labels": tuple(sorted(labels))})
