"""The one exception for what a user can get wrong."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something that the user asked for cannot be done; the message is one line that says what to do.

    The command line prints the message alone and exits with status 2.
    """


def reason(error: Exception) -> str:
    """Say in one line what went wrong, and with which file.

    >>> reason(FileNotFoundError(2, "No such file or directory", "book.txt"))
    'book.txt: No such file or directory'
    """
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: Exception) -> str:
    r"""Give the first line of what another library said, or the kind of its error.

    >>> first_line(OSError("404: no such thing\nand more that nobody reads"))
    '404: no such thing'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known words there are, nearest first: the tail of an error message about an unknown one.

    >>> nearest("tmase", ["gym", "tmaze"])
    "did you mean 'tmaze'? (known: gym, tmaze)"
    >>> nearest("zzz", ["gym", "tmaze"])
    'known: gym, tmaze'
    >>> nearest("zzz", [])
    'there are none'
    """
    known = sorted(known)
    if not known:
        return "there are none"
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close and len(known) > 12:
        return f"did you mean {close[0]!r}?"
    listed = f"known: {', '.join(known)}"
    return f"did you mean {close[0]!r}? ({listed})" if close else listed
