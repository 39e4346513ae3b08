"""Readers of trajectory files, one module per source format."""

from tl_jax.data.importers.custom import open_importer
from tl_jax.data.importers.hub_sets import is_file as is_hub_file
from tl_jax.data.importers.places import is_hub_id, missing
from tl_jax.data.importers.read import FORMATS, Source, read
from tl_jax.data.importers.rows import BadRow, RawRow

__all__ = [
    "FORMATS",
    "BadRow",
    "RawRow",
    "Source",
    "is_hub_file",
    "is_hub_id",
    "missing",
    "open_importer",
    "read",
]
