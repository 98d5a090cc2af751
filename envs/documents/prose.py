"""Sentences of real prose, without end, from texts of any size of which a piece at a time is looked at."""

import re
from collections.abc import Iterator, Sequence
from random import Random

from recurra.envs.documents.sources import Source
from recurra.errors import UserError

#: Where a sentence ends: a mark, perhaps closing quotes, then a space.
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")

_WINDOW = 1 << 16


class Prose(Iterator[str]):
    """Sentences from random passages: a text (the longer, the likelier), a place in it, and on from there.

    Runs of white space become one space. What is shorter than a sentence, as a speaker's name in a play, is left out;
    what goes on for longer is cut between words.

    >>> from recurra.envs.documents import expand
    >>> next(Prose(expand("text:milton/paradise_lost"), Random(7)))
    'Thither full fraught with mischievous revenge, Accurst, and in a cursed hour he hies.'

    Args:
        sources: the texts.
        rng: decides the passages.
        least: characters of the shortest sentence; 40 are about ten GPT-2 tokens, the least in BABILong.
        most: characters of the longest.

    Raises:
        UserError: if a text is no file (standard input), or they hold no bytes; while reading, if no sentences, or a
            byte 0, which no text has.
    """

    def __init__(self, sources: Sequence[Source], rng: Random, *, least: int = 40, most: int = 600) -> None:
        for source in sources:
            if source.size is None:
                raise UserError(f"{source.name} can be read once only: save it to a file to take prose from it")
        self.rng, self.least, self.most = rng, least, most
        self.texts = [source for source in sources if source.size]
        self.sizes = [source.size or 0 for source in self.texts]
        if not self.texts:
            raise UserError("there is no prose: no texts, or empty ones only")
        self._waiting: list[str] = []  # the passage at hand, its next sentence last

    def __next__(self) -> str:
        """Give the next sentence."""
        for _ in range(100):
            if self._waiting:
                return self._waiting.pop()
            self._waiting = self._passage()[::-1]
        names = ", ".join(source.name for source in self.texts[:3])
        raise UserError(f"there are no sentences of {self.least} to {self.most} characters in {names}: it is no prose")

    def _passage(self) -> list[str]:
        (source,) = self.rng.choices(self.texts, self.sizes)
        assert source.size is not None
        begin = self.rng.randrange(source.size)
        content = _decoded(source, source.array()[begin : begin + _WINDOW].tobytes())
        sentences = [" ".join(sentence.split()) for sentence in _END.split(content)]
        if begin and len(sentences) > 1:  # the first is the rest of one
            del sentences[0]
        if begin + _WINDOW < source.size and len(sentences) > 1:
            del sentences[-1]
        return [piece for sentence in sentences for piece in _cut(sentence, self.least, self.most)]


def sentences(source: Source, *, least: int = 40, most: int = 600) -> Iterator[str]:
    """Give all sentences of a text in their order; see `Prose`."""
    held = ""
    for piece in source.pieces(_WINDOW):
        *whole, held = _END.split(held + _decoded(source, piece))
        for sentence in whole:
            yield from _cut(" ".join(sentence.split()), least, most)
    yield from _cut(" ".join(held.split()), least, most)


def _decoded(source: Source, content: bytes) -> str:
    """Turn bytes into text, without those at its ends that are part of a character."""
    if b"\0" in content:
        raise UserError(f"{source.name} is no text: there is a byte 0 in it")
    return content.decode("utf-8", errors="ignore")


def _cut(sentence: str, least: int, most: int) -> list[str]:
    """Cut a sentence that is too long between words; leave out what is too short."""
    pieces = []
    while len(sentence) > most:
        at = sentence.rfind(" ", 0, most + 1)
        at = most if at <= 0 else at
        pieces.append(sentence[:at])
        sentence = sentence[at:].strip()
    return [piece for piece in (*pieces, sentence) if len(piece) >= least]
