"""Settings in a YAML or JSON file, with words and numbers read as everybody means them.

PyYAML reads YAML 1.1, in which ``off`` is false and ``1e-5`` a text, and both it and ``json`` keep
the last of two entries of one name without a word.

Source: YAML 1.2.2, section 10.3 (core schema); ``<<`` is read as before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import yaml


def read(text: str, *, is_json: bool) -> Any:
    """Return the value that a file holds.

    Raises:
      ValueError: It is broken, or names an entry twice; the message names the line, as far as that
        is known.
    """
    if is_json:
        return json.loads(text, object_pairs_hook=_object)
    try:
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


class _Loader(yaml.SafeLoader):
    """Reads plain values by the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[Any, Any] = {}


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(
                    f"line {line}: {key.value} is given twice, first in line {lines[key.value]}"
                )
            lines[key.value] = line
    return loader.construct_mapping(node, deep=True)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0 if text[:2] in ("0x", "0o") else 10)


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = value
    return found


# Tag, what a plain text of it looks like, and its possible first characters.
_RESOLVED = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
)

for _tag, _pattern, _firsts in _RESOLVED:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(rf"(?:{_pattern})\Z"),
        [*_firsts, *([""] if _tag == "null" else [])],
    )
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
