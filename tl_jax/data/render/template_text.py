"""The text of a chat template with everything fixed that it may ask for beside the dialogue.

What was chosen for training stands in the text itself, so that whoever has the template, such as an
engine that serves the exported model, writes the very prompts of training without any argument.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import jinja2
import jinja2.meta
import jinja2.sandbox

DATE = datetime.datetime(2024, 7, 26, 12)
"""The day that templates write which ask for today's: another text every day cannot be trained."""

_CLOCK = "strftime_now"
_DIRECTIVES = "aAwdbBmyYHIpMSfjUWGuVcxXDFeTRnt"
_UNPADDED = "dmHIMSjy"
_GENERATION_TAGS = re.compile(r"\{%[-+]?\s*(?:end)?generation\s*[-+]?%\}")


def with_fixed(source: str, settings: Mapping[str, Any]) -> str:
    """Return a template with its variables and the date fixed at its front.

    Args:
      source: The template.
      settings: Variables by name; those that the template does not read are left out.
    """
    fixed = fixed_values(source, settings)
    front = [
        f"{{%- set {name} = {_literal(value)} %}}"
        for name, value in fixed.items()
        if name != _CLOCK
    ]
    if _CLOCK in fixed:
        front.append(_date_macro())
    # A line of its own, so that the template begins as it did.
    return "".join(line + "\n" for line in front) + source


def fixed_values(source: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``with_fixed`` fixes by name, the day that the clock tells included."""
    free = free_names(source)
    known = {"date_string": DATE.strftime("%d %b %Y"), **settings, _CLOCK: f"{DATE:%Y-%m-%d}"}
    return {name: value for name, value in known.items() if name in free}


@functools.lru_cache(maxsize=64)
def free_names(source: str) -> frozenset[str]:
    """Return the variables that a template reads without setting them first.

    Raises:
      ValueError: It is no template.
    """
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    try:
        tree = environment.parse(_GENERATION_TAGS.sub("", source))
        return frozenset(jinja2.meta.find_undeclared_variables(tree))
    except Exception as error:
        line = getattr(error, "lineno", None)
        place = f"line {line}: " if line else ""
        raise ValueError(
            f"the chat template cannot be read ({place}{type(error).__name__}: "
            f"{getattr(error, 'message', error)})"
        ) from error


def _literal(value: Any) -> str:
    """Return a JSON-like value as Jinja writes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value, ensure_ascii=False)


@functools.cache
def _date_macro() -> str:
    """Return a macro that writes the fixed day in any form that a template asks for."""
    forms = {f"%{code}": DATE.strftime(f"%{code}") for code in _DIRECTIVES}
    forms |= {f"%-{code}": DATE.strftime(f"%{code}").lstrip("0") or "0" for code in _UNPADDED}
    forms["%%"] = "%"
    written = "".join(
        f".replace({json.dumps(key)}, {json.dumps(value)})" for key, value in forms.items()
    )
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{written} }}}}{{%- endmacro %}}"
