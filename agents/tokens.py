"""Text to tokens and back: bytes as they are, or the vocabulary of a ``tokenizers`` file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from recurra.errors import UserError

#: A text without spaces is cut after this many bytes, wherever that is.
_LONGEST_WORD = 4096


class Tokens(Protocol):
    """A way of writing text as numbers."""

    size: int

    def encode(self, text: bytes) -> list[int]:
        """Give the tokens of a text."""

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


class Vocabulary:
    """A vocabulary of the ``tokenizers`` library.

    A text is cut before single spaces only, so that its tokens do not depend on where a stream was cut.

    >>> vocabulary = Vocabulary(learn(["Where is Mary? Mary is in the garden."] * 9, 280))
    >>> vocabulary.decode(vocabulary.encode(b" Mary is in the kitchen."))
    ' Mary is in the kitchen.'

    Args:
        json: the content of a ``tokenizers`` file.

    Raises:
        UserError: if it is none.
    """

    def __init__(self, json: str) -> None:
        try:
            self._tokenizer = Tokenizer.from_str(json)
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"this is no tokenizer of the tokenizers library: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.size = self._tokenizer.get_vocab_size()

    def encode(self, text: bytes) -> list[int]:
        """Give the tokens of a text.

        Raises:
            UserError: if it is no text: not UTF-8, or with a byte 0 in it.
        """
        try:
            said = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"this is no UTF-8 text: byte {text[error.start]} where a character should begin"
            ) from error
        if "\0" in said:
            raise UserError("this is no text: there is a byte 0 in it")
        return self._tokenizer.encode(said, add_special_tokens=False).ids

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """Give the tokens of many texts."""
        return [found.ids for found in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, tokens: list[int]) -> str:
        """Give the text of tokens."""
        return self._tokenizer.decode(tokens, skip_special_tokens=False)

    def cut(self, text: bytes) -> int:
        """Give the place of the last space that stands alone."""
        at = len(text)
        while (at := text.rfind(b" ", 0, at)) > 0:
            if not text[at - 1 : at].isspace() and text[at + 1 : at + 2].strip():
                return at
        return len(text) - len(text) % _LONGEST_WORD


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
