"""TL-Training in JAX: teach language models to call tools."""

__version__ = "0.1.0"
