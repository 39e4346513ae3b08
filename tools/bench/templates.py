"""Open every public chat template that knows tools, and train 20 dialogues with each.

    python tools/bench/templates.py [--material=FOLDER] [--only=WORD] [--out=FILE]

Fetches the packages of ``template_sources.py`` into FOLDER (by default a temporary one; about 200
MB) and takes a few minutes. Templates get a byte-level stand-in for their tokenizer that has the
control tokens they write. A dialogue is right if every assistant turn in it can be trained: its
calls are read back, the spans of names and arguments hold them, its last token ends a reply, and
the ids of the prompt that an engine would send are those before it.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import re
import tempfile
from typing import Any

import jinja2
import template_oracles
import template_sources
import tokenizers
from template_dialogues import CASES, Case
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from tl_jax.calls.call_text import CallSpan
from tl_jax.data.render.probe import OWN, open_template
from tl_jax.data.render.renderer import Renderer
from tl_jax.data.tokenize.tokenizer import Tokenizer, from_fast
from tl_jax.errors import DataError

RESULTS = pathlib.Path(__file__).parent / "results" / "templates.json"
_CONTROL = re.compile(
    r"""<\|[^<>|\s{}]{1,40}\|>|<｜[^<>｜{}]{1,40}｜>|<\|[a-z_"]{1,20}\|?>|<[a-z_]{1,20}\|>"""
    r"""|\[/?[A-Z_]{3,30}\]|</?s>|\[e~\[|\]~!?b\[|\]<\]minimax\[>\[|\[gMASK\]|<sop>|<sep>"""
    r"""|<SPECIAL_\d+>|</?(?:role|assistant|user|system)>|</?seed:[a-z_]+>|<[a-z]+_of_[a-z]+>"""
    r"""|</?escape>|<(?:start|end)_function_[a-z]+>|<(?:bos|eos)>|<｜hy_[A-Za-z]+:opensource｜>"""
)
_TAGS = re.compile(r"</?(?:tool_call|tool_response|think|arg_key|arg_value|minimax:tool_call)>")
_EOS = (
    *("<|im_end|>", "<|eot_id|>", "<｜end▁of▁sentence｜>", "</s>", "<|end|>", "<|end_of_text|>"),
    *(
        "<seed:eos>",
        "<eos>",
        "<|end_of_msg|>",
        "<|endoftext|>",
        "<|END_OF_TURN_TOKEN|>",
        "<|return|>",
        "[e~[",
    ),
)


def main() -> None:
    """Try all templates and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--material", type=pathlib.Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.material or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        template_sources.fetch(folder)
        found = template_sources.templates(folder)
        oracles = (
            {}
            if arguments.only
            else {
                "token ids against mistral-common": template_oracles.mistral(folder),
                "masks against TRL": template_oracles.trl(folder, stand_in),
            }
        )
    rows = [
        {"template": places[0], "copies": len(places), **tried(text)}
        for text, places in found.items()
        if arguments.only in places[0]
    ]
    report = {"packages": template_sources.PACKAGES, "counts": counts(rows), **oracles}
    report["templates"] = rows
    arguments.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps({k: v for k, v in report.items() if k != "templates"}, indent=1))
    for row in rows:
        if row.get("refused") or row["wrong"]:
            print(row["template"], row.get("style"), row.get("refused") or row["wrong"], sep=" | ")


def counts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many templates came how far, and why the others did not."""
    reasons = collections.Counter(
        re.split(r"[:;(]", row["refused"])[0].strip() for row in rows if row.get("refused")
    )
    accepted = [row for row in rows if not row.get("refused")]
    return {
        "templates": len(rows),
        "accepted": len(accepted),
        "all dialogues right": sum(not row["wrong"] for row in accepted),
        "refused": dict(reasons.most_common()),
        "styles": dict(collections.Counter(row["style"] for row in accepted).most_common()),
    }


def tried(source: str) -> dict[str, Any]:
    """Return what came of one template."""
    tokenizer = stand_in(source)
    try:
        chat = open_template(OWN, tokenizer)
    except DataError as error:
        reason = str(error).removeprefix(f"data.template={OWN!r} cannot be used: ")
        return {"refused": reason.partition("; choose data.template")[0][:300], "wrong": {}}
    renderer = Renderer(tokenizer, OWN, "per_turn", chat)
    wrong = {}
    for case in CASES:
        problem = problem_of(renderer, case)
        if problem:
            wrong[case.name] = problem[:200]
    return {"style": chat.call_style, "lacks": dict(chat.lacks), "wrong": wrong}


def problem_of(renderer: Renderer, case: Case) -> str:
    """Return what is wrong with a dialogue; empty if nothing is."""
    for index, turn in enumerate(case.turns):
        if turn.role != "assistant":
            continue
        try:
            encoded = renderer.encode(case.tools, case.turns[: index + 1])
            prompt = renderer.prompt_ids(case.tools, case.turns[:index])
        except ValueError as error:
            return f"turn {index}: {error}"
        reply = encoded.rendered.replies[-1]
        text = encoded.rendered.text[reply.start : reply.stop]
        if encoded.ids[: len(prompt)] != prompt:
            return f"turn {index}: the prompt is another one"
        if encoded.ids[-1] not in renderer.stop_ids:
            return f"turn {index}: the last token ends nothing"
        if turn.calls:
            if renderer.parse(text, case.tools) != turn.calls:
                return f"turn {index}: the calls are read as {renderer.parse(text, case.tools)}"
            for call, span in zip(turn.calls, reply.calls, strict=True):
                problem = wrong_span(encoded.rendered.text, span, call.name, dict(call.arguments))
                if problem:
                    return f"turn {index}: {problem}"
        elif turn.content not in text:
            return f"turn {index}: the words are rewritten"
    return ""


def wrong_span(text: str, span: CallSpan, name: str, arguments: dict[str, Any]) -> str:
    """Return which part of a call does not stand where its span says; empty if all do."""
    if text[slice(*span.name)] != name:
        return f"the name is {text[slice(*span.name)]!r}"
    for (key, value), (key_span, value_span) in zip(arguments.items(), span.arguments, strict=True):
        written = text[slice(*value_span)]
        forms = {json.dumps(value), json.dumps(value, ensure_ascii=False), str(value), repr(value)}
        loose = isinstance(value, (dict, list)) and written[:1] in "[{"
        if text[slice(*key_span)] != key:
            return f"the argument {key} is {text[slice(*key_span)]!r}"
        if written not in forms and not loose:
            return f"the value of {key} is {written!r}"
    return ""


def stand_in(source: str) -> Tokenizer:
    """Return a byte-level tokenizer with the control tokens of a template."""
    core = tokenizers.Tokenizer(
        models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    text = source.replace("\\n", "\n") + _written(source)
    control = dict.fromkeys(_CONTROL.findall(text))
    eos = next((token for token in _EOS if token in control), "<|endoftext|>")
    core.add_special_tokens([*control, eos, "<|bos|>"])
    core.add_tokens(list(dict.fromkeys(_TAGS.findall(text))))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<|bos|>", eos_token=eos, chat_template=source,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    return from_fast(fast)


def _written(source: str) -> str:
    """Return what a template writes, as some put the names of their tokens together."""
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Hello"},
    ]
    names: dict[str, Any] = {"bos_token": "<|bos|>", "eos_token": "<|endoftext|>"}
    try:
        return render_jinja_template(
            [turns], chat_template=source, add_generation_prompt=True, **names
        )[0][0]
    except (
        jinja2.TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ):
        # Its trial says what it does not take.
        return ""


if __name__ == "__main__":
    main()
