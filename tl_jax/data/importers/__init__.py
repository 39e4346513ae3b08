"""Readers of trajectory files, one module per source format."""

from tl_jax.data.importers.custom import open_importer
from tl_jax.data.importers.read import FORMATS, Source, read
from tl_jax.data.importers.rows import BadRow, RawRow

__all__ = ["FORMATS", "BadRow", "RawRow", "Source", "open_importer", "read"]
