"""Texts encoded piece by piece have the tokens of the whole, and words that came are remembered."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from tl_jax.data.tokenize import word_cache
from tl_jax.data.tokenize.word_cache import TextPieces

TEXT = "User: what's the fare of 2 trips?\n\nAssistant: find_fare(n = 2) \nOutput: {'eur': 12.5}"
BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split(pattern):
    return pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")


STEPS = {
    "gpt2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "smollm2": [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "llama3": [split(word_cache._CUTTING[1]), BYTE_LEVEL],
    "qwen": [split(word_cache._CUTTING[2]), BYTE_LEVEL],
    "trained here": [split(r"\s+"), split(r"[^\w\s]+|_"), pre_tokenizers.Digits(True), BYTE_LEVEL],
}
OTHER_STEPS = {
    "no cut": [BYTE_LEVEL],
    "prefix": [pre_tokenizers.ByteLevel(add_prefix_space=True)],
    "pattern over blanks": [split(r"\w+ \w+"), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "blanks as letters": [BYTE_LEVEL, split(r"\s+")],
    "merged": [pre_tokenizers.Split(tokenizers.Regex(r"\s+"), "merged_with_previous"), BYTE_LEVEL],
}


def backend_of(steps, normalizer=None):
    core = tokenizers.Tokenizer(tokenizers.models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if normalizer is not None:
        core.normalizer = normalizer
    core.train_from_iterator(
        [TEXT, "the fare of the trips, caf\u00e9"] * 3,
        tokenizers.trainers.BpeTrainer(
            vocab_size=330,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return core


BACKENDS = {name: backend_of(steps) for name, steps in STEPS.items()}
BACKENDS["composed"] = backend_of(STEPS["qwen"], normalizers.NFC())


def whole(backend, text):
    encoding = backend.encode(text, add_special_tokens=False)
    return encoding.ids, encoding.offsets


class Recording:
    """A backend that keeps what it encodes."""

    def __init__(self, backend):
        self.backend, self.texts = backend, []

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def encode(self, text, **options):
        self.texts.append(text)
        return self.backend.encode(text, **options)

    def encode_batch(self, texts, **options):
        return [self.encode(text, **options) for text in texts]


PARTS = [
    " ", " ", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u2003", "the", "fare", "'s", "'S", "12",
    "(", "}\n", "_", "\u0301", "cafe\u0301", "e", "\u00e9", "\u4e2d", "\U0001f600", "\u200d",
    "\u0661", '{"fare":"12",', "_x9", "'ll", "</t>", "\x0b", "\x1c",
]  # fmt: skip


@pytest.mark.parametrize("name", BACKENDS)
def test_pieces_are_used_and_give_the_tokens_of_the_whole(name):
    backend = BACKENDS[name]
    pieces = TextPieces(backend)
    assert pieces._usable and pieces._cut is not None

    @settings(deadline=None)
    @given(st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=20))
    def same(parts):
        text = "".join(parts)
        assert pieces.encode(text) == whole(backend, text)

    same()
    for text in (TEXT, TEXT, ""):
        assert pieces.encode(text) == whole(backend, text)


@pytest.mark.parametrize("name", OTHER_STEPS)
def test_other_tokenizers_encode_the_whole(name):
    backend = backend_of(OTHER_STEPS[name])
    recording = Recording(backend)
    assert TextPieces(recording).encode(TEXT) == whole(backend, TEXT)
    assert recording.texts == [TEXT]


@pytest.mark.parametrize(
    "token",
    [
        tokenizers.AddedToken("fare of", special=False),
        tokenizers.AddedToken("fare", special=False, rstrip=True),
        tokenizers.AddedToken("of", special=False, single_word=True),
    ],
    ids=["with a blank", "taking blanks", "looking round"],
)
def test_added_words_that_reach_over_a_border_are_found(token):
    backend = backend_of(STEPS["gpt2"])
    backend.add_tokens([token])
    ids, offsets = TextPieces(backend).encode(TEXT)
    assert (ids, offsets) == whole(backend, TEXT) and backend.token_to_id(token.content) in ids


def test_only_new_pieces_are_encoded_and_the_places_are_shifted():
    recording = Recording(BACKENDS["gpt2"])
    pieces = TextPieces(recording)
    pieces.encode("the fare of the trips")
    recording.texts.clear()
    ids, offsets = pieces.encode("the fare of two trips", 100)
    assert recording.texts == [" two"]
    expected = whole(recording.backend, "the fare of two trips")
    assert (ids, [(a - 100, b - 100) for a, b in offsets]) == expected


def test_of_a_new_piece_only_new_words_are_encoded():
    recording = Recording(BACKENDS["gpt2"])
    pieces = TextPieces(recording)
    pieces.encode('{"fare":"trips"}')
    recording.texts.clear()
    text = '{"trips":"fare","two":1}'
    assert pieces.encode(text) == whole(recording.backend, text)
    assert sorted(recording.texts) == sorted(['","', "two", '":', "1", "}"])


@pytest.mark.parametrize("special", [True, False])
def test_added_tokens_inside_a_piece_are_found(special):
    backend = backend_of(STEPS["qwen"])
    backend.add_tokens([tokenizers.AddedToken("</t>", special=special, normalized=False)])
    for plain in (True, False):
        backend.encode_special_tokens = plain
        text = 'the {"fare":"</t>","the":"trips</t>"}'
        ids, offsets = TextPieces(backend).encode(text)
        assert (ids, offsets) == whole(backend, text)
        assert (backend.token_to_id("</t>") in ids) == (not special or not plain)


def test_counting_gives_the_number_of_tokens():
    for backend in (BACKENDS["qwen"], backend_of(OTHER_STEPS["no cut"])):
        pieces = TextPieces(backend)
        for text in (TEXT, "", " ", "caf\u00e9 the", TEXT + " new"):
            assert pieces.count(text) == len(whole(backend, text)[0])


def test_no_more_is_kept_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(word_cache, "_REMEMBERED", 40)
    pieces = TextPieces(BACKENDS["gpt2"])
    for number in range(30):
        text = f"{TEXT} {number} trips"
        assert pieces.encode(text) == whole(BACKENDS["gpt2"], text)
        pieces.encode("short")
        kept = [piece for known in pieces._known.values() for piece in known]
        assert 0 < sum(map(len, kept)) <= 40
