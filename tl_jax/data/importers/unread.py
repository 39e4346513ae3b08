"""Find the keys of a row that nothing reads, whatever importer reads it.

A row is wrapped before an importer sees it: its objects are dictionaries that remember which of
their keys were asked for. Whatever reads an object whole (``items``, ``values``, a loop,
``json.dumps``, ``dict``) reads all its keys. What the trajectory keeps counts as read, too.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.data.trajectory import Message, Trajectory

_T = TypeVar("_T")
_D = TypeVar("_D", Trajectory, Message, ToolSpec, Parameter, ToolCall)

_IDENTIFIERS = frozenset(("id", "_id", "uuid", "index", "object"))
"""Keys that only name or number an object, wherever they stand."""
TOOL_KEYS = frozenset(
    ("type", "function", "name", "description", "parameters", "input_schema", "inputSchema",
     "strict", "properties", "required", "title", "default", "example", "examples", "optional",
     "additionalProperties", "$schema", "$id", "$defs", "definitions", "$ref", "$comment", "anyOf",
     "oneOf", "allOf", "not", "if", "then", "else", "dependentRequired", "minProperties",
     "maxProperties", "patternProperties", "propertyNames", "unevaluatedProperties", "enum")
)  # fmt: skip
"""Keys of a tool's declaration and of its schema, which chat templates write as given."""
_SCHEMAS = ("parameters", "input_schema", "inputSchema")
_MOST_KEYS = 20
"""Unread keys of one object that are named; of more, only the number, as ``path.*``."""
_LONGEST_KEY = 80
_NO_NAMES: Mapping[str, str] = {}


class Watched(dict[str, Any]):
    """A JSON object that remembers which of its keys were read.

    Attributes:
      read: Those keys; like the others it is not set before there is something in it, as rows are
        made of many small objects.
      decoded: Values that were read from text, by key.
      names: Keys of the object that this one is a copy of, by the keys they have here.
    """

    __slots__ = ("decoded", "names", "read")
    decoded: dict[str, Any]
    names: Mapping[str, str]
    read: set[str]

    def __getitem__(self, key: str) -> Any:
        self._see((key,))
        return dict.__getitem__(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """Read one key."""
        try:
            self.read.add(key)
        except AttributeError:
            self.read = {key}
        return dict.get(self, key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """Read one key and remove it."""
        self._see((key,))
        return dict.pop(self, key, *default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Read one key, or set it."""
        self._see((key,))
        return dict.setdefault(self, key, default)

    def popitem(self) -> tuple[str, Any]:
        """Read the last key and remove it."""
        key, value = dict.popitem(self)
        self._see((key,))
        return key, value

    def __iter__(self) -> Iterator[str]:
        self._see(dict.keys(self))
        return dict.__iter__(self)

    def __reversed__(self) -> Iterator[str]:
        self._see(dict.keys(self))
        return dict.__reversed__(self)

    def items(self) -> Any:
        """Read all keys."""
        self._see(dict.keys(self))
        return dict.items(self)

    def values(self) -> Any:
        """Read all keys."""
        self._see(dict.keys(self))
        return dict.values(self)

    def copy(self) -> dict[str, Any]:
        """Read all keys into a plain dictionary."""
        return dict(self.items())

    def __repr__(self) -> str:
        return repr(self.copy())

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (tuple(self.items()),)

    def _see(self, keys: Iterable[str]) -> None:
        try:
            self.read.update(keys)
        except AttributeError:
            self.read = set(keys)

    def like(self, items: Mapping[str, Any]) -> Watched:
        """Return another object; reading it reads the keys of this one."""
        found = Watched(items)
        self._see(())
        found.read, found.names = self.read, getattr(self, "names", _NO_NAMES)
        found.decoded = self.decoded = getattr(self, "decoded", {})
        return found


Watched.__name__ = dict.__name__  # messages that name the type of a value speak of the row


def watched(value: Any) -> Any:
    """Return a JSON value whose objects remember what is read of them; nothing else changes."""
    kind = type(value)
    if kind is dict:
        return Watched(
            {
                key: watched(inner) if type(inner) is dict or type(inner) is list else inner
                for key, inner in value.items()
            }
        )
    if kind is list:
        return [
            watched(inner) if type(inner) is dict or type(inner) is list else inner
            for inner in value
        ]
    return value


def changed(entry: Mapping[str, Any], /, **values: Any) -> dict[str, Any]:
    """Return a copy of an object with other values, without reading what is copied.

    An importer writes ``changed(entry, error=True)`` where ``{**entry, "error": True}`` would hide
    what it leaves unread.
    """
    if isinstance(entry, Watched):
        return entry.like({**dict(dict.items(entry)), **values})
    return {**entry, **values}


def renamed(entry: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a copy of an object with other names of its keys, without reading what is copied.

    Args:
      entry: The object.
      names: New name by old one; of two keys that would get one name, the renamed one stays.
    """
    items = dict(dict.items(entry)) if isinstance(entry, Watched) else dict(entry)
    taken = {new: items.pop(old) for old, new in names.items() if old in items}
    if not isinstance(entry, Watched):
        return {**items, **taken}
    found = entry.like({**items, **taken})
    found.names = {new: old for old, new in names.items()}
    read_keys(entry, names)
    return found


def decoded(entry: Mapping[str, Any], key: str, read: Callable[[str], Any]) -> Any:
    """Return a value of an object, read where it is the text of one; blank text is None.

    What is unread in such a text is found as if it stood in the row itself.
    """
    value = entry.get(key)
    if not isinstance(value, str):
        return value
    value = read(value) if value.strip() else None
    if isinstance(entry, Watched):
        value = watched(value)
        entry.decoded = getattr(entry, "decoded", {})
        entry.decoded[getattr(entry, "names", _NO_NAMES).get(key, key)] = value
    return value


def split_parts(row: Any, parts: Sequence[Any]) -> list[Any]:
    """Return the dialogues that an importer cut out of a row, so that reading them reads the row.

    Copying a key of the row into a part is not reading it; a key that no part has was read if the
    importer did.
    """
    if not isinstance(row, Watched):
        return list(parts)
    copied = [part for part in parts if isinstance(part, dict) and not isinstance(part, Watched)]
    if hasattr(row, "read"):
        row.read.difference_update(*copied)
    return [
        row.like(part) if type(part) is dict else part  # a part that is the row stays it
        for part in parts
    ]


def read_tool(entry: Any) -> None:
    """Count the known keys of a tool's declaration as read, with what stands under them."""
    function = entry.get("function") if isinstance(entry, Watched) else None
    function = function if isinstance(function, Watched) else entry
    read_keys(entry, TOOL_KEYS)
    read_keys(function, TOOL_KEYS)
    for name in _SCHEMAS if isinstance(function, Watched) else ():
        if isinstance(schema := dict.get(function, name), Watched):
            for key in TOOL_KEYS.intersection(dict.keys(schema)):
                kept(schema[key])


def read_keys(entry: Any, keys: Iterable[str]) -> None:
    """Count keys of an object as read that it may have, if it is watched."""
    if isinstance(entry, Watched):
        try:
            entry.read.update(keys)
        except AttributeError:
            entry.read = set(keys)


def read_whole(entry: Any, keys: Iterable[str]) -> None:
    """Count keys of an object as read that it may have, with all that stands under them."""
    if isinstance(entry, Watched):
        for key in entry.keys() & frozenset(keys):
            kept(entry[key])


def unread_here(entry: Any) -> list[str]:
    """Return the keys of a watched object itself that say something and that nothing read yet."""
    if not isinstance(entry, Watched):
        return []
    read = getattr(entry, "read", ())
    return [
        key
        for key, value in dict.items(entry)
        if key not in read and not _is_identifier(key) and _says_something(value)
    ]


def unread_keys(row: Any) -> Counter[str]:
    """Count the keys of a watched row that nothing read, by path, such as ``messages[].mood``.

    Keys without content (null, empty text, list or object) and mere identifiers are left out.
    """
    found: Counter[str] = Counter()
    if isinstance(row, Watched):
        _visit(row, "", found)
    return found


def _visit(value: Any, path: str, found: Counter[str]) -> None:
    if type(value) is list:
        for inner in value:
            if type(inner) is Watched or type(inner) is list:
                _visit(inner, f"{path}[]", found)
        return
    read, decoded = getattr(value, "read", ()), getattr(value, "decoded", _NO_NAMES)
    unread = []
    for key, inner in dict.items(value):
        if key not in read:
            if not _is_identifier(key) and _says_something(inner):
                unread.append(key)
            continue
        inner = decoded.get(key, inner)
        if type(inner) is Watched or type(inner) is list:
            _visit(inner, f"{path}.{key}" if path else key, found)
    for key in unread if len(unread) <= _MOST_KEYS else "*" * len(unread):
        found[f"{path}.{key[:_LONGEST_KEY]}" if path else key[:_LONGEST_KEY]] += 1


def _is_identifier(key: str) -> bool:
    return key in _IDENTIFIERS or key.endswith("_id")


def _says_something(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_says_something, dict.values(value)))
    if isinstance(value, list):
        return any(map(_says_something, value))
    return value is not None and value != ""


def plain(value: Any) -> Any:
    """Return a JSON value without watched objects, without reading them."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in dict.items(value)}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def kept(value: Any) -> Any:
    """Return what a trajectory keeps without watched objects, which are read by keeping them.

    Returns:
      The same object where there was none in it.
    """
    kind = type(value)
    if kind is Watched:
        return {
            key: kept(inner) if type(inner) in _CONTAINERS else inner
            for key, inner in value.items()
        }
    if kind is dict:
        inside = {key: inner for key, inner in value.items() if type(inner) in _CONTAINERS}
        if not inside:
            return value
        found = {key: kept(inner) for key, inner in inside.items()}
        return value if _same(found.values(), inside.values()) else {**value, **found}
    if kind is list or kind is tuple:
        if not any(type(inner) in _CONTAINERS for inner in value):
            return value
        listed = [kept(inner) if type(inner) in _CONTAINERS else inner for inner in value]
        return value if _same(listed, value) else kind(listed)
    return value


_CONTAINERS = frozenset((Watched, dict, list, tuple))


def _same(new: Iterable[Any], old: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip(new, old, strict=True))


def settled(trajectory: Trajectory) -> Trajectory:
    """Return a trajectory as its importer made it, but without watched objects."""
    return _with_kept(
        trajectory,
        tools=_each(trajectory.tools, _tool),
        messages=_each(trajectory.messages, _message),
        tags=kept(trajectory.tags),
    )


def _tool(tool: ToolSpec) -> ToolSpec:
    parameters, declared = tool.parameters, tool.declared
    if any(_has_containers(parameter.schema) for parameter in parameters):
        parameters = _each(parameters, _parameter)
    if declared is not None:
        entry, before = declared.entry, declared.tool
        if before.parameters is tool.parameters and parameters is not tool.parameters:
            before = dataclasses.replace(before, parameters=parameters)
        elif before.parameters is not tool.parameters:
            before = _tool(before)
        if type(entry) is Watched:
            # What a tool is declared with some templates write whole and others do not: keeping it
            # reads only what is known.
            read_tool(entry)
            entry = plain(entry)
        if entry is not declared.entry or before is not declared.tool:
            declared = dataclasses.replace(declared, entry=entry, tool=before)
    return _with_kept(tool, parameters=parameters, declared=declared)


def _has_containers(schema: Mapping[str, Any]) -> bool:
    if type(schema) is not dict:
        return True
    for inner in schema.values():  # most are texts
        if type(inner) in _CONTAINERS:
            return True
    return False


def _parameter(parameter: Parameter) -> Parameter:
    schema = kept(parameter.schema)
    if schema is parameter.schema:
        return parameter
    return dataclasses.replace(parameter, schema=schema)


def _message(message: Message) -> Message:
    return _with_kept(message, calls=_each(message.calls, _call)) if message.calls else message


def _call(call: ToolCall) -> ToolCall:
    return _with_kept(call, arguments=kept(call.arguments))


def _each(values: tuple[_T, ...], change: Callable[[_T], _T]) -> tuple[_T, ...]:
    found = tuple(map(change, values))
    return values if _same(found, values) else found


def _with_kept(value: _D, **fields: Any) -> _D:
    if all(new is getattr(value, name) for name, new in fields.items()):
        return value
    return dataclasses.replace(value, **fields)
