"""What a template asks for stands fixed in its text, and nothing else of it changes."""

import datetime
import json

import pytest
from template_cases import make_tokenizer

from tl_jax.data.render.template_text import DATE, fixed_values, free_names, with_fixed


@pytest.fixture(scope="module")
def write():
    fast = make_tokenizer("chatml").fast

    def write(source, **settings):
        text = with_fixed(source, settings)
        turns = [{"role": "user", "content": "hi"}]
        return fast.apply_chat_template(turns, chat_template=text, tokenize=False)

    return write


FORMS = ("%d %b %Y", "%Y-%m-%d", "%A", "%-d/%m/%y %H:%M:%S", "%B %e, %Y (%a) %j %p %%", "%F %T", "")


def test_a_day_is_written_in_the_form_asked_for(write):
    for form in FORMS:
        assert write(f"{{{{ strftime_now('{form}') }}}}") == DATE.strftime(form)
    assert datetime.datetime(2024, 7, 26) < DATE < datetime.datetime(2024, 7, 27)
    lookup = "{{ {'Friday': 'five'}[strftime_now('%A')] }}"
    assert write(lookup) == "five"


def test_settings_of_any_json_value_hold_also_inside_macros_and_loops(write):
    source = (
        "{% macro f() %}{{ a | tojson }}{% endmacro %}"
        "{% for m in messages %}{{ f() }}{% if a is defined %}!{% endif %}{% endfor %}"
    )
    for value in (True, None, 3.5, 'it\'s "a"\n\\n {{ x }} ä', [1, {"k": [None]}], {"a": False}):
        assert write(source, a=value) == json.dumps(value, ensure_ascii=False) + "!"
    usual = "{% set t = t if t is defined else true %}{{ t }}"
    assert write(usual, t=False) == "False" and write(usual) == "True"


@pytest.mark.parametrize("source", ["  {% if true %}a{% endif %}\n b", "\n\n x", "{{- 'a' }}", "a"])
def test_a_template_begins_as_it_did(write, source):
    asking = source + "{% if t is defined and t %}{{ t }}{% endif %}"
    assert write(asking, t=False) == write(source)
    assert with_fixed(source, {"t": False}) == source


def test_only_what_a_template_reads_is_fixed():
    source = (
        "{% set a = 1 %}{{ a }}{{ b }}{% generation %}{{ strftime_now('%d') }}{% endgeneration %}"
    )
    assert {"b", "strftime_now"} <= free_names(source) and "a" not in free_names(source)
    found = fixed_values(source, {"a": 1, "b": 2, "c": 3})
    assert found == {"b": 2, "strftime_now": "2024-07-26"}
    assert fixed_values("{{ date_string }}", {}) == {"date_string": "26 Jul 2024"}
    assert fixed_values("{{ date_string }}", {"date_string": "x"}) == {"date_string": "x"}


def test_a_template_that_is_none_is_refused_with_its_line():
    with pytest.raises(ValueError, match=r"cannot be read \(line 3: TemplateSyntaxError"):
        free_names("{{ a }}\n\n{% for %}")
    with pytest.raises(ValueError, match=r"cannot be read \(line 2: TemplateSyntaxError"):
        free_names("{% if a %}\n{{ 'b }}\n")
