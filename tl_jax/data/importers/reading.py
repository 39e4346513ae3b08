"""How the messages of a row are read: what its tools are, what a null says, what to count."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers.answers import Turn

TextReader = Callable[[str, str], "Sequence[Turn] | None"]
"""Given a role and a text, the turns that the text stands for, or None: it is only text."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How the messages of a row are read.

    Attributes:
      read_text: Finds calls and answers that a source writes into its texts.
      tools: The declared tools by name.
      table: Whether the row comes from a table, where a null says nothing.
      mask_trains: What a true ``mask`` means, see ``turn_weights.mask_trains``.
      repairs: Counts by kind; see ``REPAIRS``.
    """

    read_text: TextReader | None = None
    tools: Mapping[str, ToolSpec] = dataclasses.field(default_factory=dict)
    table: bool = False
    mask_trains: bool | None = None
    repairs: Counter[str] = dataclasses.field(default_factory=Counter)
