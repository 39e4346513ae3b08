"""A chat template for models whose own one drops tools: ChatML turns with Hermes-style calls.

The tools stand as JSON in the system turn, calls between ``<tool_call>`` tags in the assistant's
turn, results between ``<tool_response>`` tags in a user turn, as in the Hermes and Qwen2.5 models.
"""

NEEDED_TOKENS = ("<|im_start|>", "<|im_end|>")
"""Control tokens without which the turns have no borders."""

CHATML_TOOLS = """\
{%- set leading = messages and messages[0].role == "system" %}
{%- if tools or leading %}
    {{- "<|im_start|>system\\n" }}
    {%- if leading %}
        {{- messages[0].content }}
    {%- endif %}
    {%- if tools %}
        {{- "\\n\\n" if leading else "" }}
        {{- "You can call these functions, given as JSON schemas:\\n<tools>" }}
        {%- for tool in tools %}
            {{- "\\n" + (tool | tojson) }}
        {%- endfor %}
        {{- "\\n</tools>\\n\\nWrite each call as a JSON object between tags:\\n" }}
        {{- '<tool_call>\\n{"name": "...", "arguments": {...}}\\n</tool_call>' }}
    {%- endif %}
    {{- "<|im_end|>\\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "tool" %}
        {%- if loop.first or loop.previtem.role != "tool" %}
            {{- "<|im_start|>user" }}
        {%- endif %}
        {{- "\\n<tool_response>\\n" + message.content + "\\n</tool_response>" }}
        {%- if loop.last or loop.nextitem.role != "tool" %}
            {{- "<|im_end|>\\n" }}
        {%- endif %}
    {%- elif not (leading and loop.first) %}
        {{- "<|im_start|>" + message.role + "\\n" + (message.content or "") }}
        {%- for call in message.tool_calls or [] %}
            {{- "\\n" if message.content or not loop.first else "" }}
            {{- '<tool_call>\\n{"name": ' + (call.function.name | tojson) }}
            {%- set arguments = call.function.arguments %}
            {{- ', "arguments": ' + (arguments if arguments is string else arguments | tojson) }}
            {{- "}\\n</tool_call>" }}
        {%- endfor %}
        {{- "<|im_end|>\\n" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\\n" }}
{%- endif %}
"""
