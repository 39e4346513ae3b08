"""Readers of trajectory files, one module per source format."""

from tl_jax.data.importers.read import FORMATS, BadRow, Source, read

__all__ = ["FORMATS", "BadRow", "Source", "read"]
