"""How many batches passes over prepared data fill."""

from __future__ import annotations

import math


def steps_of_epochs(epochs: float, rows: int, batch_size: int) -> int:
    """Return the steps of so many passes over the rows of an epoch, at least one.

    Args:
      epochs: Passes, parts of one too.
      rows: Of an epoch, as ``loader_report.json`` counts them.
      batch_size: Rows of a step.
    """
    return max(1, math.ceil(round(epochs * rows / batch_size, 6)))
