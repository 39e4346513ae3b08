"""Open the chat template of a run: find it, fix what it asks for, and try it.

``auto`` takes the model's own template where it passes the trial, else ChatML with tools where the
tokenizer has its tokens, else the text form of the paper.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tl_jax.data.render import paper_template
from tl_jax.data.render.chat_turns import NAMED_CALL_ID, TurnForm
from tl_jax.data.render.chatml_tools import CHATML_TOOLS, NEEDED_TOKENS
from tl_jax.data.render.control_tokens import control_tokens
from tl_jax.data.render.dialogue import LACKS, ChatTemplate
from tl_jax.data.render.template_text import fixed_values, free_names, with_fixed
from tl_jax.data.render.trial import TrialError, tried
from tl_jax.data.tokenize import pretrained
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.errors import DataError

AUTO = "auto"
OWN = "chat"
FALLBACK = "chatml_tools"
TEMPLATES = (OWN, FALLBACK)
"""The tokenizer's own template, and the one of ``chatml_tools.py``."""
SUFFIX = ".jinja"
"""What the name of a template file ends with."""
PAPER = paper_template.STYLES[0]

_THINKING = ("enable_thinking", "thinking")
"""Variables by which templates are asked to open or to leave out thoughts."""
_FORMS = (
    TurnForm(),
    TurnForm(text_arguments=True),
    TurnForm(call_id=NAMED_CALL_ID),
    TurnForm(text_arguments=True, call_id=NAMED_CALL_ID),
    TurnForm(listed_results=True),
)


@dataclasses.dataclass(frozen=True)
class TextForm:
    """The text form that a run takes.

    Attributes:
      name: As ``data.template``, but never ``auto``.
      chat: The chat template; None for those of the paper.
      reason: Why it is this one, in words.
    """

    name: str
    chat: ChatTemplate | None
    reason: str


def choose(
    name: str,
    tokenizer: Tokenizer,
    settings: tuple[str, ...] = (),
    *,
    train_thoughts: bool = False,
) -> TextForm:
    """Return the text form of ``data.template``.

    Args:
      name: As ``data.template``.
      tokenizer: Tokenizer of the model.
      settings: As ``data.template_settings``.
      train_thoughts: As ``data.train_thoughts``.

    Raises:
      DataError: As in ``open_template``; ``auto`` always finds one. Or there are settings, and no
        template that could read them.
    """
    if name in paper_template.STYLES:
        return _paper(name, settings, "as set")
    if name != AUTO:
        chat = open_template(name, tokenizer, settings, train_thoughts=train_thoughts)
        return TextForm(name, chat, f"as set{_without(chat)}")
    problem = "the model has no chat template"
    trained_in = pretrained.text_form(tokenizer.fast)
    if not tokenizer.fast.chat_template and trained_in in paper_template.STYLES:
        return _paper(trained_in, settings, "the form that the model was trained in")
    if tokenizer.fast.chat_template:
        try:
            chat = _opened(OWN, tokenizer, settings, train_thoughts)
            return TextForm(OWN, chat, f"the model's own chat template{_without(chat)}")
        except DataError:
            raise
        except ValueError as error:
            problem = f"the model's own chat template cannot be used: {error}"
    if not _lacking(tokenizer):
        chat = open_template(FALLBACK, tokenizer, settings, train_thoughts=train_thoughts)
        return TextForm(FALLBACK, chat, f"ChatML with tools, as {problem}")
    return _paper(PAPER, settings, f"the form of the paper, as {problem}")


def _paper(name: str, settings: tuple[str, ...], reason: str) -> TextForm:
    if settings:
        raise DataError(
            f"data.template_settings are variables of a chat template, and the text form {name} "
            f"({reason}) has none; leave them out, or choose another data.template"
        )
    return TextForm(name, None, reason)


def _without(chat: ChatTemplate) -> str:
    """Return in words what a template has no place for."""
    lacking = [words for part, words in LACKS.items() if part in chat.lacks]
    return f", which has no place for {' or '.join(lacking)}" if lacking else ""


@functools.lru_cache(maxsize=16)
def open_template(
    name: str,
    tokenizer: Tokenizer,
    settings: tuple[str, ...] = (),
    *,
    train_thoughts: bool = False,
) -> ChatTemplate:
    """Return a chat template that has passed the trial.

    Args:
      name: One of ``TEMPLATES``, or a file that ends with ``SUFFIX``.
      tokenizer: Tokenizer of the model.
      settings: Variables of the template, each ``"name=value"`` with a JSON value.
      train_thoughts: Write the thoughts of turns where the template has a place for them.

    Raises:
      DataError: There is no such template, or it fails; the message says what to choose.
    """
    try:
        return _opened(name, tokenizer, settings, train_thoughts)
    except DataError:  # of the settings, which no other template would mend
        raise
    except ValueError as error:
        raise DataError(
            f"data.template={name!r} cannot be used: {error}; {_advice(name, tokenizer)}"
        ) from error


def _opened(
    name: str, tokenizer: Tokenizer, settings: tuple[str, ...], train_thoughts: bool
) -> ChatTemplate:
    """Return a template in the first form that passes; else raise why the best one failed."""
    given = _source(name, tokenizer)
    wanted = read_settings(settings)
    unread = sorted(wanted.keys() - free_names(given))
    if unread:
        raise DataError(
            f"data.template_settings: the template reads no variable {', '.join(unread)}; it reads "
            f"{', '.join(sorted(free_names(given) - _OURS)) or 'none'}"
        )
    best: TrialError | None = None
    kept: ChatTemplate | None = None
    for form, fixed in _attempts(given, wanted, train_thoughts):
        source = with_fixed(given, fixed)
        control = control_tokens(tokenizer.added_tokens, source)
        fixed = fixed_values(given, fixed)
        template = ChatTemplate(name, source, given, tokenizer, control, fixed, form)
        try:
            found = tried(template, train_thoughts=train_thoughts)
        except TrialError as error:
            if best is None or error.steps > best.steps:
                best = error
            continue
        if found.form.thoughts or not train_thoughts:
            return found
        kept = kept or found
    if kept is not None:
        return kept
    assert best is not None
    raise best


_OURS = frozenset(
    ("messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now")
    + ("bos_token", "eos_token", "pad_token", "unk_token", "namespace", "range", "dict", "loop")
)
"""Names that are no settings."""


def _attempts(
    source: str, wanted: dict[str, Any], train_thoughts: bool
) -> Iterator[tuple[TurnForm, dict[str, Any]]]:
    """Yield the forms and settings to try, the usual ones first."""
    asked = [name for name in _THINKING if name in free_names(source) and name not in wanted]
    switched = {**dict.fromkeys(asked, train_thoughts), **wanted}
    # Without thoughts some templates write that there are none as part of the prompt.
    variants = [wanted, switched] if train_thoughts else [switched, wanted]
    yield from itertools.product(_FORMS, variants if asked else variants[:1])


def read_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Return ``data.template_settings`` by name.

    Raises:
      DataError: One of them is not ``name=value`` with a JSON value.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        try:
            if not (equals and name.isidentifier()):
                raise ValueError("no name")
            found[name] = json.loads(value)
        except ValueError:
            raise DataError(
                f"data.template_settings: {setting!r} is not name=value with a JSON value, such as "
                'enable_thinking=false or date_string="1 May 2025"'
            ) from None
    return found


def _source(name: str, tokenizer: Tokenizer) -> str:
    if name == FALLBACK:
        if lacking := _lacking(tokenizer):
            raise ValueError(
                f"it needs the tokens {', '.join(lacking)}, which this tokenizer does not have"
            )
        begin = "{{- bos_token }}" if tokenizer.bos_id is not None else ""
        return begin + CHATML_TOOLS
    if name.endswith(SUFFIX):
        try:
            return Path(name).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise ValueError(f"the file cannot be read ({error})") from error
    if name != OWN:
        raise ValueError(
            f"unknown chat template {name!r}; known: {', '.join(TEMPLATES)}, FILE{SUFFIX}"
        )
    source = _own_source(tokenizer)
    if not source:
        raise ValueError("this tokenizer has no chat template")
    return source


def _own_source(tokenizer: Tokenizer) -> str:
    """Return the tokenizer's own chat template for tools; empty if it has none.

    Raises:
      ValueError: It has several, and none for tools or by default.
    """
    return tokenizer.fast.get_chat_template(tools=[{}]) if tokenizer.fast.chat_template else ""


def _lacking(tokenizer: Tokenizer) -> list[str]:
    """Return the tokens of ChatML that the tokenizer does not have."""
    return [token for token in NEEDED_TOKENS if token not in tokenizer.added_tokens]


def _advice(name: str, tokenizer: Tokenizer) -> str:
    """Return what to choose instead, of which all will work with this tokenizer."""
    fallback = [] if name == FALLBACK or _lacking(tokenizer) else [FALLBACK]
    choices = " or ".join(map(repr, [*fallback, *paper_template.STYLES]))
    return f"choose data.template={choices}, or give a template of yours as FILE{SUFFIX}"
