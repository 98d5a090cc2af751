"""Needle and passkey: one sentence in a haystack, asked for at the end, told in the frame of bAbI's stories."""

from random import Random

from recurra.envs.documents.babi import Question, Story

CITIES = ("Athens", "Cairo", "Lima", "Lisbon", "Oslo", "Prague", "Quito", "Vienna")
WORDS = ("amber", "basalt", "cedar", "falcon", "harbor", "lantern", "mosaic", "saffron")


class Needle(Story):
    """The secret words of some cities, each told once; what is that of Lisbon?

    After Kamradt's needle in a haystack, with answers out of a list so that chance is known: 1 in 8.
    """

    labels = WORDS
    questions = 1
    least = 4

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        words = rng.sample(WORDS, len(WORDS))
        self.secrets = list(zip(rng.sample(CITIES, len(CITIES)), words, strict=True))

    @property
    def over(self) -> bool:
        """Whether all are told."""
        return len(self.facts) == len(self.secrets)

    def happen(self) -> bool:
        """Tell the secret word of another city."""
        if self.over:
            return False
        city, word = self.secrets[len(self.facts)]
        self.tell(f"The secret word of {city} is {word}.")
        return True

    def ask(self) -> Question | None:
        """Ask for one that was told."""
        if not self.facts:
            return None
        number = self.rng.randrange(len(self.facts))
        city, word = self.secrets[number]
        return Question(f"What is the secret word of {city}?", word, (number,))


class Passkey(Story):
    """A pass key of five digits, told once (Mohtashami and Jaggi 2023, arXiv 2305.16300); what is it?"""

    labels = ()
    questions = 1
    least = 1

    @property
    def over(self) -> bool:
        """Whether the key is told."""
        return bool(self.facts)

    def happen(self) -> bool:
        """Tell the key, unless it was."""
        if self.over:
            return False
        self.key = f"{self.rng.randrange(10_000, 100_000)}"
        self.tell(f"The pass key is {self.key}. Remember it. {self.key} is the pass key.")
        return True

    def ask(self) -> Question | None:
        """Ask for the key."""
        return Question("What is the pass key?", self.key, (0,)) if self.facts else None
