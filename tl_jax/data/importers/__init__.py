"""Readers of trajectory files, one module per source format."""

from tl_jax.data.importers.custom import open_importer
from tl_jax.data.importers.read import FORMATS, BadRow, Source, read

__all__ = ["FORMATS", "BadRow", "Source", "open_importer", "read"]
