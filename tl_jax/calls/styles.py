"""The call styles, each one entry: how it is read, written, found in a text and constrained.

A new style is an entry of ``json_styles`` or ``text_styles``; where its calls are of another kind, it
also needs a form, with what ``style.Form`` asks for.

Source: the chat templates of the families that are named, and what serving engines read for them.
"""

from __future__ import annotations

from collections.abc import Mapping

from tl_jax.calls.json_styles import JSON_STYLES, NAMED_STYLES
from tl_jax.calls.python_form import PythonForm
from tl_jax.calls.style import Style
from tl_jax.calls.text_styles import PYTHON_IN_TAGS, TEXT_STYLES

STYLES: Mapping[str, Style] = {
    "python": Style((PythonForm(),), constrained=True),
    **JSON_STYLES,
    **NAMED_STYLES,
    **TEXT_STYLES,
    **PYTHON_IN_TAGS,
}
"""Call styles by name; where a text can be read in several, the first is meant."""
