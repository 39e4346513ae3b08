"""Read the content of a message: text, or a list of parts that are text, calls, thoughts or media.

Only text can be trained. Media in the result of a tool become a named placeholder, such as
``[image: plot.png]``; in any other turn they are refused.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import thoughts
from tl_jax.data.importers.unread import read_keys
from tl_jax.errors import RowError

_TEXTS = ("text", "input_text", "output_text", "refusal")
_CALLS = ("tool_call", "function_call", "tool_use", "tool-call")
_MEDIA = re.compile(r"(?:input_|output_)?(image|audio|video|file|document|media)(?:_url|_file)?")
_DATA_URI = re.compile(
    r"data:([\w.+-]++\\?/[\w.+-]++)?+(?:;[\w.=+-]++)*+,(?:[A-Za-z0-9+/=_%-]|\\/)*+"
)
# Files written out with nothing that says so, but for how they begin.
_BARE_DATA = re.compile(
    r"(?<![\w+/])(?:(?P<png>iVBORw0KGgo)|(?P<jpeg>/9j/)|(?P<gif>R0lGOD)|(?P<pdf>JVBERi0)|UklGR)"
    r"(?:[A-Za-z0-9+/=]|\\/){400,}+"
)
_BEGINNINGS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "JVBERi0", "UklGR")
_LONGEST_DATA = 1000
"""Data in the text of a turn is a medium from so many characters on."""
_NAMES = ("filename", "file_name", "name", "title", "path", "file_id", "id")
_KINDS = ("mimeType", "mime_type", "media_type", "format")
_JSON_PART = frozenset(("type", "json"))
_LONGEST_NAME = 80


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a content.

    Attributes:
      kind: ``text``, ``thought``, ``call``, ``media`` or ``other``.
      text: Its text; of media the placeholder.
      call: The call as found, for a part that is one.
    """

    kind: str
    text: str = ""
    call: Any = None


def content_parts(content: Any) -> list[Part]:
    """Return the parts of a message's content: text, nothing, or a list.

    Raises:
      RowError: Content that is neither.
    """
    if content is None:
        return []
    if isinstance(content, str):
        return [Part("text", content)]
    if not isinstance(content, list):
        raise RowError(f"'content' must be text or a list of parts, not {type(content).__name__}")
    return [_part(entry) for entry in content]


def content_text(content: Any) -> str:
    """Return the text of a message's content: text, nothing, or a list of text parts.

    Raises:
      RowError: A part that is no text, such as an image.
    """
    found = content_parts(content)
    for part, entry in zip(found, content if isinstance(content, list) else found, strict=True):
        if part.kind in ("media", "other"):
            raise not_text(entry)
    return "\n".join(part.text for part in found if part.kind == "text")


def not_text(entry: Any) -> RowError:
    """Return the error of a part that cannot be trained."""
    kind = entry.get("type") if isinstance(entry, Mapping) else None
    return RowError(f"a content part of type {kind!r} that holds no text, which alone is trained")


def result_text(content: Any, repairs: Counter[str]) -> str:
    """Return the text of a tool's result, with a placeholder for every image and other medium.

    Args:
      content: As found: text, parts, or any JSON value, which is written as JSON.
      repairs: Counts by kind; ``media_in_result`` is added to.
    """
    if isinstance(content, list) and content:
        found = [_part(entry) for entry in content]
        if all(part.kind in ("text", "media") for part in found):
            repairs["media_in_result"] += sum(part.kind == "media" for part in found)
            return _without_data("\n".join(part.text for part in found), repairs)
    if content is None or content == []:
        return ""
    if not isinstance(content, str):
        content = json.dumps(_media_named(content, repairs), ensure_ascii=False)
    return _without_data(content, repairs)


def _part(entry: Any) -> Part:
    if isinstance(entry, str):
        return Part("text", entry)
    if not isinstance(entry, Mapping):
        return Part("other")
    kind = entry.get("type")
    if not isinstance(kind, str | None):
        return Part("other")
    if kind in _CALLS:
        return Part("call", call=entry.get("value", entry))
    if kind in thoughts.SEALED_PARTS:
        return Part("thought")
    if kind in thoughts.PARTS or entry.get("thought") is True:
        return Part("thought", thoughts.thought_text(entry))
    if (text := _inner_text(entry)) is not None:
        return Part("text", text)
    if isinstance(resource := entry.get("resource"), Mapping) and "blob" in resource:
        return Part("media", _placeholder("file", entry))
    if kind and (medium := _MEDIA.fullmatch(kind)):
        return Part("media", _placeholder(medium[1], entry))
    keys = ("text", "content", "value", str(kind)) if kind in _TEXTS else ()
    if kind is None and "text" in entry:
        keys = ("text",)
    text = next((entry[key] for key in keys if key in entry), None)
    if isinstance(text, Mapping) and "value" in text:  # of OpenAI's threads
        text = text["value"]
    return Part("text", text) if isinstance(text, str) else Part("other")


def _inner_text(entry: Mapping[str, Any]) -> str | None:
    """Return the text that a part of another kind holds: a document, a resource, or a value."""
    if isinstance(inner := entry.get("document"), Mapping) and "data" in inner:
        return _written(inner["data"])
    source = entry.get("source") if entry.get("type") == "document" else None
    if isinstance(source, Mapping) and source.get("type") == "text":
        read_keys(source, ("media_type",))
        return _written(source.get("data"))
    if isinstance(inner := entry.get("resource"), Mapping) and isinstance(inner.get("text"), str):
        read_keys(inner, ("uri", "mimeType"))
        return inner["text"]
    if entry.keys() <= _JSON_PART and "json" in entry:
        return _written(entry["json"])
    return None


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _placeholder(kind: str, entry: Mapping[str, Any]) -> str:
    """Name a medium by its file, or by the kind of its data."""
    found = dict(_texts(entry, 3))
    name = next((found[key] for key in _NAMES if key in found), "")
    for url in (found[key] for key in found if key.endswith(("url", "uri", "data"))):
        if uri := _DATA_URI.match(url):
            name = name or (uri[1] or "").replace("\\", "")
        elif "://" in url or "." in url[-6:]:
            name = name or url.partition("?")[0].rstrip("/").rpartition("/")[2]
    name = name or next((found[key] for key in _KINDS if key in found), "")
    return f"[{kind}: {name[:_LONGEST_NAME]}]" if name else f"[{kind}]"


def _texts(value: Any, depth: int) -> list[tuple[str, str]]:
    if not isinstance(value, Mapping) or not depth:
        return []
    found: list[tuple[str, str]] = []
    for key, inner in value.items():
        found += [(key, inner)] if isinstance(inner, str) and inner else _texts(inner, depth - 1)
    return found


def _media_named(value: Any, repairs: Counter[str]) -> Any:
    """Return a JSON value with a placeholder for every object that holds the data of a medium."""
    if isinstance(value, list):
        return [_media_named(inner, repairs) for inner in value]
    if not isinstance(value, Mapping):
        return value
    kind = value.get("type")
    medium = _MEDIA.fullmatch(kind) if isinstance(kind, str) else None
    if medium and any(key in value for key in ("data", "source", "image_url", "url", "blob")):
        repairs["media_in_result"] += 1
        return {"type": "text", "text": _placeholder(medium[1], value)}
    return {key: _media_named(inner, repairs) for key, inner in value.items()}


def _without_data(text: str, repairs: Counter[str]) -> str:
    """Replace data URIs, which are files written out, by placeholders."""

    def named(match: re.Match[str]) -> str:
        if ";base64" not in match[0] and len(match[0]) < _LONGEST_NAME:
            return match[0]  # "data:" in prose, or a short text
        repairs["media_in_result"] += 1
        kind = (match[1] or "file").replace("\\", "")
        medium = kind.partition("/")[0]
        medium = medium if medium in ("image", "audio", "video") else "file"
        return f"[{medium}: {kind}]" if match[1] else "[file]"

    def guessed(match: re.Match[str]) -> str:
        repairs["media_in_result"] += 1
        kind = match.lastgroup or ""
        return {"": "[file]", "pdf": "[file: application/pdf]"}.get(kind, f"[image: image/{kind}]")

    text = _DATA_URI.sub(named, text) if "data:" in text else text
    bare = any(beginning in text for beginning in _BEGINNINGS)  # which is quick
    return _BARE_DATA.sub(guessed, text) if bare else text


def refuse_data(text: str) -> None:
    """Refuse the text of a turn that has a file written out in it, as an image of its own is.

    Raises:
      RowError: It has; only texts are trained.
    """
    if ";base64," not in text:
        return
    for found in _DATA_URI.finditer(text):
        if ";base64" in found[0] and len(found[0]) > _LONGEST_DATA:
            raise RowError(
                f"a text that holds a file as data ({found[0][:30]}...); only text is trained"
            )
