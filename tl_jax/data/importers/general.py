"""The general forms of dialogues, for rows that hold one of them inside something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import (
    anthropic,
    gemini,
    langchain,
    message_parts,
    openai,
    responses,
    sharegpt,
)

_MODULES = (message_parts, anthropic, responses, langchain, gemini, sharegpt, openai)


def importer_of(row: Mapping[str, Any]) -> Any:
    """Return the first importer of a general form that knows a row, or None."""
    return next((module for module in _MODULES if module.recognise(row)), None)
