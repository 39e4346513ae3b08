"""Hold what is trained against encoders and masks that were written elsewhere.

mistral-common encodes dialogues itself, and TRL's training templates mark what a model generates.
Both are asked for the same dialogues; what differs is counted and named.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
from collections.abc import Callable
from typing import Any

import jinja2
import template_sources
from template_dialogues import CASES

from tl_jax.calls.call import tool_entry
from tl_jax.data.render.chat_turns import as_turns
from tl_jax.data.render.probe import OWN, open_template
from tl_jax.data.render.renderer import Renderer
from tl_jax.data.render.template_text import with_fixed
from tl_jax.data.tokenize.tokenizer import Tokenizer, from_fast, load_tokenizer

_LEFT_OUT = ("thoughts", "control tokens typed")
"""Dialogues that the others have no form for, or take for control."""
_MISTRAL = {
    "v3": ("tekken_240911.json", False),
    "v3-spm": ("mistral_instruct_tokenizer_240323.model.v3", True),
    "v7-spm": ("mistral_instruct_tokenizer_241114.model.v7", True),
}
_CONVERT = """\
import shutil, sys
source, target, spm = sys.argv[1], sys.argv[2], sys.argv[3] == "spm"
if spm:
    import pathlib
    from transformers import LlamaTokenizer
    pathlib.Path(target).mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target + "/tokenizer.model")
    LlamaTokenizer.from_pretrained(target, legacy=False).save_pretrained(target)
else:
    from transformers.integrations.mistral.tokenizer import convert_tekken_tokenizer
    convert_tekken_tokenizer(source, chat_template="{{ messages }}").save_pretrained(target)
"""
_ENCODE = """\
import json, sys
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.validator import ValidationMode
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
tokenizer = MistralTokenizer.from_file(sys.argv[1], mode=ValidationMode.finetuning)
found = []
for messages, tools in json.load(sys.stdin):
    try:
        request = ChatCompletionRequest.from_openai(messages, tools)
        found.append(tokenizer.encode_chat_completion(request).tokens)
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}"[:200])
json.dump(found, sys.stdout)
"""


def mistral(folder: pathlib.Path) -> dict[str, Any]:
    """Compare token ids with those of mistral-common's own encoder."""
    python = folder / "venv" / "bin" / "python"
    data = folder / "unpacked" / "mistral-common" / "mistral_common" / "data"
    written = template_sources.mistral_templates(folder)
    results = {}
    for version, (name, spm) in _MISTRAL.items():
        target = folder / "tokenizers" / version
        if not (target / "tokenizer.json").exists():
            kind = "spm" if spm else "tekken"
            command = [str(python), "-c", _CONVERT, str(data / name), str(target), kind]
            subprocess.run(command, check=True, capture_output=True)
        tokenizer = load_tokenizer(target)
        tokenizer.fast.chat_template = written[version]
        renderer = Renderer(tokenizer, OWN, "per_turn", open_template(OWN, tokenizer))
        results[version] = _compare(renderer, _asked(python, data / name))
    return results


def _asked(
    python: pathlib.Path, file: pathlib.Path
) -> Callable[[list[Any]], list[list[int] | str]]:
    def encode(dialogues: list[Any]) -> list[list[int] | str]:
        done = subprocess.run(
            [str(python), "-c", _ENCODE, str(file)],
            input=json.dumps(dialogues), capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    return encode


def _compare(
    renderer: Renderer, encode: Callable[[list[Any]], list[list[int] | str]]
) -> dict[str, Any]:
    assert renderer.chat is not None
    cases, ours, dialogues = [], [], []
    for case in CASES:
        if case.name in _LEFT_OUT or case.turns[-1].role != "assistant":
            continue
        try:
            ids = renderer.encode(case.tools, case.turns).ids
        except ValueError:
            continue  # named by the table of templates
        words = [renderer.chat.preamble(m) if m.calls else "" for m in case.turns]
        turns = as_turns(case.turns, renderer.chat.form, words)
        for turn in turns:
            if turn.get("tool_calls") and not turn["content"]:
                turn["content"] = None
        cases.append(case.name)
        ours.append(ids)
        dialogues.append([turns, [tool_entry(tool) for tool in case.tools]])
    differing = {}
    for name, ids, theirs in zip(cases, ours, encode(dialogues), strict=True):
        if isinstance(theirs, str):
            differing[name] = theirs
        elif ids != theirs:
            at = next(
                (i for i, (a, b) in enumerate(zip(ids, theirs, strict=False)) if a != b),
                min(len(ids), len(theirs)),
            )
            pair = (
                renderer.tokenizer.decode(x[at : at + 8], keep_control=True) for x in (ids, theirs)
            )
            differing[name] = " / ".join(map(repr, pair))
    return {"dialogues": len(cases), "equal": len(cases) - len(differing), "differing": differing}


def trl(folder: pathlib.Path, stand_in: Callable[[str], Tokenizer]) -> dict[str, Any]:
    """Compare token ids and masks with TRL's training templates.

    A mask is right if all that is trained is generated by TRL's; what TRL's has more is listed.
    """
    templates = folder / "unpacked" / "trl" / "trl" / "chat_templates"
    results = {}
    for training in sorted(templates.glob("*_training.jinja")):
        plain = training.with_name(training.name.replace("_training", ""))
        if not plain.exists():
            continue
        source, marked = plain.read_text("utf-8"), training.read_text("utf-8")
        tokenizer = stand_in(source + marked)
        tokenizer.fast.chat_template = source
        tokenizer = from_fast(tokenizer.fast)
        try:
            chat = open_template(OWN, tokenizer)
        except ValueError:
            continue  # named by the table of templates
        results[plain.stem] = _masks(Renderer(tokenizer, OWN, "per_turn", chat), marked)
    return results


def _masks(renderer: Renderer, marked: str) -> dict[str, Any]:
    chat = renderer.chat
    assert chat is not None
    found: dict[str, Any] = {"dialogues": 0, "ids equal": 0, "masks right": 0}
    more: dict[str, list[str]] = {"ours": [], "theirs": []}
    for case in CASES:
        if case.name in _LEFT_OUT:
            continue
        try:
            encoded = renderer.encode(case.tools, case.turns)
            words = [chat.preamble(m) if m.calls else "" for m in case.turns]
            theirs = renderer.tokenizer.fast.apply_chat_template(
                as_turns(case.turns, chat.form, words),
                tools=[tool_entry(tool) for tool in case.tools],
                chat_template=with_fixed(marked, chat.fixed), tokenize=True, return_dict=True,
                return_assistant_tokens_mask=True,
            )  # fmt: skip
        except (ValueError, jinja2.TemplateError):
            continue
        found["dialogues"] += 1
        ids, mask = theirs["input_ids"], theirs["assistant_masks"]
        if ids[: len(encoded.ids)] != encoded.ids:
            continue
        found["ids equal"] += 1
        last = encoded.borders[len(case.turns) - 1]
        alone = [i for i in range(*last) if not mask[i]]
        found["masks right"] += not alone
        begin = next((i for i in range(last[0], 0, -1) if not mask[i - 1]), 0)
        beside = [*range(begin, last[0]), *(i for i in range(last[1], len(ids)) if mask[i])]
        for side, places in (("ours", alone), ("theirs", beside)):
            text = renderer.tokenizer.decode([ids[i] for i in places], keep_control=True)
            if text and text not in more[side]:
                more[side].append(text)
    found |= {f"more in {side}": texts for side, texts in more.items()}
    return found
