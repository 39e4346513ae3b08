"""Settings with limits, and the strict conversion of nested mappings to dataclasses."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import operator
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tl_jax.errors import ConfigError


def choice(*allowed: str, default: str | tuple[str, ...], or_file: str = "") -> Any:
    """Declare a text, or a list of texts, out of ``allowed``.

    With ``or_file`` it may also be a path that ends so, such as ``".jinja"``.
    """
    metadata = {"choices": allowed, "or_file": or_file}
    return dataclasses.field(default=default, metadata=metadata)


_LIMITS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "least": (operator.ge, "at least"),
    "above": (operator.gt, "above"),
    "most": (operator.le, "at most"),
    "below": (operator.lt, "below"),
    "whole_from": (lambda value, limit: value < limit or float(value).is_integer(), "whole from"),
}


def number(default: int | float, **limits: float) -> Any:
    """Declare a number that must keep to ``limits``, named as in ``_LIMITS``."""
    assert limits.keys() <= _LIMITS.keys()
    return dataclasses.field(default=default, metadata={"limits": limits})


def positive(default: int) -> Any:
    """Declare a number of at least 1."""
    return number(default, least=1)


def above_zero(default: float) -> Any:
    """Declare a number above 0."""
    return number(default, above=0)


def not_negative(default: int | float) -> Any:
    """Declare a number of at least 0."""
    return number(default, least=0)


def steps_or_share(default: float) -> Any:
    """Declare a number of steps or, below 1, a share of the steps that there are."""
    return number(default, least=0, whole_from=1)


def share(default: float) -> Any:
    """Declare a number from 0 to 1."""
    return number(default, least=0, most=1)


T = TypeVar("T")


def from_dict(cls: type[T], values: Mapping[str, Any], path: str = "config") -> T:
    """Build the frozen dataclass ``cls`` from a nested mapping, strictly.

    Args:
      cls: A dataclass whose fields are declared as above.
      values: Field values; nested dataclasses are nested mappings. Missing fields keep their
        defaults. Old names (``renamed``) are read as the present ones.
      path: Dotted name used in messages.

    Raises:
      ConfigError: An unknown key (with the nearest known one), a value of the wrong type, a
        value outside the allowed choices or limits, or two values of a renamed setting.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path} must be sections with settings, got {type(values).__name__}")
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls))}
    values = present_names(cls, values, path)
    hints = _hints(cls)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise _unknown(path, key, list(fields))
        default = fields[key].default
        if isinstance(value, Mapping) and dataclasses.is_dataclass(default):
            # The section's own defaults may differ from those of its class.
            value = {**vars(default), **value}
        arguments[key] = _convert(hints[key], value, f"{path}.{key}", fields[key].metadata)
    missing = [
        name
        for name, field in fields.items()
        if name not in arguments and field.default is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}")
    for name, value in arguments.items():
        for limit, bound in fields[name].metadata.get("limits", {}).items():
            keeps, words = _LIMITS[limit]
            if not keeps(value, bound):
                raise ConfigError(f"{path}.{name} must be {words} {bound}, got {value}")
    return cls(**arguments)


def check_path(cls: type, path: str) -> None:
    """Refuse a dotted setting that ``cls`` does not have, such as ``optim.learn_rate``.

    One that it had under an old name passes.

    Raises:
      ConfigError: The message names the nearest setting.
    """
    if path in getattr(cls, "RENAMED", {}):
        return
    kind: Any = cls
    done = "config"
    for key in path.split("."):
        if not dataclasses.is_dataclass(kind):
            raise ConfigError(f"{done} is a value and has no {key}")
        names = [field.name for field in dataclasses.fields(kind)]
        if key not in names:
            raise _unknown(done, key, names)
        kind, done = _hints(kind)[key], f"{done}.{key}"


def renamed(cls: type, path: str, value: Any) -> tuple[str, Any]:
    """Return the present name and value of a setting that may have an old name.

    Args:
      cls: A dataclass; its ``RENAMED`` has, by the old dotted name, the present one and what each
        old value is called now.
      path: A dotted setting, such as ``mae.action``.
      value: Its value.

    Raises:
      ConfigError: The setting is an old one that never had this value.
    """
    found = getattr(cls, "RENAMED", {}).get(path)
    if found is None:
        return path, value
    name, meanings = found
    if not isinstance(value, str) or value not in meanings:
        raise ConfigError(
            f"config.{path} must be one of {', '.join(meanings)} (it is now config.{name}: "
            f"{', '.join(meanings.values())}), got {value!r}"
        )
    return name, meanings[value]


def present_names(cls: type, values: Mapping[str, Any], path: str = "config") -> dict[str, Any]:
    """Return nested values of ``cls`` with every old name replaced; see ``renamed``.

    Raises:
      ConfigError: A setting is given under both names, with different meanings.
    """
    values = dict(values)
    for old in getattr(cls, "RENAMED", {}):
        section, key = old.split(".")
        if not isinstance(values.get(section), Mapping) or key not in values[section]:
            continue
        values[section] = dict(values[section])
        given = values[section].pop(key)
        name, value = renamed(cls, old, given)
        target, field = name.split(".")
        others = values.get(target, {})
        others = vars(others) if dataclasses.is_dataclass(others) else others
        if not isinstance(others, Mapping):
            continue  # no section, as is found out when it is read
        if others.get(field, value) != value:
            raise ConfigError(
                f"{path}.{old}={given!r} is the old name of {path}.{name}={value!r}, but "
                f"{path}.{name} is {others[field]!r}; give one of the two"
            )
        values[target] = {**others, field: value}
    return values


def to_dict(config: Any) -> dict[str, Any]:
    """Return the nested plain-dict form of a configuration dataclass (JSON-ready)."""
    return dataclasses.asdict(config)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Return the types of fields by name; to read them takes longer than all else here."""
    return typing.get_type_hints(cls)


def _unknown(path: str, key: str, names: list[str]) -> ConfigError:
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {path}.{near[0]}?" if near else f"known: {', '.join(names)}"
    return ConfigError(f"unknown setting {path}.{key}; {hint}")


def _convert(kind: Any, value: Any, path: str, metadata: Mapping[str, Any]) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a section, got {value!r}")
        return from_dict(kind, value, path)
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise ConfigError(f"{path} must be a list, got {value!r}")
        item = typing.get_args(kind)[0]
        return tuple(_convert(item, v, f"{path}[{i}]", metadata) for i, v in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError as error:
            bits = value.bit_length()
            raise ConfigError(f"{path} must be float, got a number of {bits} bits") from error
    if type(value) is not kind:
        raise ConfigError(f"{path} must be {kind.__name__}, got {value!r}")
    choices = metadata.get("choices")
    ending = metadata.get("or_file")
    if choices and value not in choices and not (ending and str(value).endswith(ending)):
        file = f" or a file *{ending}" if ending else ""
        raise ConfigError(f"{path} must be one of {', '.join(choices)}{file}, got {value!r}")
    return value
