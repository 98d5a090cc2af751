"""Text as tokens: whatever way a stream is cut, the same tokens, and the text comes back from them."""

import json
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from recurra.agents import Reader
from recurra.agents import tokens as module
from recurra.agents.tokens import Bytes, NotText, Text, Vocabulary, learn, read
from recurra.envs.documents import texts
from recurra.errors import UserError

TEXT = texts.read("shakespeare/macbeth").decode()
JSON = learn([TEXT], 400)
VOCABULARY = Vocabulary(JSON)
WORDS = st.text(alphabet="abé'.,? \n世🙂", max_size=60)


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
    for longest in (6, 4096):  # longer words are cut
        with mock.patch.object(module, "_LONGEST_WORD", longest):
            for tokens in (VOCABULARY, Bytes(), Text()):
                assert in_pieces(tokens, content, cuts) == tokens.encode(content)
                assert tokens.decode(tokens.encode(content)) == text


def spelt(kind: str) -> str:
    """Vocabularies as models have them: words that begin with a sign, those that go on with one, Llama 2's."""
    if kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=["<unk>"], show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    found = json.loads(tokenizer.to_str())
    if kind == "Llama 2":
        put, sign = {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        found |= {"pre_tokenizer": None, "normalizer": {"type": "Sequence", "normalizers": [put, sign]}}
    return json.dumps(found)


@pytest.mark.parametrize("kind", ["Metaspace", "WordPiece", "Llama 2"])
def test_vocabularies_of_other_models(kind):
    tokens, content = Vocabulary(spelt(kind)), b" " + TEXT[:5000].encode()
    assert in_pieces(tokens, content, list(range(100, len(content), 100))) == tokens.encode(content)
    said = tokens.decode(tokens.encode(b" Where is the garden?"))
    assert said.lower().replace(" ", "") == "whereisthegarden?"


def test_a_vocabulary_of_whole_texts_is_refused():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.train_from_iterator(["Where is Mary? "] * 9, trainers.BpeTrainer(special_tokens=["<unk>"]))
    with pytest.raises(UserError, match="depend on the words before it"):
        Vocabulary(tokenizer.to_str())


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


@pytest.mark.parametrize("wrong", [b"\xff\xfe", b"\x00", "é".encode()[:1]])
def test_what_is_no_text_is_told(wrong):
    for tokens in (VOCABULARY, Text()):
        with pytest.raises(NotText, match="byte 4 is none of one") as caught:
            tokens.encode(b"abc " + wrong)
        assert caught.value.at == 4
    assert Bytes().encode(wrong) == list(wrong)


@pytest.mark.parametrize("tokenizer", [None, JSON])
def test_a_reader_says_where_which_of_its_documents_is_no_text(tokenizer):
    reader = Reader(memory="gru", dim=8, layers=1, tokenizer=tokenizer, answers=True)
    state = reader.initial_state(2)._replace(read=torch.tensor([0, 100]))
    with pytest.raises(NotText, match="byte 1,105 ") as caught:
        list(reader.side_by_side([[b"all is well"] * 99, [b"a word " * 143 + b"of ", b"a\xc3 "]], state))
    assert caught.value.row == 1


def test_a_vocabulary_from_a_file(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(JSON)
    assert read(path) == JSON
    path.write_text("{}")
    with pytest.raises(UserError, match="is no tokenizer file"):
        read(path)
    with pytest.raises(FileNotFoundError, match="no such tokenizer file"):
        read(tmp_path / "none.json")
