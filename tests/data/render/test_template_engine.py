"""Templates are run as transformers runs them, and as little as there can break out."""

import threading
import time

import jinja2
import pytest
from transformers import PreTrainedTokenizerFast

from tl_jax.data.render import template_engine, template_limits
from tl_jax.data.render.template_engine import Declared, write

TURNS = [
    {"role": "user", "content": "Grüße <b>", "name": None},
    {
        "role": "assistant",
        "content": "",
        "thinking": "Hm.",
        "tool_calls": [{"arguments": {"a": 1}}],
    },
]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"x": {"enum": ["é", 2]}}}}]
SOURCES = [
    "{{ messages | tojson }}{{ tools | tojson }}{{ add_generation_prompt }}{{ eos_token }}",
    "{%- for t in tools %}{{ t | tojson(indent=2) }} {{ t.function | tojson }}\n{% endfor %}",
    "{{ tools[0] | tojson(ensure_ascii=true, sort_keys=true) }}{{ tools[0].text }}",
    "{% for m in messages %}{% generation %} {% set a = 1 %}{{ m.role }}{% endgeneration %}"
    "{{ a }}{{ m.reasoning_content }}{{ m.thinking }}{{ 'name' in m }}{% break %}{% endfor %}",
    "{% set n = namespace(a=dict(b=1), self=2) %}{% set n.a = 3 %}{{ n.a }}{{ dict.fromkeys([1]) }}"
    "{{ tools[0] | tojson }}{{ tools[0]._text }}",
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("prompt", [True, False])
def test_the_text_is_that_of_transformers(tokenizer, source, prompt):
    fast: PreTrainedTokenizerFast = tokenizer.fast
    expected = fast.apply_chat_template(
        TURNS, tools=TOOLS, chat_template=source, add_generation_prompt=prompt, tokenize=False
    )
    tools = [Declared(tool) for tool in TOOLS]
    for _ in range(2):
        found = write(source, TURNS, tools, prompt=prompt, special_tokens=fast.special_tokens_map)
        assert found == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no') }}",
        "{{ namespace(_a=1) }}",
        "{% set n = namespace() %}{% set n._a = 1 %}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ dict.__class__.__bases__ }}",
        "{{ tools[0].update(a=1) }}",
    ],
)
def test_what_a_template_may_not_do_is_an_error(source):
    with pytest.raises(jinja2.exceptions.TemplateError):
        write(source, TURNS, [Declared(t) for t in TOOLS], prompt=False, special_tokens={})


NAMES = "a items keys get pop _a __class__ __len__ none first last index index0 length revindex"
NAMES += " changed cycle depth _iterable __init__"


@pytest.mark.parametrize("name", NAMES.split())
def test_the_quick_path_gives_what_the_sandbox_gives(name):
    entry = {"a": 1, "items": 2, "keys": 3, "_a": 4, "first": 5}
    undefined = jinja2.Undefined
    loops = []
    for _ in range(2):
        loop = jinja2.runtime.LoopContext([3, 4], undefined=undefined)
        next(loop)
        loops.append(loop)
    plain = jinja2.sandbox.ImmutableSandboxedEnvironment()
    quick = template_engine._compiled("").environment
    for mine, theirs in ((entry, entry), (Declared(entry), Declared(entry)), tuple(loops)):
        found, expected = quick.getattr(mine, name), plain.getattr(theirs, name)
        if isinstance(expected, undefined):
            assert type(found) is type(expected), name
            assert found._undefined_name == expected._undefined_name
            assert found._undefined_exception is expected._undefined_exception
            assert found._undefined_message == expected._undefined_message
        elif callable(expected):
            assert found.__name__ == expected.__name__
        else:
            assert found == expected


def written(source):
    return write(source, TURNS, [Declared(t) for t in TOOLS], prompt=False, special_tokens={})


HUGE = [
    "{{ 'x' * 100000000 }}",
    "{{ 100000000 * [1] }}",
    "{{ 9 ** (9 ** 9) }}",
    "{% set n = namespace(a=9) %}{% for i in range(40) %}{% set n.a = n.a * n.a %}{% endfor %}",
    "{{ '%100000d' % 1 }}",
    "{{ '%100000d' | format(1) }}",
    "{{ '{:100000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 100000) }}",
    "{{ '%*d' | format(100000, 1) }}",
    "{{ 'x'.center(100000) }}{{ 'x'.zfill(100000) }}",
    "{{ 'x' | center(100000) }}",
    "{{ 'a\nb' | indent(100000) }}",
    "{{ ('a' * 10000).replace('a', 'b' * 10000) }}",
    "{{ ('a' * 10000) | replace('a', 'b' * 10000) }}",
    "{{ ('b' * 10000).join('a' * 10000) }}{{ ([1] * 10000) | join('b' * 10000) }}",
    "{{ [['a' * 10000] * 10000] | first | join }}",
    "{{ {'a': 1} | tojson(indent=100000) }}",
]


@pytest.mark.parametrize("source", HUGE)
def test_one_step_of_a_template_makes_nothing_huge(source):
    with pytest.raises(jinja2.exceptions.SecurityError):
        written(source)


def test_a_long_number_is_no_width_where_a_format_writes_it():
    source = "{{ '%s %s' | format(70417, '70417') }} {{ '{} {}'.format(70417, '0042195') }}"
    assert written(source) == "70417 70417 70417 0042195"


def test_what_templates_do_in_earnest_is_within_the_limits():
    long = "x\n" * 200_000
    turns = [{"role": "user", "content": long}]
    source = "{{ messages[0].content | indent(4) }}{{ messages[0].content.replace('\n', '\n  ') }}"
    source += (
        "{{ '-' * 80 }}{{ messages[0].content.split('\n') | join(', ') }}{{ 'a' | center(80) }}"
    )
    text = write(source, turns, None, prompt=False, special_tokens={})
    assert len(text) > 4 * len(long)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "took more than 0.3 s",
        ),
        (
            "{% set n = namespace(a=[], t='x' * 1000000) %}{% for a in range(99999) %}"
            "{% set n.a = n.a + [n.t ~ a] %}{% endfor %}",
            "took more than 100 MiB",
        ),
    ],
)
def test_a_template_that_takes_too_much_is_ended(monkeypatch, source, told):
    monkeypatch.setattr(template_limits, "SECONDS", 0.3 if "0.3" in told else 60)
    monkeypatch.setattr(template_limits, "GROWTH", 100 << 20)
    before = threading.active_count()
    for _ in range(2):
        with pytest.raises(template_limits.LimitExceeded, match=told):
            written(source)
    assert written("{{ messages[0].content }}") == TURNS[0]["content"]
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize("source", ["{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% if %}"])
def test_templates_without_end_or_form_are_errors(source):
    with pytest.raises((RecursionError, jinja2.exceptions.TemplateError)):
        written(source)


def test_a_limit_is_told_also_where_something_swallows_the_error(monkeypatch):
    monkeypatch.setattr(template_limits, "SECONDS", 0.1)
    with pytest.raises(template_limits.LimitExceeded, match=r"it took more than 0\.1 s"):
        with template_limits.limited():
            try:
                while True:
                    sum(range(10))
            except template_limits.LimitExceeded:
                pass  # as a library that catches everything would
    with template_limits.limited():  # and no error comes late
        pass


def test_a_loop_that_swallows_the_error_gets_it_again(monkeypatch):
    """As where it arrives while a callback of the garbage collector runs."""
    monkeypatch.setattr(template_limits, "SECONDS", 0.1)
    monkeypatch.setattr(template_limits, "_AGAIN_S", 0.1)
    swallowed, until = 0, time.monotonic() + 30
    with pytest.raises(template_limits.LimitExceeded):
        with template_limits.limited():
            while time.monotonic() < until:
                try:
                    while time.monotonic() < until:
                        pass
                except template_limits.LimitExceeded:
                    swallowed += 1
                    if swallowed == 3:
                        raise
    assert swallowed == 3 and time.monotonic() < until
