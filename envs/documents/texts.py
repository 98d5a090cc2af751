"""Shakespeare and Paradise Lost, bundled: 5.5 MB of English to train on and to be tested on, at hand offline.

Where the texts are from and what was changed is told in PROVENANCE.md, beside this file. Each work belongs to one part,
and none is divided:

- ``train``: 38 works, 4.63 MB;
- ``test``: 4 works by the same author, 425 kB, one of each kind: Twelfth Night (comedy), Macbeth (tragedy), King John
  (history) and The Rape of Lucrece (poem). None is a part of a series, shares its people with another work or is
  quoted in one, as the Sonnets are in The Passionate Pilgrim: what is read there has not been seen in training;
- ``out_of_author``: Paradise Lost, 454 kB, by another hand, without dialogue and in the spelling of 1667.
"""

import json
import zipfile
from functools import cache
from importlib import resources
from typing import NamedTuple

from recurra.errors import UserError, nearest

_FOLDER = resources.files("recurra.envs.documents")


class Work(NamedTuple):
    """A bundled work: its name, title, length in bytes, and the part (``train``, ``test``, ``out_of_author``)."""

    name: str
    title: str
    bytes: int
    part: str

    @property
    def author(self) -> str:
        """The first half of the name."""
        return self.name.split("/")[0]

    @property
    def held_out(self) -> bool:
        """Whether nothing should be trained on it."""
        return self.part != "train"


@cache
def _table() -> tuple[Work, ...]:
    return tuple(Work(**row) for row in json.loads(_FOLDER.joinpath("works.json").read_text("utf-8")))


def works() -> list[Work]:
    """List the bundled works by name.

    >>> sum(work.bytes for work in works() if not work.held_out)
    4627650
    """
    return list(_table())


def select(name: str) -> list[Work]:
    """Give the work of that name, or all works of an author or a part.

    >>> [work.title for work in select("test")]
    ['King John', 'Macbeth', 'The Rape of Lucrece', 'Twelfth Night']

    Raises:
        UserError: if there is no such work, author or part.
    """
    chosen = [work for work in _table() if name in (work.name, work.author, work.part)]
    if not chosen:
        known = {word for work in _table() for word in (work.name, work.author, work.part)}
        raise UserError(f"no bundled text is named {name!r}; {nearest(name, known)}")
    return chosen


@cache
def read(name: str) -> bytes:
    r"""Give a whole work, in UTF-8 with ``\n`` at the end of each line.

    >>> read("milton/paradise_lost")[23:70]
    b'  Of Mans First Disobedience, and the Fruit\nOf '

    Raises:
        UserError: if there is no such work.
    """
    if name not in (names := [work.name for work in _table()]):
        raise UserError(f"no bundled text is named {name!r}; {nearest(name, names)}")
    with _FOLDER.joinpath("works.zip").open("rb") as file, zipfile.ZipFile(file) as archive:
        return archive.read(f"{name}.txt")
