"""The call styles whose arguments are not JSON; see ``styles``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tl_jax.calls.brace_style import BraceForm
from tl_jax.calls.python_form import PythonForm
from tl_jax.calls.style import Style
from tl_jax.calls.tagged_style import TaggedForm

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
_KIMI_K3 = TaggedForm(
    "<|open|>tools<|sep|>",
    "<|close|>tools<|sep|>",
    before='<|open|>call tool="',
    middle='" index="{id}"<|sep|>',
    key_before='<|open|>argument key="',
    key_after='" type="',
    kinds=tuple((kind, kind) for kind in _KINDS),
    kind_after='"<|sep|>',
    value_after="<|close|>argument<|sep|>",
    after="<|close|>call<|sep|>",
    separator="",
)
TEXT_STYLES: Mapping[str, Style] = {
    # Qwen3-Coder, Qwen3.5 and later, Nemotron 3, Step 3.5.
    "qwen_xml": Style(
        (_function("<tool_call>\n", "\n</tool_call>", "\n"),),
        marks=("<function=", "<parameter="),
    ),
    # OpenHands and SWE-agent where a model has no calls of its own; Qwen3-Coder, now and then.
    "function_xml": Style(
        (_function("", "", "\n"),), marks=("<function=", "</function>", "<parameter=")
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
    # Claude's, where its calls stand in a text.
    "invoke": Style(
        (_invoke("<function_calls>\n", "\n</function_calls>"),),
        marks=("<function_calls>", "</function_calls>", "<invoke name="),
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
    # Kimi K3; its template ends the message, too.
    "kimi_k3": Style(
        (
            _KIMI_K3,
            dataclasses.replace(_KIMI_K3, closing=f"{_KIMI_K3.closing}<|close|>message<|sep|>"),
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
"""Those whose arguments stand in tags or braces."""

PYTHON_IN_TAGS: Mapping[str, Style] = {
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
"""Those with Python calls in tags or brackets."""
