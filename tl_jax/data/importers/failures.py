"""Read what a source says of a tool's result in fields beside it: that the call failed, or not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_ERRORS = (
    "error", "is_error", "isError", "has_error", "has_errors", "hasError", "failed", "is_failed",
    "isFailed", "errored", "errors", "failure", "is_failure", "isFailure", "tool_error",
    "toolError", "call_failed", "err", "timed_out", "timedOut",
)  # fmt: skip
_FLAGS = ("is_error", "isError", "has_error", "has_errors", "hasError")
_DETAILS = (
    "error_message", "errorMessage", "error_type", "errorType", "error_code", "errorCode",
    "exception", "traceback", "error_msg", "errorMsg", "error_info",
)  # fmt: skip
_SUCCESSES = (
    "success", "ok", "succeeded", "successful", "is_success", "isSuccess", "is_successful",
    "tool_success",
)  # fmt: skip
_STATES = (
    "status", "state", "outcome", "result_status", "status_code", "statusCode", "execution_status",
    "execution_state", "tool_status", "toolStatus", "call_status", "result_type",
)  # fmt: skip
_EXIT_CODES = (
    "exit_code", "exitcode", "exitCode", "exit_status", "return_code", "returncode", "returnCode",
    "ret_code", "rc",
)  # fmt: skip
_BESIDE = ("metadata", "meta", "extra", "extras", "additional_kwargs", "result", "artifact")
_FAILED = frozenset(
    ("error", "errored", "fail", "failed", "failure", "exception", "crashed", "timeout",
     "timed_out", "timedout", "rejected", "denied", "aborted", "cancelled", "canceled",
     "unsuccessful")
)  # fmt: skip
_FAILED_TYPES = frozenset(("error", "tool_error", "tool_result_error", "error_result"))
_NOTHING = frozenset(("", "none", "null", "false", "no", "0", "ok", "success", "n/a", "nil"))
_TRUE = frozenset(("true", "yes", "1"))
_HTTP = re.compile(r"[45][0-9]{2}")


def result_status(entry: Mapping[str, Any]) -> str:
    """Return what the fields of a result say: ``error``, ``ok``, or an empty text for nothing.

    A field that only says that the tool ran (``status: success``, ``exit_code: 0``) is often a
    default and says nothing of the text. What the text says itself is judged later, see
    ``data.mae.feedback``.

    Args:
      entry: The message, or the part, that holds the result. Its metadata and the parts of its
        content are looked into.
    """
    said = _status(entry)
    if said == "error":
        return said
    kind = entry.get("type")
    if isinstance(kind, str) and kind.lower() in _FAILED_TYPES:
        return "error"
    beside = [entry[key] for key in _BESIDE if isinstance(entry.get(key), Mapping)]
    if any(_flagged(one, _FLAGS) or _exited(one) or _denied(one) for one in beside):
        return "error"
    content = entry.get("content")
    parts = content if isinstance(content, list) else ()
    if any(_flagged(part, _FLAGS) for part in parts if isinstance(part, Mapping)):
        return "error"
    return said


def error_text(entry: Mapping[str, Any]) -> str:
    """Return the text of what went wrong that stands beside the content of a result."""
    for key in ("error", *_DETAILS):
        value = entry.get(key)
        if isinstance(value, str) and value.strip() and not _says_nothing(value):
            return value if value.strip().lower() not in _TRUE else ""
    return ""


def _status(entry: Mapping[str, Any]) -> str:
    said_ok = False
    for key in _ERRORS:
        if key in entry and (value := entry[key]) is not None and value != "":
            if not _says_nothing(value):
                return "error"
            said_ok |= value is False or (isinstance(value, str) and value.lower() == "false")
    if _flagged(entry, _DETAILS):
        return "error"
    for key in _SUCCESSES:
        if key in entry and (isinstance(entry[key], bool | str) or entry[key] in (0, 1)):
            value = str(entry[key]).strip().lower()
            if value in ("false", "no", "0"):
                return "error"
            said_ok |= value in ("true", "yes", "1")
    for key in _STATES:
        if key in entry and isinstance(entry[key], str | int):
            value = str(entry[key]).strip().lower()
            if value in _FAILED or _HTTP.fullmatch(value):
                return "error"
    if _exited(entry):
        return "error"
    return "ok" if said_ok else ""


def _flagged(entry: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    return any(key in entry and not _says_nothing(entry[key]) for key in keys)


def _denied(entry: Mapping[str, Any]) -> bool:
    """Whether true or false says of the call that it failed; other values are of the call's own."""
    failed = any(key in entry and entry[key] is True for key in _ERRORS)
    return failed or any(key in entry and entry[key] is False for key in _SUCCESSES)


def _exited(entry: Mapping[str, Any]) -> bool:
    """Whether an exit code other than 0 stands there."""
    codes = (entry[key] for key in _EXIT_CODES if key in entry)
    return any(
        isinstance(code, str | int | float) and not isinstance(code, bool) and _number(code) != 0
        for code in codes
    )


def _says_nothing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _NOTHING
    if isinstance(value, Mapping):
        return all(map(_says_nothing, value.values()))
    if isinstance(value, list):
        return all(map(_says_nothing, value))
    return not value


def _number(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        return 0.0
