"""Small rows of every kind that users bring."""

import pytest

from tl_jax.data.importers import BadRow, read


@pytest.fixture
def cases(import_cases):
    """Read a file of small rows into trajectories and bad rows, by id."""

    def rows(name):
        found = list(read(import_cases / f"{name}.jsonl"))
        return {one.row["id"] if isinstance(one, BadRow) else one.id: one for one in found}

    return rows
