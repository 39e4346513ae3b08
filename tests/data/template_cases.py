"""Chat templates in the manner of known model families, and tokenizers that have them."""

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tl_jax.config import DataConfig
from tl_jax.data.render.renderer import open_renderer
from tl_jax.data.tokenize.tokenizer import from_fast

# ChatML with tags round calls; a system turn of its own where the dialogue has none.
CHATML = """\
{%- if messages[0].role == 'system' %}{% set lead = messages[0].content %}
{%- else %}{% set lead = 'Be helpful.' %}{% endif %}
{{- '<|im_start|>system\\n' + lead }}
{%- if tools %}
{{- '\\n# Functions\\n' }}{% for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for m in messages %}
  {%- if m.role == 'assistant' %}
    {{- '<|im_start|>assistant\\n' + m.content }}
    {%- for c in m.tool_calls or [] %}
      {%- if not loop.first or m.content %}{{ '\\n' }}{% endif %}
      {{- '<tool_call>\\n{"name": "' + c.function.name + '", "arguments": ' }}
      {{- c.function.arguments | tojson + '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
  {%- elif m.role == 'tool' %}
    {{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}
  {%- elif m.role == 'user' or not loop.first %}
    {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

# The same, but a turn has an empty thought in it for as long as it is the last one.
THINKING = CHATML.replace(
    "{{- '<|im_start|>assistant\\n' + m.content }}",
    "{{- '<|im_start|>assistant\\n' }}{% if loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}"
    "{% endif %}{{ m.content }}",
).replace(
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}",
)

# A line feed before the end of a result, but only where another turn follows.
NEWLINE = CHATML.replace(
    "'\\n</tool_response><|im_end|>\\n' }}",
    "'\\n</tool_response>' + ('' if loop.last else '\\n') + '<|im_end|>\\n' }}",
)
assert NEWLINE != CHATML

# As THINKING, but the last turn keeps its thought, under the name that engines give it.
HYBRID = THINKING.replace(
    "{% if loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}",
    "{% if loop.last %}{{ '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' }}"
    "{% endif %}",
)
# Thinking only: the prompt opens a thought, and a turn is written without it.
OPENING = CHATML.replace(
    "{{ '<|im_start|>assistant\\n' }}", "{{ '<|im_start|>assistant\\n<think>\\n' }}"
)
# Only the next turn ends a turn.
UNENDED = """\
{%- for m in messages %}
  {%- if loop.first and tools %}{{ '<|system|>' + tools | tojson }}{% endif %}
  {%- if m.role == 'tool' %}{{ '<|observation|>' + m.content }}
  {%- else %}{{ '<|' + m.role + '|>' + m.content }}{% endif %}
  {%- for c in m.tool_calls or [] %}
    {{- '<tool_call>{"name": "' + c.function.name + '", "arguments": ' }}
    {{- c.function.arguments | tojson + '}</tool_call>' }}
  {%- endfor %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
"""
# The system text stands with the last question, but only until that is answered.
LATE_SYSTEM = """\
{{- bos_token }}
{%- set lead = messages[0].content if messages[0].role == 'system' else '' %}
{%- for m in messages %}
  {%- if m.role == 'user' %}
    {%- if tools and (loop.first or (lead and loop.index == 2)) %}
      {{- '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}
    {%- endif %}
    {{- '[INST] ' + (lead + ' ' if lead and loop.last else '') + m.content + '[/INST]' }}
  {%- elif m.tool_calls %}
    {{- '[TOOL_CALLS] [' }}
    {%- for c in m.tool_calls %}
      {{- (c.function | tojson)[:-1] + ', "id": "' + c.id + '"}' + ('' if loop.last else ', ') }}
    {%- endfor %}
    {{- ']' + eos_token }}
  {%- elif m.role == 'assistant' %}
    {{- ' ' + m.content + eos_token }}
  {%- elif m.role == 'tool' %}
    {{- '[TOOL_RESULTS] {"content": ' + m.content | tojson + ', "call_id": "' }}
    {{- m.tool_call_id + '"}[/TOOL_RESULTS]' }}
  {%- endif %}
{%- endfor %}
"""
# The name of a call is a part of its id only.
NAMED_IDS = CHATML.replace(
    '{{- \'<tool_call>\\n{"name": "\' + c.function.name + \'", "arguments": \' }}',
    "{{- '<|tool_calls_section_begin|><|tool_call_begin|>' + c.id }}"
    "{{- '<|tool_call_argument_begin|>' }}",
).replace("'}\\n</tool_call>' }}", "'<|tool_call_end|><|tool_calls_section_end|>' }}")

# Headers, today's date, the tools inside the first question, one bare JSON call a turn.
HEADERS = """\
{%- set day = strftime_now('%d %b %Y') %}
{{- bos_token }}
{%- macro head(role) %}{{ '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' }}{% endmacro %}
{{- head('system') + 'Today: ' + day + '\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content | trim }}
{%- set messages = messages[1:] %}{% endif %}
{{- '<|eot_id|>' }}
{%- for m in messages %}
  {%- if 'tool_calls' in m %}
    {%- if m.tool_calls | length != 1 %}{{ raise_exception('one call a turn') }}{% endif %}
    {%- set f = m.tool_calls[0].function %}
    {{- head('assistant') + '{"name": "' + f.name + '", "parameters": ' + f.arguments | tojson }}
    {{- '}<|eot_id|>' }}
  {%- elif m.role == 'tool' %}
    {{- head('ipython') + m.content | tojson + '<|eot_id|>' }}
  {%- else %}
    {{- head(m.role) }}
    {%- if loop.first and tools %}
      {{- 'Functions:\\n' }}{% for t in tools %}{{ t | tojson(indent=4) + '\\n\\n' }}{% endfor %}
    {%- endif %}
    {{- m.content | trim + '<|eot_id|>' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ head('assistant') }}{% endif %}
"""

# No generation prompt at all; the tools move to the last question; ids of nine characters.
BRACKETS = """\
{{- bos_token }}
{%- set questions = messages | selectattr('role', 'equalto', 'user') | list %}
{%- for m in messages %}
  {%- if m.role == 'user' %}
    {%- if tools and m == questions[-1] %}
      {{- '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' }}
    {%- endif %}
    {{- '[INST] ' + m.content + '[/INST]' }}
  {%- elif m.tool_calls %}
    {{- '[TOOL_CALLS] [' }}
    {%- for c in m.tool_calls %}
      {%- if c.id | length != 9 %}{{ raise_exception('nine characters') }}{% endif %}
      {{- (c.function | tojson)[:-1] + ', "id": "' + c.id + '"}' + ('' if loop.last else ', ') }}
    {%- endfor %}
    {{- ']' + eos_token }}
  {%- elif m.role == 'assistant' %}
    {{- ' ' + m.content + eos_token }}
  {%- elif m.role == 'tool' %}
    {{- '[TOOL_RESULTS] {"content": ' + m.content | tojson + ', "call_id": "' }}
    {{- m.tool_call_id + '"}[/TOOL_RESULTS]' }}
  {%- else %}
    {{- raise_exception('no ' + m.role + ' turns') }}
  {%- endif %}
{%- endfor %}
"""

# Arguments must come as text.
TEXT_ARGUMENTS = CHATML.replace("c.function.arguments | tojson", "c.function.arguments")

# What stock templates lose without a word.
WITHOUT_TOOLS = CHATML.replace("{%- if tools %}", "{%- if false %}")
WITHOUT_CALLS = CHATML.replace("m.tool_calls or []", "[]")
WITHOUT_RESULTS = CHATML.replace("'tool'", "'function'").replace(
    "m.role == 'user' or not loop.first", "m.role == 'user'"
)
WITHOUT_STOP = CHATML.replace("{{- '<|im_end|>\\n' }}\n  {%- elif", "{{- '\\n' }}\n  {%- elif")
OTHER_CALLS = CHATML.replace('{"name": "', "<function=").replace('", "arguments": ', ">")

_CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
FAMILIES = {
    "chatml": (CHATML, _CHATML_TOKENS, "<|im_end|>", None),
    "thinking": (THINKING, _CHATML_TOKENS, "<|im_end|>", None),
    "newline": (NEWLINE, _CHATML_TOKENS, "<|im_end|>", None),
    "hybrid": (HYBRID, _CHATML_TOKENS, "<|im_end|>", None),
    "opening": (OPENING, _CHATML_TOKENS, "<|im_end|>", None),
    "unended": (
        UNENDED,
        ("<|end|>", *(f"<|{role}|>" for role in ("system", "user", "assistant", "observation"))),
        "<|end|>",
        None,
    ),
    "headers": (
        HEADERS,
        ("<|bos|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        "<|bos|>",
    ),
    "brackets": (
        BRACKETS,
        (
            "<s>",
            "</s>",
            *(f"[{slash}{tag}]" for tag in ("INST", "AVAILABLE_TOOLS") for slash in ("", "/")),
            *("[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
        ),
        "</s>",
        "<s>",
    ),
}
FAMILIES["late_system"] = (LATE_SYSTEM, *FAMILIES["brackets"][1:])
TAGS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
TEXTS = [
    "search the weather in Paris\n\n",
    '{"name": "search", "arguments": {"query": "a"}}',
    "   ",
]


def renderer_of(tokenizer, template="released", samples="per_turn"):
    """The renderer of a tokenizer."""
    return open_renderer(DataConfig(template=template, samples=samples), tokenizer)


def make_tokenizer(family, *, template=None, marks_start=False, tags=TAGS):
    """A small tokenizer with the control tokens of a family and its template, or another one.

    With ``marks_start`` it puts a blank before a text, as LLaMA-2's and Mistral's do.
    """
    source, special, eos, bos = FAMILIES[family]
    core = tokenizers.Tokenizer(models.BPE(unk_token="<unk>" if marks_start else None))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if marks_start:
        core.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
        alphabet = [chr(code) for code in range(32, 127)] + ["\n", "é"]
    else:
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", *special],
        initial_alphabet=sorted(alphabet),
        max_token_length=10,
        show_progress=False,
    )
    core.train_from_iterator([*TEXTS, source.replace("'", '"')], trainer)
    core.add_tokens([tokenizers.AddedToken(tag, normalized=False) for tag in tags])
    names = {"unk_token": "<unk>", "eos_token": eos}
    if bos:
        names["bos_token"] = bos
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))]
        )
    fast = PreTrainedTokenizerFast(tokenizer_object=core, **names)
    fast.chat_template = source if template is None else template
    return from_fast(fast)
