"""Judge one tool feedback: did the call before it fail, and in which way?"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

MODES = ("reference", "structured")


@dataclasses.dataclass(frozen=True)
class FeedbackStatus:
    """Verdict on one feedback.

    Attributes:
      is_error: Whether the call failed.
      reason: The rule that decided, for reports.
      category: ``tool_hallucination``, ``parameter_hallucination``, ``parameter_missing``,
        ``content_filling`` (a bad value), ``service`` (the tool or network, not the call),
        ``nothing_found`` (a sound call without a result), ``all_right``, or ``unknown``.
    """

    is_error: bool
    reason: str
    category: str


_OK = FeedbackStatus(False, "no sign of an error", "all_right")

REFERENCE_PHRASES = (
    "is not defined",
    "positional argument",
    "unexpected keyword",
    "'related_searches'",
    "ConnectionError",
    "not supported",
    "Invalid API call",
    "Response error",
    "Object of type SerpResults is not JSON serializable",
    "400 Client Error",
    "slice indices must be integers or None or have an __index__ method",
    "connection error",
    '"error":',
)
"""Phrases of the published script; the all-embracing ``"error":`` last, for telling reasons."""

_DELETED = re.compile("[^\u4e00-\u9fa5A-Za-z0-9^]")


def _reduced(text: str) -> str:
    return _DELETED.sub("", text).lower()


_REDUCED = tuple((phrase, _reduced(phrase)) for phrase in REFERENCE_PHRASES)

# Order decides: the first category whose pattern occurs.
CATEGORY_RULES = tuple(
    (category, re.compile(pattern, re.IGNORECASE))
    for category, pattern in (
        (
            "tool_hallucination",
            r"\bname '\w+' is not defined|\b(?:unknown|invalid|no such) (?:tool|function|action)\b"
            r"|\b(?:tool|function|action)\b.{0,60}\b(?:not found|(?:does|do) not exist|unknown"
            r"|(?:is )?not (?:defined|available|one of|a valid (?:tool|function|action)))\b",
        ),
        (
            "parameter_hallucination",
            r"\bunexpected keyword\b|\btakes \d+ positional arguments? but\b"
            r"|\b(?:unknown|unrecogni[sz]ed|unexpected|extra) "
            r"(?:parameter|argument|field|input)s?\b"
            r"|\badditional propert|\b(?:parameter|argument|field)s? .{0,60}\b(?:not allowed"
            r"|not permitted|do(?:es)? not exist|not recogni[sz]ed)\b",
        ),
        (
            "parameter_missing",
            r"\bmissing \d+ required\b|\brequired positional argument\b|\bfield required\b"
            r"|\bmissing (?:\w+ ){0,3}(?:parameter|argument|field|value|key)s?\b"
            r"|\b(?:parameter|argument|field)s? .{0,40}\b(?:missing|required|not provided)\b"
            r"|\b(?:is|are) (?:a )?(?:required|mandatory)\b|\bmust be (?:provided|specified|set)\b"
            r"|\b(?:must|need to|have to|please) (?:provide|specify|supply|enter)\b"
            r"|\bcan(?:not| not) (?:both )?be (?:none|null|empty|blank)\b",
        ),
        (
            "service",
            r"\brate.?limit|\btoo many requests\b|\bquota\b|\btimed? ?out\b|\bunavailable\b"
            r"|\bconnection\w* ?(?:error|refused|reset|aborted|timeout)\b|\bconnectionerror\b"
            r"|\bmax retries\b|\bun-?authori[sz]ed\b|\bnot authori[sz]ed\b|\bforbidden\b"
            r"|\baccess denied\b|\bapi.?key\b|\bpermission\b|\bnot subscribed\b|\bsubscription\b"
            r"|\binternal (?:server )?error\b|\binternal server\b|\bbad gateway\b|\bmaintenance\b"
            r"|\bserializable\b|\bresponse error\b|\bexpecting value\b|\bindex out of range\b"
            r"|\bhas no attribute\b|\bslice indices\b|\bnot subscriptable\b|\bSSL\b|\bproxy\b",
        ),
        (
            "content_filling",
            r"\binvalid\b|\bnot (?:a )?(?:valid|allowed|recogni[sz]ed)\b|\bnot[- ]supported\b"
            r"|\bunsupported\b"
            r"|\b(?:must|should|may not|cannot|can not|has to) be\b|\bbad request\b|\bincorrect\b"
            r"|\bunprocessable\b|\bout of range\b|\bmalformed\b|\bwrong\b|\b(?:un)?able to parse\b"
            r"|\b(?:greater|less|more|longer|shorter) than\b|\bdo(?:es)? not exist\b|\bexceeds?\b"
            r"|\bcould not (?:parse|convert)\b|\bexpected\b|\bnot found\b|\bunknown\b",
        ),
    )
)

_NOTHING_FOUND = re.compile(
    r"\bno\b[^.\"]{0,60}\b(?:found|available|match(?:es|ed|ing)?|results?|records?|data|exists?)\b"
    r"|\b(?:not|never) (?:be )?found\b|\bfound (?:no|nothing|0)\b|\bnothing (?:was )?found\b"
    r"|\b(?:did|does|do) not (?:return|match|have) any\b",
    re.IGNORECASE,
)
_NOT_A_SEARCH = re.compile(
    r"\b(?:tool|function|action|method|endpoint|route|command|parameter|argument|attribute|module"
    r"|api|page|path|url|key)\b[^.]{0,40}\bnot found\b",
    re.IGNORECASE,
)

# Sure signs in plain text (not a JSON document); each needs its word boundaries.
_TEXT_RULES = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        (
            "exception name",
            r"(?m)^\s*(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception)\b(?=\s*(?:[:(]|$))"
            r"|\bTraceback \(most recent call last\)",
        ),
        ("exception text", r"^'[A-Za-z_][\w .-]{3,}'$"),  # str() of a Python KeyError
        (
            "exception text",
            r"\bname '\w+' is not defined|\brequired positional argument|\bunexpected keyword arg"
            r"|\btakes \d+ positional arguments? but|\bslice indices must be|\bhas no attribute\b"
            r"|\bnot JSON serializable\b|\bindex out of range\b|\bis not subscriptable\b"
            r"|\binvalid literal for\b|^Expecting value: line|\bunsupported operand\b"
            r"|\bcould not convert\b|\bnot callable\b|\bMax retries exceeded\b",
        ),
        (
            "phrase",
            r"(?i)^\W*(?:an? |the )?(?:\w+ ){0,2}error\b"
            r"(?=\s*(?:[:!.(-]|$|code|while|when|occurred))"
            r"|(?i:(?<!no )\berror (?:occurred|while|when|code)\b)|(?im:^\W*error\b)"
            r"|(?i:<title>[^<]{0,80}\b(?:error|not found|denied)\b)|(?i:(?<!no )\berror\W*$)"
            r"|(?i:\b(?:response|connection|server|client|request|internal|network|parse|syntax"
            r"|validation|runtime|http|ssl|api|database|timeout|unknown) error\b)",
        ),
        (
            "phrase",
            r"(?i)\b(?:invalid|unknown|unsupported|missing|illegal|unrecogni[sz]ed|bad|wrong) "
            r"(?:\w+ )?(?:parameter|argument|value|input|api|request|format|field|key|token|tool"
            r"|function|action|command|date|id|url|query|syntax|address|credentials?)s?\b",
        ),
        (
            "phrase",
            r"(?i)\b(?:un-?authori[sz]ed|not authori[sz]ed|forbidden|access denied"
            r"|permission denied|rate limit(?:ed)?\b.{0,20}\b(?:exceeded|reached)|rate limited"
            r"|too many requests|timed out|connection ?(?:refused|reset|aborted)"
            r"|internal server|bad gateway|service unavailable|not[- ]supported|unprocessable"
            r"|failed to|unable to|is required|not a valid|is not valid)\b",
        ),
    )
)
_HTTP = re.compile(
    r"(?i)\b([45]\d\d) (?:client|server) error\b|\bHTTP(?:/[\d.]+)?[ :]*(?:status|error|code)*[ :]*"
    r"([45]\d\d)\b|\bstatus[ _]?code[\"']?\s*[:=]?\s*([45]\d\d)\b|^\W*([45]\d\d)\s+(?:bad request"
    r"|unauthorized|forbidden|not found|internal server|service unavailable|too many|gateway)"
)
# A JSON document that was cut off: a filled error key near its start.
_CUT_ERROR_KEY = re.compile(
    r"[\"']errors?[\"']\s*:(?!\s*(?:\[\s*\]|\{\s*\}|null\b|None\b|\"\"|''|[Ff]alse\b|0\b))"
)
_LONG_TEXT = 400  # characters; only the start of a longer plain text is searched for phrases

_ERROR_KEYS = frozenset(
    "error errors err errormessage errormsg errorcode errordescription exception fault traceback "
    "nonfielderror nonfielderrors validationerrors".split()
)
_CODE_KEYS = frozenset("status statuscode code errorcode httpstatus httpcode cod".split())
_MESSAGE_KEYS = frozenset(
    "message msg detail details text description reason title note comment".split()
)
_WRAPPER_KEYS = frozenset("status meta header response result fault".split())
_BAD_STATUS = frozenset("error err fail failed failure invalid nok exception".split())
_EMPTY_TEXT = frozenset(("", "0", "none", "null", "false", "ok", "success", "no error", "200"))


def classify_feedback(text: str, *, mode: str) -> FeedbackStatus:
    """Judge the text of one tool feedback.

    Args:
      text: The feedback.
      mode: ``"reference"``, the substring rule of the published script (fires on any text that
        holds the letters e-r-r-o-r), or ``"structured"``: filled error keys, status fields, HTTP
        codes, exception names, and phrases with word boundaries.

    Source: code/mae/mae.py of the TL-Training release for ``reference``.
    """
    if mode == "reference":
        reduced = _reduced(text)
        for phrase, needle in _REDUCED:
            if needle in reduced:
                return FeedbackStatus(True, phrase, _category(text, 0))
        return _OK
    if mode != "structured":
        raise ValueError(f"unknown feedback mode {mode!r}; known: {', '.join(MODES)}")
    document = _document(text)
    if document is None:
        return _judge_text(text.strip())
    return _judge_document(document)


def error_category(text: str) -> str:
    """Return the category of a feedback that is known to report an error."""
    found = classify_feedback(text, mode="structured")
    return found.category if found.is_error else _category(text[:_LONG_TEXT], 0)


def _category(text: str, http: int) -> str:
    head = text[: 4 * _LONG_TEXT]
    for category, pattern in CATEGORY_RULES:
        if pattern.search(head):
            return category
    if http:
        return "service" if http in (401, 403, 407, 408, 429) or http >= 500 else "content_filling"
    return "unknown"


def _document(text: str) -> Any:
    text = text.strip()
    if not text or text[0] not in "{[":
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > 20_000:
        return None
    try:  # the str() of a Python dict, which many tools return
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _judge_text(text: str) -> FeedbackStatus:
    head = text[:_LONG_TEXT]
    if match := _HTTP.search(head):
        http = int(next(group for group in match.groups() if group))
        return FeedbackStatus(True, f"http {http}", _category(head, http))
    for name, pattern in _TEXT_RULES[:3]:
        if pattern.search(head):
            category = "service" if head.startswith("'") else _category(head, 0)
            return FeedbackStatus(True, name, category)
    if head[:1] in ("{", "["):
        if _CUT_ERROR_KEY.search(head[:200]):
            return _error_or_nothing("error key", head, 0)
        return _OK
    if len(text) > _LONG_TEXT:
        head = head.split("\n", 1)[0][:120]
    for name, pattern in _TEXT_RULES[3:]:
        if match := pattern.search(head):
            return _error_or_nothing(f'{name} "{match[0].strip().lower()}"', head, 0)
    if _NOTHING_FOUND.search(head):
        if _NOT_A_SEARCH.search(head):
            return FeedbackStatus(True, "phrase", _category(head, 0))
        return FeedbackStatus(False, "nothing found", "nothing_found")
    return _OK


def _judge_document(document: Any, depth: int = 0) -> FeedbackStatus:
    if isinstance(document, list):
        if not document:
            return FeedbackStatus(False, "empty list", "nothing_found")
        if len(document) == 1 and isinstance(document[0], Mapping):
            return _judge_document(document[0], depth)
        return _OK
    if not isinstance(document, Mapping):
        return _OK
    fields = {re.sub(r"[^a-z]", "", str(key).lower()): (key, v) for key, v in document.items()}
    message = _words(
        [value for name, (_, value) in fields.items() if name in _ERROR_KEYS | _MESSAGE_KEYS]
    )
    http = next((c for n, (_, v) in fields.items() if n in _CODE_KEYS and (c := _http_code(v))), 0)
    for name, (key, value) in fields.items():
        if name in _ERROR_KEYS and not _is_empty(value):
            return _error_or_nothing(f"error key {key!r}", message, http or _http_code(value))
    for name, (key, value) in fields.items():
        if name in _CODE_KEYS and _http_code(value):
            return _error_or_nothing(f"http {http}", message, http)
        if name in ("status", "state", "result") and str(value).lower() in _BAD_STATUS:
            return _error_or_nothing(f"field {key!r} is {value!r}", message, 0)
        if name in ("success", "ok", "succeeded") and value is False:
            return _error_or_nothing(f"field {key!r} is false", message, 0)
    if depth < 2:
        for name, (_, value) in fields.items():
            if name in _WRAPPER_KEYS and isinstance(value, Mapping):
                inner = _judge_document(value, depth + 1)
                if inner.is_error:
                    return inner
    # A document that says nothing but a message is judged by the message.
    if (
        message
        and len(fields) <= 4
        and all(
            name in _MESSAGE_KEYS | _CODE_KEYS | {"type", "documentationurl", "success"}
            for name in fields
        )
    ):
        return _judge_text(message)
    return _OK


def _error_or_nothing(reason: str, message: str, http: int) -> FeedbackStatus:
    found_nothing = _NOTHING_FOUND.search(message) and not _NOT_A_SEARCH.search(message)
    if found_nothing and http in (0, 404):
        return FeedbackStatus(False, "nothing found", "nothing_found")
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


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _EMPTY_TEXT
    if isinstance(value, Mapping):
        return all(_is_empty(inner) for inner in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_empty(inner) for inner in value)
    return not value


def _http_code(value: Any) -> int:
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("code", "status") if key in value), None)
    if isinstance(value, str) and len(value) == 3 and value.isdigit():
        value = int(value)
    is_code = isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600
    return value if is_code else 0
