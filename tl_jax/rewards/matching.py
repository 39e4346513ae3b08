"""The best one-to-one matching between two sets."""

from __future__ import annotations

from collections.abc import Sequence

_NONE = -1


def best_assignment(values_RC: Sequence[Sequence[float]]) -> list[int]:
    """Return the column of every row such that the sum of their values is greatest.

    Exact for every size; time grows with rows² · columns, at 32 x 32 some milliseconds.

    Args:
      values_RC: Finite value of every pair of a row and a column; no more rows than columns.

    Returns:
      One column per row, each at most once.

    Raises:
      ValueError: There are more rows than columns.

    Source: the Hungarian method in the form of shortest augmenting paths (R. Jonker and
    A. Volgenant, 1987).
    """
    rows = len(values_RC)
    columns = len(values_RC[0]) if rows else 0
    if rows > columns:
        raise ValueError(f"{rows} rows cannot each have one of {columns} columns")
    # The potentials keep cost - of_row - of_column at 0 or above, and at 0 for matched pairs.
    of_row, of_column = [0.0] * rows, [0.0] * columns
    row_of = [_NONE] * columns
    for free in range(rows):
        distance = [float("inf")] * columns
        before = [_NONE] * columns
        done = [False] * columns
        row, column = free, _NONE
        while True:
            step, nearest = float("inf"), -1
            for at in range(columns):
                if done[at]:
                    continue
                reduced = -values_RC[row][at] - of_row[row] - of_column[at]
                if reduced < distance[at]:
                    distance[at], before[at] = reduced, column
                if distance[at] < step:
                    step, nearest = distance[at], at
            of_row[free] += step
            for at in range(columns):
                if done[at]:
                    of_row[row_of[at]] += step
                    of_column[at] -= step
                else:
                    distance[at] -= step
            column = nearest
            done[column] = True
            if row_of[column] == _NONE:
                break
            row = row_of[column]
        while column != _NONE:
            earlier = before[column]
            row_of[column] = free if earlier == _NONE else row_of[earlier]
            column = earlier
    result = [0] * rows
    for at, owner in enumerate(row_of):
        if owner != _NONE:
            result[owner] = at
    return result
