"""Text to tokens and back: bytes as they are, or the vocabulary of a ``tokenizers`` file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from recurra.errors import UserError

#: A text without spaces is cut after this many bytes, or up to three fewer, where a character begins.
_LONGEST_WORD = 4096

#: Says whether a tokenizer's words have tokens of their own.
_SAMPLE = ["Where", "is", "Mary?", "In", "the", "garden."]


class NotText(UserError):
    """What is read is no text: not UTF-8, or with a byte 0 in it.

    Attributes:
        at: the first byte that is none of a text's.
        row: of documents that are read side by side, which it is in.
    """

    def __init__(self, at: int, row: int = 0) -> None:
        super().__init__(f"this is no UTF-8 text: byte {at:,} is none of one; convert it first, or leave it out")
        self.at, self.row = at, row


class Tokens(Protocol):
    """A way of writing text as numbers."""

    size: int

    def encode(self, text: bytes) -> list[int]:
        """Give the tokens of a text.

        Raises:
            NotText: if it is none, where only text can be read.
        """

    def decode(self, tokens: list[int]) -> str:
        """Give the text of tokens."""

    def cut(self, text: bytes) -> int:
        """Say how many bytes at the beginning have the same tokens whatever follows the text."""


class Bytes:
    """Bytes as they are.

    >>> Bytes().encode(b"To be"), Bytes().decode([84, 111])
    ([84, 111, 32, 98, 101], 'To')
    """

    size = 256

    def encode(self, text: bytes) -> list[int]:
        """Give the bytes."""
        return list(text)

    def decode(self, tokens: list[int]) -> str:
        """Give the text, where it is UTF-8."""
        return bytes(tokens).decode("utf-8", errors="replace")

    def cut(self, text: bytes) -> int:
        """Give the length: no byte depends on another."""
        return len(text)


class Text(Bytes):
    """The bytes of a text, and of nothing else."""

    def encode(self, text: bytes) -> list[int]:
        """Give the bytes.

        Raises:
            NotText: if they are no text.
        """
        _check(text)
        return list(text)

    def cut(self, text: bytes) -> int:
        """Give the length, less a character at the end that goes on."""
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            return error.start if error.end == len(text) else len(text)
        return len(text)


class Vocabulary:
    """A vocabulary of the ``tokenizers`` library.

    A text is cut before single spaces, so that its tokens do not depend on where a stream was cut. Some vocabularies
    put a space of their own before a text: from them the one that it begins with is kept back.

    >>> vocabulary = Vocabulary(learn(["Where is Mary? Mary is in the garden."] * 9, 280))
    >>> vocabulary.decode(vocabulary.encode(b" Mary is in the kitchen."))
    ' Mary is in the kitchen.'

    Args:
        json: the content of a ``tokenizers`` file.

    Raises:
        UserError: if it is none, or a word's tokens depend on the words before it.
    """

    def __init__(self, json: str) -> None:
        try:
            self._tokenizer = Tokenizer.from_str(json)
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"this is no tokenizer of the tokenizers library: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.size = 1 + max(self._tokenizer.get_vocab().values(), default=-1)
        self._spaced = False
        if not self._apart():
            self._spaced = True
            if not self._apart():
                raise UserError("with this tokenizer a word's tokens depend on the words before it: take another")

    def _apart(self) -> bool:
        """Say whether a text's tokens are those of its words."""
        words = [f" {word}" for word in _SAMPLE]
        return self.encode_all(["".join(words)]) == [[token for own in self.encode_all(words) for token in own]]

    def encode(self, text: bytes) -> list[int]:
        """Give the tokens of a text.

        Raises:
            NotText: if it is none.
        """
        _check(text)
        parts = [part.decode() for part in _parts(text)]
        return [token for own in self.encode_all(parts) for token in own]

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """Give the tokens of many texts."""
        if self._spaced:
            texts = [text.removeprefix(" ") for text in texts]
        return [found.ids for found in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, tokens: list[int]) -> str:
        """Give the text of tokens."""
        return self._tokenizer.decode(tokens, skip_special_tokens=False)

    def cut(self, text: bytes) -> int:
        """Give the place of the last space that stands alone; of a text without, that of the last part of it."""
        return _space(text, 0, len(text)) or sum(map(len, list(_parts(text))[:-1]))


def _check(text: bytes) -> None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotText(error.start) from error
    if (at := text.find(b"\0")) >= 0:
        raise NotText(at)


def _parts(text: bytes) -> Iterator[bytes]:
    """Cut a text before single spaces, and a longer word where it is too long: its last part may go on."""
    begin = 0
    while len(text) - begin > _LONGEST_WORD:
        end = begin + _LONGEST_WORD
        end = _space(text, begin, end + 1) or _character(text, end)
        yield text[begin:end]
        begin = end
    yield text[begin:]


def _space(text: bytes, low: int, high: int) -> int:
    """Give the place of the last space between two places that stands alone, 0 if there is none."""
    while (high := text.rfind(b" ", low + 1, high)) > 0:
        if not text[high - 1 : high].isspace() and text[high + 1 : high + 2].strip():
            return high
    return 0


def _character(text: bytes, at: int) -> int:
    """Give where the character begins that a place is in; of what is no text, one three bytes before at the least."""
    return next((place for place in range(at, at - 4, -1) if text[place] & 0xC0 != 0x80), at)


def learn(texts: Iterable[str], size: int) -> str:
    """Learn a byte-pair vocabulary (Sennrich et al. 2016, arXiv 1508.07909) over bytes, and give it as JSON.

    Args:
        texts: to learn from.
        size: how many tokens; 256 are the bytes.

    Raises:
        UserError: if there are fewer than bytes.
    """
    if size < 256:
        raise UserError(f"a vocabulary over bytes has at least 256 tokens, got {size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer.to_str()


def read(path: str | Path) -> str:
    """Read a ``tokenizers`` file.

    Raises:
        FileNotFoundError: if there is none.
        UserError: if it is none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such tokenizer file")
    try:
        content = path.read_text("utf-8")
        Vocabulary(content)
    except (UnicodeDecodeError, UserError) as error:
        raise UserError(f"{path} is no tokenizer file of the tokenizers library") from error
    return content
