"""Judge one tool feedback: did the call before it fail, and in which way?

Three outcomes are told apart: the call failed (a bad call, or the service was down), the call was
sound but nothing was found, and all is right. The rules are in ``feedback_rules.py``.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from tl_jax.data.mae import feedback_rules as rules
from tl_jax.data.mae.feedback_rules import REFERENCE_PHRASES

__all__ = ["MODES", "REFERENCE_PHRASES", "FeedbackStatus", "classify_feedback", "error_category"]

MODES = ("reference", "structured")


@dataclasses.dataclass(frozen=True)
class FeedbackStatus:
    """Verdict on one feedback.

    Attributes:
      is_error: Whether the call failed.
      reason: The rule that decided, for reports.
      category: ``format_error``, ``tool_hallucination``, ``parameter_hallucination``,
        ``parameter_missing``, ``content_filling`` (a bad value, or a thing named that is not
        there), ``service`` (the tool or network, not the call), ``nothing_found`` (a sound call
        without a result), ``all_right``, or ``unknown`` (an error that does not say which).
    """

    is_error: bool
    reason: str
    category: str


_OK = FeedbackStatus(False, "no sign of an error", "all_right")
_EMPTY_SEARCH = "error of an empty search"
_DEPTH = 3  # documents inside documents that are still opened
_LITERAL_LIMIT = 20_000  # characters of a Python literal that are still parsed

_DELETED = re.compile("[^\u4e00-\u9fa5A-Za-z0-9^]")
_NOT_LETTERS = re.compile(r"[^a-z]")


def _reduced(text: str) -> str:
    return _DELETED.sub("", text).lower()


_REDUCED = tuple((phrase, _reduced(phrase)) for phrase in REFERENCE_PHRASES)


def classify_feedback(text: str, *, mode: str, tool: str = "") -> FeedbackStatus:
    """Judge the text of one tool feedback.

    Args:
      text: The feedback.
      mode: ``"reference"``, the substring rule of the published script (fires on any text that
        holds the letters e-r-r-o-r), or ``"structured"``: filled error keys, status fields, HTTP
        codes, exception names, and phrases with word boundaries.
      tool: Name of the called tool, if known. An error "X not found" is an empty result for a
        tool that searches (``find_user``) and a wrong value for any other (``cancel_order``).

    Source: code/mae/mae.py of the TL-Training release for ``reference``.

    Example:
      >>> import tl_jax as tl
      >>> found = tl.classify_feedback('{"error": "unknown city"}', mode="structured")
      >>> found.is_error
      True
      >>> tl.classify_feedback("No errors found.", mode="structured").is_error
      False
    """
    if mode == "reference":
        reduced = _reduced(text)
        for phrase, needle in _REDUCED:
            if needle in reduced:
                return FeedbackStatus(True, phrase, _category(text, 0))
        return _OK
    if mode != "structured":
        raise ValueError(f"unknown feedback mode {mode!r}; known: {', '.join(MODES)}")
    return _judge(text, tool, 0)


def error_category(text: str, tool: str = "") -> str:
    """Return the category of a feedback whose source counts it as an error.

    It is ``nothing_found`` where the text is an error that only says so ("ValueError: No files
    found"). Where a plain empty result is counted as an error the source knows more than the text:
    the call asked for what is not there.
    """
    found = classify_feedback(text, mode="structured", tool=tool)
    if found.is_error or found.reason == _EMPTY_SEARCH:
        return found.category
    if found.category == "nothing_found":
        return "content_filling"
    return _category(text[: rules.HEAD], 0)


def _judge(text: str, tool: str, depth: int) -> FeedbackStatus:
    text = text.strip()
    if text.startswith(rules.MCP_REPR[0]) and (flag := rules.MCP_FLAG.search(text[-40:])):
        content = text.partition(rules.MCP_REPR[1])[2].rpartition(rules.MCP_REPR[2])[0]
        inner = _literal(content) if len(content) <= _LITERAL_LIMIT else content
        return _judge_mcp(inner, flag["error"] == "True", tool, depth)
    document = _document(text)
    if document is None:
        return _judge_text(text, tool)
    return _judge_document(document, tool, depth)


def _judge_mcp(text: Any, failed: bool, tool: str, depth: int) -> FeedbackStatus:
    """Judge a Model Context Protocol result by its flag and, where that says nothing, its text."""
    text = text if isinstance(text, str) else ""
    if failed or rules.MCP_ERROR.search(text[-80:]):
        return FeedbackStatus(True, "isError is true", _category(text, 0))
    return _judge(text, tool, depth + 1) if depth < _DEPTH else _OK


def _category(text: str, http: int) -> str:
    head = rules.URL.sub("", text[: 4 * rules.HEAD])
    for category, pattern in rules.CATEGORY_RULES:
        if pattern.search(head):
            return category
    if http:
        return "service" if http in (401, 403, 407, 408, 429) or http >= 500 else "content_filling"
    return "unknown"


def _document(text: str) -> Any:
    if text[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    # The str() of a Python dict or list, which many tools return; one that was cut off is no
    # literal, and a list of rows is a result whatever is in it.
    opening = text[:8].replace(" ", "")
    if opening.startswith(("[(", "[[(")) and text[-1] == "]":
        return [(), ()]
    if len(text) <= _LITERAL_LIMIT and text[-1] in "}]":
        return _literal(text)
    return None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _judge_text(text: str, tool: str) -> FeedbackStatus:
    head = text[: rules.HEAD]
    if match := rules.HTTP.search(head):
        http = int(next(group for group in match.groups() if group))
        return FeedbackStatus(True, f"http {http}", _category(head, http))
    for name, pattern in rules.EXCEPTION_RULES:
        if pattern.search(head):
            if head.startswith("'"):
                return FeedbackStatus(True, name, "service")
            return _error_or_nothing(name, head, 0, tool)
    if head[:1] in ("{", "["):
        if rules.CUT_ERROR_KEY.search(head[:200]):
            return _error_or_nothing("error key", head, 0, tool)
        return _OK
    last = text[-rules.HEAD :].rsplit("\n", 1)[-1]
    if rules.PROGRAM_MESSAGE.search(last):
        return FeedbackStatus(True, "message of a program", _category(head, 0))
    if len(text) > rules.HEAD:
        head = head.split("\n", 1)[0][:120]
    for name, pattern in rules.PHRASE_RULES:
        if match := pattern.search(head):
            reason = f'{name} "{" ".join(match[0].split()).lower()}"'
            return _error_or_nothing(reason, head, 0, tool)
    if rules.NO_RESULTS.search(head) or rules.NOT_FOUND.search(head):
        if rules.NOT_A_SEARCH.search(head):
            return FeedbackStatus(True, "phrase", _category(head, 0))
        return FeedbackStatus(False, "nothing found", "nothing_found")
    if head.lower() in ("none", "null"):
        return FeedbackStatus(False, "empty value", "nothing_found")
    return _OK


def _judge_document(document: Any, tool: str, depth: int) -> FeedbackStatus:
    if isinstance(document, list):
        if not document:
            return FeedbackStatus(False, "empty list", "nothing_found")
        if len(document) == 1 and isinstance(document[0], Mapping):
            return _judge_document(document[0], tool, depth)
        return _OK
    if not isinstance(document, Mapping):
        return _OK
    if not document:
        return FeedbackStatus(False, "empty document", "nothing_found")
    fields = {_NOT_LETTERS.sub("", str(key).lower()): (key, v) for key, v in document.items()}
    if any(_is_yes(fields[name][1]) for name in rules.FLAG_KEYS & fields.keys()):
        return _judge_mcp(_words(document), True, tool, depth)
    message = _words(
        [
            value
            for name, (_, value) in fields.items()
            if name in rules.ERROR_KEYS | rules.MESSAGE_KEYS | rules.TITLE_KEYS
        ]
    )
    code = (c for n, (_, v) in fields.items() if n in rules.CODE_KEYS and (c := _http_code(v)))
    http = next(code, 0)
    for name, (key, value) in fields.items():
        if name in rules.ERROR_KEYS and not _is_empty(value):
            code = http or _http_code(value)
            return _error_or_nothing(f"error key {key!r}", message, code, tool)
    for name, (key, value) in fields.items():
        if name in rules.CODE_KEYS and _http_code(value):
            if name not in rules.VAGUE_CODE_KEYS or _is_report(fields):
                return _error_or_nothing(f"http {http}", message, http, tool)
        if name in ("status", "state", "result") and _is_bad_status(name, value, fields):
            return _error_or_nothing(f"field {key!r} is {value!r}", message, 0, tool)
        if name in ("success", "ok", "succeeded") and (value is False or value == "false"):
            return _error_or_nothing(f"field {key!r} is false", message, 0, tool)
    if ended := _exit_code(fields):
        text = message or _words([v for n, (_, v) in fields.items() if n in rules.OUTPUT_KEYS])
        return FeedbackStatus(True, f"exit code {ended}", _category(text, 0))
    inner = _inside(fields, tool, depth)
    if inner.is_error:
        return inner
    # A document that says nothing but a message is judged by the message.
    told = _words([v for n, (_, v) in fields.items() if n in rules.MESSAGE_KEYS])
    if told and len(fields) <= 4:
        known = rules.MESSAGE_KEYS | rules.TITLE_KEYS | rules.CODE_KEYS
        if fields.keys() <= known | {"type", "documentationurl", "success"}:
            return _judge_text(told, tool)
        plain = _words([v for n, (_, v) in fields.items() if n in rules.PLAIN_MESSAGE_KEYS])
        if plain and all(isinstance(v, (str, int, float)) for _, v in fields.values()):
            found = _judge_text(plain, tool)
            if found is not _OK:
                return found
    return _declined(fields) or _empty(fields) or inner


def _is_yes(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _exit_code(fields: Mapping[str, tuple[Any, Any]]) -> int:
    """Return with what other code than 0 a program ended, or 0."""
    inner = fields.get("metadata", ("", None))[1]
    found = {n: v for n, (_, v) in fields.items()}
    if isinstance(inner, Mapping):
        found |= {_NOT_LETTERS.sub("", str(key).lower()): value for key, value in inner.items()}
    for name in rules.EXIT_KEYS & found.keys():
        value = found[name]
        if isinstance(value, str) and value.lstrip("-").isdecimal():
            value = int(value[:9])
        if isinstance(value, int) and not isinstance(value, bool) and value:
            return value
    return 0


def _is_report(fields: Mapping[str, tuple[Any, Any]]) -> bool:
    """Whether a document tells how the call went; it may hold nothing else, or has a message."""
    return any(n in rules.PLAIN_MESSAGE_KEYS and v for n, (_, v) in fields.items()) or all(
        n in rules.REPORT_KEYS or _is_empty(v) for n, (_, v) in fields.items()
    )


def _is_bad_status(name: str, value: Any, fields: Mapping[str, tuple[Any, Any]]) -> bool:
    word = value.lower() if isinstance(value, str) else ""
    if word in rules.BAD_STATUS or (name, word) == ("status", "fail"):
        return True
    return word in rules.VAGUE_STATUS and all(
        n in rules.REPORT_KEYS or _is_empty(v) for n, (_, v) in fields.items()
    )


def _inside(fields: Mapping[str, tuple[Any, Any]], tool: str, depth: int) -> FeedbackStatus:
    """Judge the documents that a document wraps."""
    if depth >= _DEPTH:
        return _OK
    for name, (_, value) in fields.items():
        if name == "content" and isinstance(value, list):
            texts = [v["text"] for v in value if isinstance(v, Mapping) and "text" in v]
            if len(texts) == 1 and isinstance(texts[0], str):
                return _judge(texts[0], tool, depth + 1)
        if name not in rules.WRAPPER_KEYS:
            continue
        if isinstance(value, str) and value[:1] in ("{", "["):
            value = _document(value.strip())
        if isinstance(value, Mapping):
            inner = _judge_document(value, tool, depth + 1)
            if inner.is_error:
                return inner
            if {"jsonrpc", "meta", "isError"} & fields.keys():
                return inner
    return _OK


def _declined(fields: Mapping[str, tuple[Any, Any]]) -> FeedbackStatus | None:
    for name, (key, value) in fields.items():
        short = isinstance(value, str) and len(value) < rules.HEAD
        if short and name.endswith(("status", "message")) and rules.DECLINED.search(value):
            return FeedbackStatus(False, f"field {key!r} says no", "nothing_found")
    return None


def _empty(fields: Mapping[str, tuple[Any, Any]]) -> FeedbackStatus | None:
    containers = [value for name, (_, value) in fields.items() if name in rules.CONTAINER_KEYS]
    lists = [value for value in containers if isinstance(value, (list, dict))]
    if lists and not any(containers):
        return FeedbackStatus(False, "empty result", "nothing_found")
    counts = [value for name, (_, value) in fields.items() if name in rules.COUNT_KEYS]
    if 0 in [c for c in counts if not isinstance(c, bool)] and not any(containers):
        return FeedbackStatus(False, "count of results is 0", "nothing_found")
    return None


def _error_or_nothing(reason: str, message: str, http: int, tool: str) -> FeedbackStatus:
    if http in (0, 400, 404) and not rules.NOT_A_SEARCH.search(message):
        searched = rules.NOT_FOUND.search(message) and rules.SEARCH_TOOL.search(tool)
        if searched or (http in (0, 404) and rules.NO_RESULTS.search(message)):
            return FeedbackStatus(False, _EMPTY_SEARCH, "nothing_found")
    return FeedbackStatus(True, reason, _category(message, http))


def _words(values: Any) -> str:
    """Join the texts inside ``values``, three levels deep at most."""
    found: list[str] = []

    def visit(value: Any, depth: int) -> None:
        if isinstance(value, str):
            found.append(value)
        elif depth and isinstance(value, Mapping):
            for inner in value.values():
                visit(inner, depth - 1)
        elif depth and isinstance(value, (list, tuple)):
            for inner in value:
                visit(inner, depth - 1)

    visit(values, 3)
    return " ".join(found)


def _is_empty(value: Any, depth: int = 8) -> bool:
    """Whether an error field says that there is none; what is nested deeper says something."""
    if isinstance(value, str):
        return value.strip().lower() in rules.EMPTY_TEXT
    if isinstance(value, (Mapping, list, tuple)):
        values = value.values() if isinstance(value, Mapping) else value
        return not value or (depth > 0 and all(_is_empty(inner, depth - 1) for inner in values))
    # A code of success stands in error fields as well.
    return not value or (isinstance(value, int) and 200 <= value < 300)


def _http_code(value: Any) -> int:
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("code", "status") if key in value), None)
    if isinstance(value, str) and len(value) == 3 and value.isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
        return value
    return 0
