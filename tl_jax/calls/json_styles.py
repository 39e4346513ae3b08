"""The call styles whose arguments are JSON; see ``styles``."""

from __future__ import annotations

from collections.abc import Mapping

from tl_jax.calls.json_style import JsonForm
from tl_jax.calls.named_style import NamedForm
from tl_jax.calls.style import Style

_ID = frozenset({"id"})
_EITHER = ("parameters",)

JSON_STYLES: Mapping[str, Style] = {
    "hermes": Style(
        (JsonForm(before="<tool_call>\n", after="\n</tool_call>"),),
        marks=("<tool_call", "</tool_call"),
        constrained=True,
    ),
    "llama_json": Style(
        (
            JsonForm(
                optional="<|python_tag|>",
                arguments="parameters",
                ignored=frozenset({"type"}),
                separator="; ",
                lists=False,
            ),
        ),
        marks=("<|python_tag|>",),
        constrained=True,
    ),
    "mistral": Style(
        (
            JsonForm("[TOOL_CALLS]", ignored=_ID, listed=True, objects=False),
            NamedForm(before="[TOOL_CALLS]", middle="[ARGS]", separator=""),
            NamedForm(before="[TOOL_CALLS]", middle="[CALL_ID]{id}[ARGS]", separator=""),
        ),
        marks=("[TOOL_CALLS]",),
        thoughts=("[THINK]", "[/THINK]"),
    ),
    # xLAM-2, Hammer; Phi-4-mini and Llama 4 write objects one after another.
    "json": Style(
        (JsonForm(also=_EITHER, ignored=_ID, listed=True, between=",;"),), constrained=True
    ),
    # Jamba, Apriel; MiniMax M1 writes them on lines of their own.
    "tool_calls": Style(
        (JsonForm("<tool_calls>", "</tool_calls>", ignored=_ID, listed=True),),
        marks=("<tool_calls>", "</tool_calls>"),
        constrained=True,
    ),
    # Nemotron Nano v2.
    "toolcall": Style(
        (JsonForm("<TOOLCALL>", "</TOOLCALL>", listed=True),),
        marks=("<TOOLCALL>", "</TOOLCALL>"),
        constrained=True,
    ),
    # Granite 3.
    "granite": Style(
        (JsonForm("<|tool_call|>", listed=True),), marks=("<|tool_call|>",), constrained=True
    ),
    # Phi-4-mini, as its card has it.
    "phi": Style(
        (JsonForm("<|tool_call|>", "<|/tool_call|>", also=_EITHER, listed=True),),
        marks=("<|tool_call|>", "<|/tool_call|>"),
        constrained=True,
    ),
    # Granite 20B.
    "function_call": Style(
        (JsonForm(before="<function_call> ", also=_EITHER),),
        marks=("<function_call>",),
        constrained=True,
    ),
    # Models that are tuned on data with such tags.
    "function_call_tags": Style(
        (JsonForm(before="<function_call>\n", after="\n</function_call>", also=_EITHER),),
        marks=("<function_call>", "</function_call>"),
        constrained=True,
    ),
    # GigaChat 3.
    "gigachat": Style(
        (JsonForm(before="<|function_call|>"),), marks=("<|function_call|>",), constrained=True
    ),
    # Command R7B, Command A.
    "command": Style(
        (
            JsonForm(
                "<|START_ACTION|>",
                "<|END_ACTION|>",
                name="tool_name",
                arguments="parameters",
                ignored=frozenset({"tool_call_id"}),
                numbered="tool_call_id",
                listed=True,
            ),
        ),
        marks=("<|START_ACTION|>", "<|END_ACTION|>"),
        thoughts=("<|START_THINKING|>", "<|END_THINKING|>"),
    ),
    # Command R.
    "command_r": Style(
        (
            JsonForm(
                "Action: ```json\n", "\n```", name="tool_name", arguments="parameters", listed=True
            ),
        ),
        marks=("Action: ```json",),
    ),
    # Apertus.
    "apertus": Style(
        (
            JsonForm("<|tools_prefix|>", "<|tools_suffix|>", keyed=True, listed=True),
            # The last mark may be what ended the reply.
            JsonForm("<|tools_prefix|>", keyed=True, listed=True),
        ),
        marks=("<|tools_prefix|>", "<|tools_suffix|>"),
        thoughts=("<|inner_prefix|>", "<|inner_suffix|>"),
    ),
    # Firefunction 2.
    "functools": Style((JsonForm("functools", ignored=_ID, listed=True),), marks=("functools[",)),
    # InternLM.
    "internlm": Style(
        (JsonForm(before="<|action_start|><|plugin|>\n", after="<|action_end|>", also=_EITHER),),
        marks=("<|action_start|>", "<|action_end|>"),
        constrained=True,
    ),
}
"""Those whose calls are objects."""

_DEEPSEEK = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
_DEEPSEEK_MARKS = ("<｜tool▁call",)
_COMMENTARY = "<|call|><|start|>assistant<|channel|>commentary "
NAMED_STYLES: Mapping[str, Style] = {
    # DeepSeek V3, R1 and its distills.
    "deepseek_v3": Style(
        (
            NamedForm(
                *_DEEPSEEK,
                before="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
                middle="\n```json\n",
                after="\n```<｜tool▁call▁end｜>",
            ),
            JsonForm(
                *_DEEPSEEK,
                before="<｜tool▁call▁begin｜>",
                after="<｜tool▁call▁end｜>",
                also=_EITHER,
            ),
        ),
        marks=_DEEPSEEK_MARKS,
    ),
    "deepseek_v31": Style(
        (
            NamedForm(
                *_DEEPSEEK,
                before="<｜tool▁call▁begin｜>",
                middle="<｜tool▁sep｜>",
                after="<｜tool▁call▁end｜>",
                separator="",
            ),
        ),
        marks=_DEEPSEEK_MARKS,
    ),
    # Kimi K2.
    "kimi": Style(
        (
            NamedForm(
                "<|tool_calls_section_begin|>",
                "<|tool_calls_section_end|>",
                before="<|tool_call_begin|>functions.",
                middle=":{id}<|tool_call_argument_begin|>",
                after="<|tool_call_end|>",
                separator="",
                names=r"[\w.\-$@/]++",
            ),
        ),
        marks=("<|tool_call",),
        thoughts=("<think>", "</think>"),
    ),
    # Solar Open.
    "solar": Style(
        (
            NamedForm(
                "<|tool_calls|>",
                before="<|tool_call:begin|>{id}<|tool_call:name|>",
                middle="<|tool_call:args|>",
                after="<|tool_call:end|>",
                separator="",
            ),
        ),
        marks=("<|tool_call",),
    ),
    # Harmony, of gpt-oss. The name stands before the channel or after it.
    "harmony": Style(
        tuple(
            NamedForm(
                before="to=functions.",
                middle=middle,
                separator=_COMMENTARY,
            )
            for middle in (
                " <|constrain|>json<|message|>",
                "<|channel|>commentary json<|message|>",
                "<|channel|>commentary <|constrain|>json<|message|>",
                "<|message|>",
            )
        ),
        marks=("to=functions.",),
        thoughts=("<|channel|>analysis", "<|end|>"),
    ),
    "functionary_v31": Style(
        (NamedForm(before="<function=", middle=">", after="</function>", separator=""),),
        marks=("<function=", "</function>"),
    ),
    # The first mark stands in the prompt.
    "functionary_v32": Style((NamedForm(middle="\n", separator=">>>"),)),
}
"""Those whose name stands before the object."""
