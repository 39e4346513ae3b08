"""Whatever the model wants, a constrained call names an offered tool and declared parameters."""

import dataclasses
import functools
import random

import jax
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.parse import CallSyntaxError, parse_calls
from tl_jax.calls.render import render_calls
from tl_jax.config import ModelConfig
from tl_jax.data.tokenize.tokenizer import from_fast, train_byte_bpe
from tl_jax.models import functional
from tl_jax.sampling import sampler
from tl_jax.sampling.grammar import (
    STYLES,
    CallConstraint,
    Vocabulary,
    make_constraint,
    read_vocabulary,
)
from tl_jax.sampling.next_token import SampleConfig

TOOLS = (
    ToolSpec("get", "", (Parameter("city"), Parameter("city_code"))),
    ToolSpec("get_weather", "", (Parameter("city"), Parameter("naïve-days"))),
    ToolSpec("now"),
)
DECLARED = {tool.name: {p.name for p in tool.parameters} for tool in TOOLS}
CALLS = (
    (ToolCall("get", {"city": "a, b(c='d')", "city_code": [1, (2, "]")]}),),
    (ToolCall("get_weather", {"naïve-days": {"x": [")"]}, "city": "O'S \""}),),
    (ToolCall("now"), ToolCall("get", {"city_code": None})),
)
WRONG = {
    "python": (
        "get_time(city='Oslo')",
        "get_weather(town='Oslo')",
        "get_weather(city_code=1)",
        "get(city='a', city='b')",
        "now(x=1)",
        "now()\nget_times()",
        "[now()]",
        "I do not know",
    ),
    "hermes": (
        'I see.<tool_call>{"name": "get_time", "arguments": {}}</tool_call>',
        '<<tool_call>[{"name": "now", "arguments": {}}, {"name": "then", "arguments": {}}]',
        '<tool_call>{"name": "now", "arguments": {}}</tool_call><tool_call>{"name": "n"',
        '<tool_call>{"name": "get", "arguments": {"city": {"a": "}"}, "town": 1}}</tool_call>',
        '<tool_call>{"name": "get", "arguments": {"city": 1, "city": 2}}</tool_call>',
        '<tool_call>{"name": "now", "arguments": {"x": 1}}</tool_call>',
        '<tool_call>{"arguments": {"x": 1}, "name": "now"}</tool_call>',
        '<tool_call>{"name": "\\u006eow", "arguments": {}}</tool_call>',
    ),
    "llama_json": (
        '{"name": "get_time", "parameters": {}}',
        '{"name": "get", "parameters": {"town": 1}}',
        '{"name": "now", "parameters": {}, "type": "}"}; {"name": "then", "parameters": {}}',
        '{"name": "now", "arguments": {}}',
        "I do not know",
    ),
    "json": (
        '[{"name": "get_time", "arguments": {}}]',
        '{"name": "now", "arguments": {}}, {"name": "then", "arguments": {}}',
        '[{"name": "now", "arguments": {}}]{"name": "then", "arguments": {}}',
        '[{"name": "get", "arguments": {"city": 1, "town": 2}}]',
        "I do not know",
    ),
    "tool_calls": (
        '<tool_<tool_calls>[{"name": "get_time", "arguments": {}}]</tool_calls>',
        '<tool_calls>{"name": "now", "arguments": {}}\n{"name": "then", "arguments": {}}',
        '<tool_calls>[{"name": "get", "arguments": {"town": 2}}]</tool_calls>',
    ),
    "internlm": (
        'So <|action_start|><|action_start|><|plugin|>\n{"name": "then", "arguments": {}}',
        '<|action_start|><|plugin|>\n{"name": "now", "arguments": {"x": 1}}<|action_end|>',
        '<|action_start|><|plugin|>{"name": "now", "arguments": {}}<|action_end|>'
        '<|action_start|><|plugin|>{"name": "then", "arguments": {}}<|action_end|>',
    ),
}
FORMS = {
    "released": "python",
    "script": "python",
    "hermes": "hermes",
    "llama_json": "llama_json",
} | {style: style for style in ("json", "tool_calls", "internlm")}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    texts = ["get_weather(city='Oslo', days=3)\nget(city_code='x')"] * 9
    return train_byte_bpe(texts, 290, tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return read_vocabulary(tokenizer, tokenizer.vocab_size + 5)


@pytest.fixture(scope="module")
def constraints(tokenizer, vocabulary):
    return {x: make_constraint(vocabulary, TOOLS, (tokenizer.eos_id,), x) for x in STYLES}


@pytest.fixture(scope="module")
def constraint(constraints):
    return constraints["python"]


def refused_at(constraint, ids):
    """Return the number of the first token that is not allowed, or None."""
    state = constraint.start
    for number, token in enumerate(ids):
        allowed = constraint.allowed(state)
        if allowed is not None and not allowed[token]:
            return number
        state = constraint.advance(state, token)
    return None


def cut_at_random(vocabulary, text, seed):
    """Spell a text with any tokens that fit."""
    rng, data, ids = random.Random(seed), text.encode(), []
    while data:
        fitting = [i for i in vocabulary.order if data.startswith(vocabulary.texts[i])]
        ids.append(rng.choice(fitting))
        data = data[len(vocabulary.texts[ids[-1]]) :]
    return ids


@pytest.mark.parametrize("form", FORMS)
def test_every_call_of_the_tools_can_be_written_with_any_tokens(
    constraints, vocabulary, tokenizer, form
):
    constraint = constraints[FORMS[form]]
    for calls in CALLS:
        text = render_calls(calls, form)
        assert refused_at(constraint, [*tokenizer.encode(text)[0], tokenizer.eos_id]) is None
        for seed in range(5):
            ids = cut_at_random(vocabulary, f" \n{text}", seed)
            assert refused_at(constraint, [*ids, tokenizer.eos_id]) is None


@pytest.mark.parametrize("style", WRONG)
def test_a_wrong_name_is_refused_however_it_is_cut(constraints, vocabulary, style):
    for text in WRONG[style]:
        for seed in range(5):
            ids = cut_at_random(vocabulary, text, seed)
            assert refused_at(constraints[style], ids) is not None, text


def test_what_is_no_call_is_free_where_calls_are_marked(constraints, tokenizer):
    text = "<tool_ {'name': ]} \n<tool_call >get_time(town=1)"
    assert refused_at(constraints["hermes"], [*tokenizer.encode(text)[0], tokenizer.eos_id]) is None
    listed = '<tool_call>[{"name": "now", "arguments": {}}]</tool_call>'
    assert (
        refused_at(constraints["hermes"], [*tokenizer.encode(listed)[0], tokenizer.eos_id]) is None
    )


def test_a_reply_may_not_end_where_a_name_is_due(constraints, tokenizer):
    starts = {
        "python": ("", " ", "get", "get(", "get(city", "get(city='a',"),
        "hermes": ("<tool_call>", '<tool_call>{"name": "now', '<tool_call>{"name": "now"'),
        "llama_json": ("", '{"name": "get", "parameters": {"city": 1,'),
    }
    for style, texts in starts.items():
        for text in texts:
            ids = tokenizer.encode(text)[0]
            assert refused_at(constraints[style], [*ids, tokenizer.eos_id]) == len(ids)


@pytest.mark.parametrize("style", WRONG)
def test_short_cuts_allow_what_trying_every_token_allows(constraints, vocabulary, style):
    constraint = constraints[style]
    beginning = cut_at_random(vocabulary, "<tool_call>", 0) if style == "hermes" else []
    for seed in range(15):
        rng, state = random.Random(seed), constraint.start
        for token in beginning:
            state = constraint.advance(state, token)
        for _ in range(12):
            allowed = constraint.allowed(state)
            if allowed is None:
                break
            found = []
            for token in vocabulary.order:
                after = state
                for byte in vocabulary.texts[token]:
                    after = after and constraint.grammar.step(after, byte)
                if token not in constraint.stop_ids:
                    assert allowed[token] == (after is not None)
                    found += [token] * (after is not None)
            state = constraint.advance(state, rng.choice(found))


def check(text, style="python"):
    """Return whether a reply holds calls, all of which must keep to the tools."""
    try:
        calls = parse_calls(text, style)
    except CallSyntaxError:
        return False
    for call in calls:
        assert call.arguments.keys() <= DECLARED[call.name]
    return True


LIKELY = {"python": "1 1 , ) ) ' = \n", "llama_json": '1 1 , " } } ;', "json": '1 1 , " } } ]'}
LIKELY |= dict.fromkeys(("hermes", "tool_calls", "internlm"), '1 1 1 , " } } }')
TAGS = {
    "hermes": ("<tool_call>", "</tool_call>"),
    "tool_calls": ("<tool_calls>", "</tool_calls>"),
    "internlm": ("<|action_start|><|plugin|>", "<|action_end|>"),
}


@pytest.mark.parametrize("style", WRONG)
def test_random_writers_make_no_other_calls(constraints, vocabulary, tokenizer, style):
    constraint = constraints[style]
    likely = [vocabulary.texts.index(x.encode()) for x in LIKELY[style].split(" ")]
    blanks = {i for i in vocabulary.order if not vocabulary.texts[i].strip()}
    found = 0
    for seed in range(60):
        rng, state, ids = random.Random(seed), constraint.start, []
        opening, closing = TAGS.get(style, ("", ""))
        if opening:
            ids = cut_at_random(vocabulary, opening, seed)
            for token in ids:
                state = constraint.advance(state, token)
        for _ in range(50):
            allowed = constraint.allowed(state)
            allowed = np.ones(len(vocabulary.texts), bool) if allowed is None else allowed
            anything = [i for i in np.flatnonzero(allowed).tolist() if i != tokenizer.eos_id]
            liked = [i for i in likely if allowed[i]] or [i for i in anything if i not in blanks]
            ids.append(rng.choice(liked if rng.random() < 0.9 else anything))
            state = constraint.advance(state, ids[-1])
            text = tokenizer.decode(ids, keep_control=True)
            found += check(text + closing, style)
    assert found > 4


def test_a_random_model_names_nothing_else(tokenizer, vocabulary, constraint):
    model = ModelConfig(len(vocabulary.texts), 16, 1, 2, 1, 8, 32)
    params = functional.init(model, jax.random.key(0))
    sample = sampler.make_sampler(model, SampleConfig(24, stop_ids=(tokenizer.eos_id,)))
    prompts = [[5 + i] * (1 + i) for i in range(10)]
    keys = jax.random.split(jax.random.key(1), len(prompts))
    options = {"batch_size": 4, "constraints": [constraint] * len(prompts)}
    made = sampler.generate(sample, params, prompts, keys, **options)
    starts = tuple(DECLARED)
    for generation in made:
        ids = generation.ids[:-1] if generation.finished else generation.ids
        assert refused_at(constraint, ids) is None
        text = sampler.reply_text(generation, tokenizer).lstrip(" \t\r\n")
        assert text.startswith(starts) or any(name.startswith(text) for name in starts)
        check(text)
    alone = sampler.generate(
        sample, params, prompts[3:4], keys[3:4], batch_size=1, constraints=[constraint]
    )
    assert alone[0].ids == made[3].ids


@pytest.fixture(scope="module")
def samplers(tokenizer, vocabulary):
    """A model, and samplers without and with proposals."""
    model = ModelConfig(len(vocabulary.texts), 16, 1, 2, 1, 8, 32)
    params = functional.init(model, jax.random.key(0))
    return params, *(
        sampler.make_sampler(model, SampleConfig(24, stop_ids=(tokenizer.eos_id,), lookup=count))
        for count in (0, 3)
    )


@pytest.mark.parametrize("style", STYLES)
def test_proposals_change_no_constrained_token_and_save_forwards(
    constraints, vocabulary, samplers, style
):
    params, plain, proposing = samplers
    opening = "" if style == "python" else written(CALLS[0], style).partition("{")[0] + "{"
    prompts = [[5, 6, 7], [8], [9, 5, 6, 7]]
    # Behind the mark of a call, where there is something to constrain.
    begun = [Begun(constraints[style], cut_at_random(vocabulary, opening, 0))] * len(prompts)
    options = {"batch_size": 2, "constraints": begun}
    forwards, found = [], []
    for sample in (plain, proposing):
        calls = []
        extend = functools.partial(counted, calls, sample.programs.extend)
        watched = dataclasses.replace(sample, programs=sample.programs._replace(extend=extend))
        keys = jax.random.split(jax.random.key(2), len(prompts))
        made = sampler.generate(watched, params, prompts, keys, **options)
        found.append([(one.ids, one.finished) for one in made])
        forwards.append(len(calls))
    assert found[0] == found[1]
    assert forwards[1] < forwards[0]


def written(calls, style):
    return render_calls(calls, "released" if style == "python" else style)


def counted(calls, function, *args):
    calls.append(len(args))
    return function(*args)


@dataclasses.dataclass(frozen=True)
class Begun:
    """A constraint of a reply that has begun already."""

    constraint: CallConstraint
    ids: list[int]

    @property
    def start(self):
        return functools.reduce(self.constraint.advance, self.ids, self.constraint.start)

    def __getattr__(self, name):
        return getattr(self.constraint, name)


@pytest.mark.parametrize("style", STYLES)
def test_what_is_likely_is_allowed_and_what_is_sure_is_likely(constraints, vocabulary, style):
    constraint, rng, proposed = constraints[style], random.Random(0), 0
    for calls in CALLS:
        state = constraint.start
        for token in cut_at_random(vocabulary, written(calls, style), rng.random()):
            allowed, likely = constraint.allowed(state), constraint.likely(state)
            if likely is not None:
                assert allowed is not None and allowed[likely]
                proposed += 1
            assert allowed is None or allowed.sum() > 1 or allowed[likely]
            state = constraint.advance(state, token)
    assert proposed


def test_a_token_that_reaches_over_the_end_of_a_name_is_judged_to_its_end():
    extra = (b"get_weather(city", b"get_weather(town", b"get(", b"et", b")\nnow(", b"', city", b"")
    texts = (*(bytes([b]) for b in range(256)), *extra)
    order = sorted((i for i in range(len(texts)) if texts[i]), key=texts.__getitem__)
    constraint = make_constraint(Vocabulary(texts, tuple(order)), TOOLS, ())
    allowed = dict(zip(extra, constraint.allowed(constraint.start)[256:], strict=True))
    assert [text for text, fine in allowed.items() if fine] == [b"get_weather(city", b"get("]
    inside = constraint.start
    for byte in b"get_weather(city='":
        inside = constraint.advance(inside, byte)
    allowed = dict(zip(extra, constraint.allowed(inside)[256:], strict=True))
    # The city is given already; what stands inside the quotes is no name.
    assert [text for text, fine in allowed.items() if not fine] == [b"', city"]


def test_texts_of_tokens_join_to_the_text(tokenizer, vocabulary):
    text = "get_weather(city='São ½🙂')\n\tnow()"
    ids = [*tokenizer.encode(text)[0], tokenizer.pad_id]
    assert b"".join(vocabulary.texts[i] for i in ids).decode() == text + "<|pad|>"
    assert vocabulary.texts[-5:] == (b"",) * 5


def marking_tokenizer(pieces):
    """A tokenizer with bytes as fallback whose tokens show blanks, as LLaMA-2's does."""
    from transformers import PreTrainedTokenizerFast

    vocab = {piece: index for index, piece in enumerate(pieces)}
    core = tokenizers.Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>")
    return from_fast(fast)


def test_tokens_that_show_blanks_and_bytes_are_read_as_text():
    pieces = ["<unk>", "</s>", "a", "▁", "▁now", "\n", "<0xC3>", "<0xAF>", "(", ")", "="]
    found = read_vocabulary(marking_tokenizer(pieces), len(pieces)).texts
    assert found[2:] == (b"a", b" ", b" now", b"\n", b"\xc3", b"\xaf", b"(", b")", b"=")


def test_what_cannot_be_constrained_is_refused(vocabulary):
    with pytest.raises(ValueError, match="no tool is offered whose name a Python call"):
        make_constraint(vocabulary, (ToolSpec("two words"),), ())
    with pytest.raises(ValueError, match="no tool is offered"):
        make_constraint(vocabulary, (), (), "hermes")
    texts = (b"n", b"o", b"w", b"(", b")", b"now")
    few = Vocabulary(texts, (3, 4, 0, 5, 1, 2))
    with pytest.raises(ValueError, match="no token for '=' alone"):
        make_constraint(few, TOOLS[2:], ())
