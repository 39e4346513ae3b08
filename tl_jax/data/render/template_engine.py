"""Run chat templates in a sandbox, as ``transformers`` does, on values that are plain already.

``apply_chat_template`` copies the tools and all turns each time that it writes a text, because it
may be given anything. A dialogue is written a dozen times to find its replies; here the values are
copied once, by who marks the control tokens in them. What a template may take of time and memory
has limits (``template_limits``).
"""

from __future__ import annotations

import functools
import json
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.runtime
import jinja2.sandbox
import jinja2.utils

from tl_jax.data.render import template_limits

_THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""Names of thoughts; a template may read any, so they are given under the first two."""


def write(
    source: str,
    turns: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    *,
    prompt: bool,
    special_tokens: Mapping[str, Any],
) -> str:
    """Return what ``apply_chat_template`` writes.

    Args:
      source: The template.
      turns: The messages; like the tools they hold dicts, lists, texts, numbers and None only.
      tools: Tools of the prompt.
      prompt: Add the generation prompt.
      special_tokens: Texts of the tokenizer's special tokens by name.

    Raises:
      LimitExceeded: It takes too much time or memory.
      Exception: Whatever else the template does.
    """
    with template_limits.limited():
        return _compiled(source).render(
            messages=[_named_thoughts(turn) for turn in turns],
            tools=tools,
            documents=None,
            add_generation_prompt=prompt,
            **special_tokens,
        )


def _named_thoughts(turn: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in turn.items() if value is not None}
    thoughts = next((found[key] for key in _THOUGHTS if key in found), None)
    if thoughts is None:
        return found
    return {"thinking": thoughts, **found, "reasoning_content": thoughts}


class Declared(dict[str, Any]):
    """The entry of a tool, and that of its function, whose JSON text is written once.

    Args:
      entry: The entry; it is not changed any more.
    """

    __slots__ = ("_text",)  # which a template cannot read

    def __init__(self, entry: Mapping[str, Any]):
        inner = entry.get("function")
        super().__init__(entry, **({"function": Declared(inner)} if inner else {}))
        self._text = ""


def _declared(entry: Declared) -> str:
    if not entry._text:
        entry._text = _encode(entry)
    return entry._text


_encode = json.JSONEncoder(ensure_ascii=False).encode


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The sandbox, which asks less about what can only be safe: keys of plain objects.

    And it asks more about what could be huge.
    """

    intercepted_binops = frozenset(("*", "**", "%"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Return what the sandbox returns, if it is not huge."""
        template_limits.check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return what the sandbox returns, if it is not huge."""
        method = obj if type(obj) is _Method else getattr(obj, "__wrapped__", None)
        if type(method) is _Method and isinstance(method.__self__, str):
            values = (method.__self__, *args, *kwargs.values())
            template_limits.check_call(method.__name__, values)
        return super().call(context, obj, *args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return what the sandbox returns."""
        kind = type(obj)
        if kind is dict or kind is Declared:
            if attribute not in _OF_OBJECTS and attribute[:1] != "_":
                try:
                    return obj[attribute]
                except KeyError:
                    return self.undefined(obj=obj, name=attribute)
        elif kind is jinja2.runtime.LoopContext and attribute in _OF_LOOPS:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


_Method = types.BuiltinMethodType
_OF_OBJECTS = frozenset(dir(dict))
_OF_LOOPS = frozenset(("first", "last", "index", "index0", "length", "revindex", "revindex0"))


class _Generation(jinja2.ext.Extension):
    """The tag that some templates put round replies; it writes what is in it."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Any) -> str:
        return caller()


class _Dict:
    """The name ``dict`` in a template, without what else a class can do."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(jinja2.utils.Namespace):
    """A namespace whose names do not begin with an underscore, as those of Python's own do."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a field may be called "self"
        self, *rest = args
        fields = dict(*rest, **kwargs)
        for name in fields:
            _check_name(name)
        jinja2.utils.Namespace.__init__(self, fields)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace has no field {name!r}")


def _refuse(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    template_limits.check_call("tojson", (indent, *(separators or ())))
    if indent is separators is None and not ensure_ascii and not sort_keys:
        return _declared(value) if type(value) is Declared else _encode(value)
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


@functools.lru_cache(maxsize=64)
def _compiled(source: str) -> jinja2.Template:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters |= template_limits.modest(environment.filters)
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _refuse,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment.from_string(source)
