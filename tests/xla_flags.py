"""XLA flags that make tests quick, as far as the installed release knows them: others end it."""

import importlib.metadata

_LAST_TO_CHOOSE = (0, 10)


def compile_flags() -> list[str]:
    """Return the flags with which tiny programs compile in half the time.

    They leave out XLA's newer way to emit fused loops, which later releases always take.
    """
    release = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))
    known = release <= _LAST_TO_CHOOSE
    return ["--xla_cpu_use_fusion_emitters=false"] if known else []
