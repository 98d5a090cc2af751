"""Text as tokens: whatever way a stream is cut, the same tokens, and the text comes back from them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.agents.tokens import Bytes, Vocabulary, learn, read
from recurra.envs.documents import texts
from recurra.errors import UserError

TEXT = texts.read("shakespeare/macbeth").decode()
JSON = learn([TEXT], 400)
VOCABULARY = Vocabulary(JSON)
WORDS = st.text(alphabet="abé'.,? \n", max_size=60)


def in_pieces(tokens, text: bytes, cuts: list[int]) -> list[int]:
    """Read a text as a stream of pieces, each as far as its tokens are sure."""
    found, held = [], b""
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        held += text[begin:end]
        at = tokens.cut(held)
        found += tokens.encode(held[:at])
        held = held[at:]
    return found + tokens.encode(held)


@settings(deadline=None, max_examples=100)
@given(text=WORDS, cuts=st.lists(st.integers(0, 80), max_size=5))
def test_tokens_do_not_depend_on_where_a_stream_is_cut(text, cuts):
    content = text.encode()
    cuts = sorted(min(cut, len(content)) for cut in cuts)
    for tokens in (VOCABULARY, Bytes()):
        assert in_pieces(tokens, content, cuts) == tokens.encode(content)
        assert tokens.decode(tokens.encode(content)) == text


def test_a_book_in_pieces_of_a_thousand_bytes():
    content = TEXT.encode()
    found = in_pieces(VOCABULARY, content, list(range(1000, len(content), 1000)))
    assert found == VOCABULARY.encode(content)
    assert len(found) < 0.6 * len(content)  # pairs were learnt


def test_a_text_without_spaces_is_not_held_for_ever():
    assert VOCABULARY.cut(b"x" * 10_000) == 8192


def test_learning_gives_the_same_vocabulary_again():
    assert learn([TEXT], 400) == JSON
    assert VOCABULARY.size == 400
    with pytest.raises(UserError, match="at least 256 tokens"):
        learn([TEXT], 255)


def test_what_is_no_text_is_told():
    with pytest.raises(UserError, match="no UTF-8 text"):
        VOCABULARY.encode(b"abc \xff\xfe")
    with pytest.raises(UserError, match="a byte 0"):
        VOCABULARY.encode(b"abc \x00")


def test_a_vocabulary_from_a_file(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(JSON)
    assert read(path) == JSON
    path.write_text("{}")
    with pytest.raises(UserError, match="is no tokenizer file"):
        read(path)
    with pytest.raises(FileNotFoundError, match="no such tokenizer file"):
        read(tmp_path / "none.json")
