"""Captions to ids: rules of both kinds, overlong captions, files."""

import json
import sys
import unicodedata

import numpy as np
import pytest

from ssagan_jax.config import default_config
from ssagan_jax.data.captions import with_mirrored
from ssagan_jax.data.pretrained_tokenizer import pretrained_tokenizer
from ssagan_jax.data.tokenizer import (
    PIECE_SPECIALS,
    TokenizerError,
    fixed_vocab_tokenizer,
    learn_tokenizer,
    load_tokenizer,
)
from ssagan_jax.training import run
from ssagan_jax.workdir import Workdir

CAPTIONS = [
    "This red bird has 2 white wings.",
    "A café-coloured bird with a long tail_feather!",
    "this RED bird sings",
]
LONG = "this red bird has white wings a long bird sings red"


@pytest.fixture(scope="module")
def words():
    return learn_tokenizer("words", CAPTIONS, 30_000)


@pytest.fixture(scope="module")
def pieces():
    return learn_tokenizer("wordpiece", CAPTIONS, 30_000)


@pytest.fixture(params=["words", "pieces"])
def tokenizer(request):
    """Either tokenizer."""
    return request.getfixturevalue(request.param)


def vocabulary_of(tokenizer, path):
    tokenizer.save(path)
    return json.loads(path.read_text())["tokenizer"]["model"]["vocab"]


def test_words_are_runs_of_letters_digits_and_underscores(words, tmp_path):
    vocabulary = vocabulary_of(words, tmp_path / "tokenizer.json")
    assert set(vocabulary) == {
        *("<pad>", "<unk>", "this", "red", "bird", "has", "2", "white", "wings", "a", "cafe"),
        *("coloured", "with", "long", "tail_feather", "sings"),
    }
    assert (vocabulary["<pad>"], vocabulary["<unk>"]) == (0, 1)
    assert words.vocabulary.size == len(vocabulary) == 16
    assert words.ids("red CAFÉ, bird; 2!") == [vocabulary[w] for w in ("red", "cafe", "bird", "2")]
    # The same letter as one character and as a letter with a combining accent.
    assert words.ids("caf\u00e9") == words.ids("cafe\u0301") == words.ids("Cafe")


def test_the_most_frequent_words_are_kept():
    tokenizer = learn_tokenizer("words", ["red red red blue", "red blue green"], 4)
    assert tokenizer.vocabulary.size == 4
    assert tokenizer.unknown_words("red blue green") == ["green"]


def test_every_word_of_the_training_captions_is_known_and_whole(tokenizer):
    for caption in CAPTIONS:
        assert tokenizer.unknown_words(caption) == []
    assert len(tokenizer.ids("this red bird sings")) == 4


def test_unknown_words_are_listed_once_as_they_were_written(tokenizer):
    caption = "A Zébra, a red wingsbird and Zébra"
    assert tokenizer.unknown_words(caption) == ["Zébra", "wingsbird", "and"]


def test_an_unknown_word_is_one_unknown_id_in_words_and_pieces_in_wordpiece(words, pieces):
    assert words.ids("red zebra") == [words.ids("red")[0], words.unknown_id]
    assert len(pieces.ids("birdred")) > 1
    assert pieces.unknown_id not in pieces.ids("birdred")
    assert pieces.ids("\u4e00") == [pieces.unknown_id]


def test_whatever_is_unknown_is_the_same_unknown_word(words):
    for caption in ("zebra", "鳥", "птица", "½", "x" * 200, "zebra\u0301"):
        assert words.ids(caption) == [words.unknown_id] == [1]


def test_a_special_name_in_a_caption_is_only_a_word(words, tmp_path):
    assert words.ids("<pad> <unk> bird") == [1, 1, *words.ids("bird")]
    learned = learn_tokenizer("words", ["a <pad> bird", "unk"], 100)
    learned.save(tmp_path / "tokenizer.json")
    for tokenizer in (learned, load_tokenizer(tmp_path / "tokenizer.json")):
        assert sorted(tokenizer.ids("a <pad> bird <unk>")) == [2, 3, 4, 5]


COMPOSED = ["Café", "naïve İstanbul", "Ёлка", "\u1ec7", "ガ", "한국어", "Ωμέγα"]


@pytest.mark.parametrize("kind", ["words", "wordpiece"])
def test_letters_and_accents_in_one_or_in_two_characters_are_the_same(kind):
    tokenizer = learn_tokenizer(kind, COMPOSED, 30_000)
    for caption in COMPOSED:
        one, two = (unicodedata.normalize(form, caption) for form in ("NFC", "NFD"))
        assert one != two
        assert tokenizer.ids(one) == tokenizer.ids(two)
        assert tokenizer.unknown_words(one) == tokenizer.unknown_words(two) == []


def test_marks_that_make_another_word_stay():
    # Hindi's black and art, Japanese's key and persimmon: accents in Unicode's eyes.
    captions = ["काला", "कला", "かぎ", "かき"]
    tokenizer = learn_tokenizer("words", captions, 100)
    assert sorted(sum(map(tokenizer.ids, captions), [])) == [2, 3, 4, 5]


def test_blanks_and_control_characters_only_separate_words(tokenizer):
    assert len(tokenizer.ids("red bird")) == 2
    for mark in ("\u00a0", "\u3000", "\t", "\r\n", " \x00 ", " \u200b ", "  "):
        assert tokenizer.ids(f"{mark}red{mark}bird{mark}") == tokenizer.ids("red bird")


def test_emoji_and_marks_are_no_words_and_word_pieces_of_their_own(words, pieces):
    caption = "red \U0001f426\u200d\u2b1b bird \u2764\ufe0f!"
    assert words.ids(caption) == words.ids("red bird")
    ids = pieces.ids(caption)
    assert [ids[0], ids[2]] == pieces.ids("red bird") and ids[1] == pieces.unknown_id
    assert words.unknown_words(caption) == pieces.unknown_words(caption) == []


def test_every_letter_and_numeral_that_a_source_may_hold_is_a_word(tokenizer):
    # Sources refuse captions without one: data/prepared/builder.py.
    letters = [letter for letter in map(chr, range(sys.maxunicode + 1)) if letter.isalnum()]
    assert len(letters) > 100_000
    chosen = letters[::97] + list("½²①Ⅳ፩\u09f4\ufb01")
    assert [letter for letter in chosen if not tokenizer.ids(letter)] == []


def test_wordpiece_numbers_its_special_tokens_first(pieces, tmp_path):
    vocabulary = vocabulary_of(pieces, tmp_path / "tokenizer.json")
    assert [vocabulary[name] for name in PIECE_SPECIALS] == [0, 1, 2, 3, 4]
    assert (pieces.vocabulary.pad_id, pieces.unknown_id) == (0, 1)
    assert (pieces.vocabulary.cls_id, pieces.vocabulary.sep_id) == (2, 3)
    # Neither is part of a caption's ids: the text encoder adds them.
    assert not {2, 3} & set(pieces.ids(LONG))


def test_a_short_caption_is_filled_up_and_masked(words):
    tokens, mask = words.encode("red bird", 4)
    assert tokens.dtype == np.int32 and mask.dtype == bool
    np.testing.assert_array_equal(tokens, [*words.ids("red bird"), 0, 0])
    np.testing.assert_array_equal(mask, [True, True, False, False])


def test_evaluation_keeps_the_first_words_of_an_overlong_caption(words):
    tokens, mask = words.encode(LONG, 4)
    assert tokens.tolist() == words.ids(LONG)[:4] and mask.all()


def test_training_keeps_a_random_subset_in_its_order(words):
    # Eleven words of which each is another one, so that an order shows.
    caption = "this red bird has 2 white wings a cafe coloured long"
    ids = words.ids(caption)
    assert len(set(ids)) == len(ids) == 11
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        tokens, mask = words.encode(caption, 4, rng)
        places = [ids.index(token) for token in tokens]
        assert places == sorted(places) and len(set(places)) == 4 and mask.all()
        seen.update(places)
    assert seen == set(range(11))


def test_training_leaves_a_caption_that_fits_as_it_is(words):
    tokens, _ = words.encode("this red bird", 3, np.random.default_rng(0))
    assert tokens.tolist() == words.ids("this red bird")


def test_a_caption_without_words_is_refused(words):
    for caption in ("", "  ", "!?,."):
        with pytest.raises(TokenizerError, match="has no word"):
            words.encode(caption, 4)


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert (loaded.kind, loaded.learned) == (tokenizer.kind, True)
    assert loaded.digest == tokenizer.digest
    assert loaded.vocabulary == tokenizer.vocabulary
    for caption in [*CAPTIONS, LONG, "A Zébra!"]:
        assert loaded.ids(caption) == tokenizer.ids(caption)
        assert loaded.unknown_words(caption) == tokenizer.unknown_words(caption)


def test_learning_again_gives_the_same_digest_and_other_captions_another(tokenizer):
    kind = tokenizer.kind
    assert learn_tokenizer(kind, iter(CAPTIONS), 30_000).digest == tokenizer.digest
    assert learn_tokenizer(kind, CAPTIONS[:1], 30_000).digest != tokenizer.digest


def test_the_digest_depends_on_no_version_of_the_tokenizers_library():
    # Checkpoints carry it. These are of tokenizers 0.22 and 0.23, whose own JSON this once was.
    made = (*(learn_tokenizer(kind, CAPTIONS, 100) for kind in ("words", "wordpiece")),)
    made += (fixed_vocab_tokenizer(["<end>", "a", "red"]),)
    digests = [tokenizer.digest[:16] for tokenizer in made]
    assert digests == ["54b3afdbb8c6eeda", "a1ad6bd9d077aeb9", "8d4277c073ee35ce"]


def test_a_missing_or_damaged_file_is_refused_by_its_name(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(TokenizerError, match="no tokenizer here; train a model first"):
        load_tokenizer(path)
    unusable = b'{"kind": "words", "learned": true, "tokenizer": {"model": 1}}'
    for content in (b"", b"{", b"[1]", b"{}", b"\xff\xfe", unusable):
        path.write_bytes(content)
        with pytest.raises(TokenizerError, match=r"tokenizer\.json: not .*tokenizer file"):
            load_tokenizer(path)


def write_vocabulary(folder, entries, lower=True):
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(entries) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": lower})
    )
    return str(folder)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


ENTRIES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "bird", "##s", "Red"]


def test_a_published_vocabulary_keeps_its_ids_and_its_rules(offline, tmp_path):
    uncased = pretrained_tokenizer(write_vocabulary(tmp_path / "uncased", ENTRIES))
    assert uncased.kind == "wordpiece" and not uncased.learned
    assert uncased.vocabulary.size == 10
    assert (uncased.vocabulary.pad_id, uncased.vocabulary.cls_id) == (0, 2)
    assert uncased.ids("A Red birds, zebra") == [5, 6, 7, 8, 1, 1]
    cased = pretrained_tokenizer(write_vocabulary(tmp_path / "cased", ENTRIES, lower=False))
    assert cased.ids("a Red bird") == [5, 9, 7]
    # Pieces are usual here: only what has no pieces at all is unknown.
    assert uncased.unknown_words("red birds zebra") == ["zebra"]


def test_a_published_tokenizer_file_is_read_and_survives_a_round_trip(offline, tmp_path):
    path = write_vocabulary(tmp_path / "text", ENTRIES)
    first = pretrained_tokenizer(path)
    first.save(tmp_path / "ours.json")
    (tmp_path / "json").mkdir()
    backend = json.loads((tmp_path / "ours.json").read_text())["tokenizer"]
    (tmp_path / "json/tokenizer.json").write_text(json.dumps(backend))
    (tmp_path / "json/tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    second = pretrained_tokenizer(str(tmp_path / "json"))
    del backend["model"]["type"], backend["decoder"]  # As in files of 2020.
    (tmp_path / "json/tokenizer.json").write_text(json.dumps(backend))
    assert pretrained_tokenizer(str(tmp_path / "json")).digest == second.digest
    assert second.ids("A red birds") == first.ids("A red birds") == [5, 6, 7, 8]
    assert load_tokenizer(tmp_path / "ours.json").digest == first.digest


def test_a_folder_without_a_tokenizer_is_refused_with_the_key(offline, tmp_path):
    with pytest.raises(TokenizerError, match=r"config\.tokenizer\.pretrained=.*no tokenizer could"):
        pretrained_tokenizer(str(tmp_path))


def test_a_vocabulary_without_cls_is_refused(pieces, tmp_path):
    path = tmp_path / "tokenizer.json"
    pieces.save(path)
    content = json.loads(path.read_text())
    model = content["tokenizer"]["model"]
    model["vocab"]["[NO]"] = model["vocab"].pop("[CLS]")
    content["tokenizer"]["added_tokens"] = []
    path.write_text(json.dumps(content))
    with pytest.raises(TokenizerError, match=r"lacks '\[CLS\]'"):
        load_tokenizer(path)


@pytest.fixture(scope="module")
def listed():
    return fixed_vocab_tokenizer("<end> a red bird caf nave 1x tail_feather s".split())


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A RED, caf\u00e9 bird!", ["a", "red", "caf", "bird"]),
        ("na\u00efve \u65e5\u672c bird\u2013zebra", ["nave", "bird"]),
        ("1\u00bdx tail_feather a\ufffd\ufffdred", ["1x", "tail_feather", "a", "red"]),
        # A combining accent parts words, as Python's \\w has it.
        ("red cafe\u0301s", ["red", "s"]),
    ],
)
def test_listed_words_are_read_as_the_reference_does(listed, caption, words, tmp_path):
    listed.save(tmp_path / "tokenizer.json")
    for tokenizer in (listed, load_tokenizer(tmp_path / "tokenizer.json")):
        assert [tokenizer.entries()[token] for token in tokenizer.ids(caption)] == words


def test_words_that_are_not_listed_are_reported_and_dropped(listed):
    assert listed.vocabulary.size == len(listed.entries()) == 9 and listed.pad_id == 0
    caption = "A Z\u00e9bra, \u65e5\u672c and a red bird"
    assert listed.unknown_words(caption) == ["Z\u00e9bra", "\u65e5\u672c", "and"]
    tokens, mask = listed.encode(caption, 6)
    assert tokens.tolist() == [1, 1, 2, 3, 0, 0] and mask.sum() == 4
    with pytest.raises(TokenizerError, match="no word of the vocabulary, only blue, zebra"):
        listed.encode("Blue zebra".lower(), 6)


def test_listed_words_begin_with_the_padding():
    with pytest.raises(TokenizerError, match="lacks '<end>'"):
        fixed_vocab_tokenizer(["a", "red"])


class OneSided:
    """A data set of cars that all face one way."""

    def __len__(self):
        return 2

    def metadata(self, index):
        return {"captions": ["the car faces left"]}


@pytest.mark.parametrize("flip", [True, False])
def test_a_run_that_mirrors_its_images_learns_the_words_of_both_sides(tmp_path, flip):
    config = default_config()
    config.data.random_flip = flip
    tokenizer = run._open_tokenizer(config, Workdir(tmp_path), OneSided())
    assert tokenizer.unknown_words("the car faces right") == ([] if flip else ["right"])


def test_captions_are_followed_by_their_mirrored_ones():
    sentences = ["the car faces left", "a Right turn", "a red car"]
    mirrored = ["the car faces left", "the car faces right", "a Right turn", "a Left turn"]
    assert list(with_mirrored(sentences)) == [*mirrored, "a red car"]
