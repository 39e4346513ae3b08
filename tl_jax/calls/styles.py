"""The call styles, each one entry: how it is read, written, found in a text and constrained.

A new style whose calls are JSON, or have their arguments in tags, is an entry here; any other is a
form of its own, with what ``style.Form`` asks for, and an entry.

Source: the chat templates of the families that are named, and what serving engines read for them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tl_jax.calls.brace_style import BraceForm
from tl_jax.calls.json_style import JsonForm
from tl_jax.calls.named_style import NamedForm
from tl_jax.calls.python_form import PythonForm
from tl_jax.calls.style import Style
from tl_jax.calls.tagged_style import TaggedForm

_ID = frozenset({"id"})
_EITHER = ("parameters",)

_JSON = {
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
    # Granite 20B.
    "function_call": Style(
        (JsonForm(before="<function_call> ", also=_EITHER),),
        marks=("<function_call>",),
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

_DEEPSEEK = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
_DEEPSEEK_MARKS = ("<｜tool▁call",)
_COMMENTARY = "<|call|><|start|>assistant<|channel|>commentary "
_NAMED = {
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


_KINDS = ("string", "boolean", "number", "null", "array", "object")


def _function(before: str, after: str, inside: str) -> TaggedForm:
    """Return the form with ``<function=name>`` and ``<parameter=name>``, blanks inside."""
    return TaggedForm(
        before=before + "<function=",
        middle=">\n",
        key_before="<parameter=",
        key_after=">" + inside,
        value_after=inside + "</parameter>\n",
        after="</function>" + after,
    )


def _argument_keys(suffix: str, middle: str, opening: str = "", closing: str = "") -> TaggedForm:
    """Return the form with ``<arg_key>`` and ``<arg_value>``, all tags ending in ``suffix``."""
    return TaggedForm(
        opening,
        closing,
        before=f"<tool_call{suffix}>",
        middle=middle,
        key_before=f"<arg_key{suffix}>",
        key_after=f"</arg_key{suffix}>\n<arg_value{suffix}>",
        value_after=f"</arg_value{suffix}>\n",
        after=f"</tool_call{suffix}>",
    )


def _invoke(opening: str, closing: str, space: str = "", kind: str = "") -> TaggedForm:
    """Return the form with ``<invoke name="...">`` and ``<parameter name="...">``.

    Args:
      opening, closing: Around all calls.
      space: What stands in every tag before its name.
      kind: The attribute that tells strings from other values.
    """
    return TaggedForm(
        opening,
        closing,
        before=f'<{space}invoke name="',
        middle='">\n',
        key_before=f'<{space}parameter name="',
        key_after=f'" {kind}="' if kind else '">',
        kinds=tuple((k, str(k == "string").lower()) for k in _KINDS) if kind else (),
        kind_after='">' if kind else "",
        value_after=f"</{space}parameter>\n",
        after=f"</{space}invoke>",
    )


_DSML = "｜DSML｜"
_TEXT = {
    # Qwen3-Coder, Qwen3.5 and later, Nemotron 3, Step 3.5.
    "qwen_xml": Style(
        (_function("<tool_call>\n", "\n</tool_call>", "\n"),),
        marks=("<function=", "<parameter="),
    ),
    # Seed-OSS.
    "seed": Style(
        (_function("<seed:tool_call>\n", "\n</seed:tool_call>", ""),),
        marks=("<seed:tool_call", "</seed:tool_call"),
        thoughts=("<seed:think>", "</seed:think>"),
    ),
    # GLM 4.5 and later, Ling 3, Laguna, Spark 2.5.
    "glm": Style((_argument_keys("", "\n"),), marks=("<arg_key>", "<arg_value>")),
    # Hy3.
    "hunyuan": Style(
        (
            _argument_keys(
                ":opensource",
                "<tool_sep:opensource>\n",
                "<tool_calls:opensource>\n",
                "\n</tool_calls:opensource>",
            ),
        ),
        marks=("<tool_call:opensource", "<tool_calls:opensource"),
        thoughts=("<think:opensource>", "</think:opensource>"),
    ),
    # MiniMax M2.
    "minimax": Style(
        (_invoke("<minimax:tool_call>\n", "\n</minimax:tool_call>"),),
        marks=("<minimax:tool_call", "</minimax:tool_call", "<invoke name="),
    ),
    # Muse, whose calls are messages of their own.
    "atem": Style(
        (
            dataclasses.replace(
                _invoke("", "", "atem:"),
                before='<atem:function_calls>\n<atem:invoke name="',
                after="</atem:invoke>\n</atem:function_calls>",
                separator="<|eom|><|start|>assistant to={id}<|message|>",
            ),
        ),
        marks=("<atem:", "</atem:"),
    ),
    # DeepSeek V3.2; V4 has another name for the outer tag.
    "dsml": Style(
        tuple(
            _invoke(f"<{_DSML}{tag}>\n", f"\n</{_DSML}{tag}>", _DSML, "string")
            for tag in ("function_calls", "tool_calls")
        ),
        marks=(f"<{_DSML}", f"</{_DSML}"),
    ),
    # MiniCPM 5.
    "minicpm": Style(
        (
            TaggedForm(
                before='<function name="',
                middle='">',
                key_before='<param name="',
                key_after='">',
                value_after="</param>",
                after="</function>",
            ),
        ),
        marks=("<function name=", "<param name="),
    ),
    # Kimi K3.
    "kimi_k3": Style(
        (
            TaggedForm(
                "<|open|>tools<|sep|>",
                "<|close|>tools<|sep|>",
                before='<|open|>call tool="',
                middle='" index="{id}"<|sep|>',
                key_before='<|open|>argument key="',
                key_after='" type="',
                kinds=tuple(
                    (k, k) for k in ("string", "boolean", "number", "null", "array", "object")
                ),
                kind_after='"<|sep|>',
                value_after="<|close|>argument<|sep|>",
                after="<|close|>call<|sep|>",
                separator="",
            ),
        ),
        marks=("<|open|>tools", "<|open|>call"),
        thoughts=("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    ),
    # Gemma 4.
    "gemma": Style(
        (BraceForm(before="<|tool_call>call:", after="<tool_call|>", separator="", quote='<|"|>'),),
        marks=("<|tool_call>", "<tool_call|>"),
        thoughts=("<|channel>thought", "<channel|>"),
    ),
    # FunctionGemma.
    "function_gemma": Style(
        (
            BraceForm(
                before="<start_function_call>call:",
                after="<end_function_call>",
                separator="",
                quote="<escape>",
                quoted=True,
            ),
        ),
        marks=("<start_function_call>", "<end_function_call>"),
    ),
}

_PYTHON = {
    # LFM 2.
    "lfm": Style(
        (
            PythonForm(
                "<|tool_call_start|>", "<|tool_call_end|>", equals="=", listed=True, bare=True
            ),
        ),
        marks=("<|tool_call_start|>", "<|tool_call_end|>"),
    ),
    # Olmo 3.
    "olmo": Style(
        (PythonForm("<function_calls>\n", "\n</function_calls>", equals="="),),
        marks=("<function_calls>", "</function_calls>"),
    ),
    # Llama 4, ToolACE.
    "pythonic": Style((PythonForm(equals="=", listed=True, bare=True),)),
}

STYLES: Mapping[str, Style] = {
    "python": Style((PythonForm(),), constrained=True),
    **_JSON,
    **_NAMED,
    **_TEXT,
    **_PYTHON,
}
"""Call styles by name; where a text can be read in several, the first is meant."""
