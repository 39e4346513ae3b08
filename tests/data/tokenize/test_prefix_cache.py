"""Tokens of a shared start are remembered, and no text gets other tokens for that."""

import dataclasses

import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from tl_jax.data.render.paper_template import render_sample
from tl_jax.data.tokenize import prefix_cache
from tl_jax.data.tokenize.prefix_cache import TextStarts
from tl_jax.data.tokenize.tokenizer import from_fast
from tl_jax.data.tokenize.word_cache import TextPieces

START = "System: Function:\ndef search(query:str):\n" + '    """\n    Find  advice.\n    """\n' * 6
ENDS = ["\nUser: hi", "", " \n x", "s", "'s 12 34", "\n\n\nAssistant:", "\u00e9t\u00e9 \U0001f600"]


class Counting:
    """A backend that counts the characters it encodes."""

    def __init__(self, backend):
        self.backend, self.encoded = backend, 0

    def encode(self, text, **options):
        self.encoded += len(text)
        return self.backend.encode(text, **options)

    def encode_batch(self, texts, **options):
        return [self.encode(text, **options) for text in texts]

    def __getattr__(self, name):
        return getattr(self.backend, name)


def remembering(backend):
    return TextStarts(backend, TextPieces(backend))


def gpt2_like(pre_tokenizer):
    """A byte-level tokenizer with the given cutting into words."""
    core = tokenizers.Tokenizer(tokenizers.models.BPE())
    core.pre_tokenizer = pre_tokenizer
    core.train_from_iterator(
        [START + end for end in ENDS],
        tokenizers.trainers.BpeTrainer(
            vocab_size=420,
            special_tokens=["<s>"],
            initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return core


@pytest.fixture(scope="module", params=["gpt2", "digits", "llama3"])
def backend(request):
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    digits = tokenizers.pre_tokenizers.Digits(individual_digits=True)
    llama3 = tokenizers.Regex(
        r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    steps = {
        "gpt2": byte_level(add_prefix_space=False),
        "digits": tokenizers.pre_tokenizers.Sequence([digits, byte_level(add_prefix_space=False)]),
        "llama3": tokenizers.pre_tokenizers.Sequence(
            [
                tokenizers.pre_tokenizers.Split(llama3, "isolated"),
                byte_level(add_prefix_space=False, use_regex=False),
            ]
        ),
    }
    return gpt2_like(steps[request.param])


def tokens_of(encoding):
    return encoding.ids, encoding.offsets


def test_every_text_gets_the_tokens_of_the_whole(backend):
    starts = remembering(backend)
    for _ in range(3):
        for end in ENDS:
            assert starts.encode(START + end, len(START)) == tokens_of(backend.encode(START + end))


def test_from_the_third_time_on_only_the_rest_is_encoded(backend):
    counting = Counting(backend)
    starts = remembering(counting)
    for end in ENDS[:2]:
        starts.encode(START + end, len(START))
    counting.encoded = 0
    starts.encode(START + "\nUser: x", len(START))
    assert counting.encoded < 60 < len(START)


def test_a_start_that_comes_once_costs_nothing_more(backend):
    counting = Counting(backend)
    remembering(counting).encode(START, len(START) - 3)
    assert 0 < counting.encoded <= len(START)


def test_the_oldest_start_is_forgotten(backend, monkeypatch):
    monkeypatch.setattr(prefix_cache, "_REMEMBERED", 2)
    starts = remembering(backend)
    for name in "abc":
        starts.encode(name + START, len(START))
    assert len(starts._known) == 2 and "a" + START[:-1] not in starts._known


@pytest.mark.parametrize(
    "step",
    [
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True),
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"(?<=e)\n"), "isolated"),
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"\s+"), "merged_with_previous"),
        tokenizers.pre_tokenizers.Metaspace(),
    ],
    ids=lambda step: type(step).__name__,
)
def test_tokenizers_that_look_back_always_encode_the_whole(step):
    core = gpt2_like(step)
    counting = Counting(core)
    starts = remembering(counting)
    for number, end in enumerate(ENDS * 3):
        counting.encoded = 0
        assert starts.encode(START + end, len(START)) == tokens_of(core.encode(START + end)), number
        assert counting.encoded == len(START + end)


@pytest.mark.parametrize("backend", ["llama3"], indirect=True)  # whose pattern is not a known one
def test_a_tokenizer_whose_parts_differ_from_the_whole_is_not_trusted(backend):
    class Contextual(Counting):
        def encode(self, text, **options):
            found = super().encode(text, **options)
            if text.startswith(START[:10]):
                return found
            return dataclasses.make_dataclass("E", ["ids", "offsets"])([0], [(0, 1)])

    starts = remembering(Contextual(backend))
    for end in ENDS * 2:
        assert starts.encode(START + end, len(START)) == tokens_of(backend.encode(START + end))


def test_whole_dialogues_get_the_same_tokens(trajectory, tokenizer, llama_like):
    rendered = render_sample(trajectory.tools, trajectory.messages)
    assert rendered.text[: rendered.head].endswith('"""\n')
    for one in (tokenizer, llama_like):
        for _ in range(3):
            assert one.encode(rendered.text, True, shared=rendered.head) == one.encode(
                rendered.text, True
            )


def test_an_added_word_over_the_border_is_found():
    word = '"""\nUser'
    core = gpt2_like(tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False))
    core.add_tokens([tokenizers.AddedToken(word, special=False)])
    one = from_fast(PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<s>"))
    text = START[:-1] + "\nUser: hi"
    for _ in range(3):
        ids, _ = one.encode(text, shared=len(START))
        assert ids == one.encode(text)[0] and core.token_to_id(word) in ids
