"""Templates are run as transformers runs them, and as little as there can break out."""

import jinja2
import pytest
from transformers import PreTrainedTokenizerFast

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
