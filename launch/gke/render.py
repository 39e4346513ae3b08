"""Fill a template of launch/gke from the environment, and fail on a value that is missing.

    python3 launch/gke/render.py TEMPLATE [TL_JAX_ARGUMENT ...] > FILE

Each ``${NAME}`` of a template stands for one whole YAML value and is written as JSON, which YAML
includes, so no value can change the structure around it. Needs nothing but Python.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PLACE = re.compile(r"\$\{([A-Z_]+)\}")

# Values that are computed, and from which.
DERIVED = {"HOSTS": ("TOPOLOGY", "CHIPS_PER_HOST")}
NUMBERS = ("SLICES", "CHIPS_PER_HOST", "MAX_RESTARTS", "QUOTA_CHIPS")


class RenderError(ValueError):
    """A value that is missing or cannot be used; the message names it."""


def values(environment: Mapping[str, str], arguments: Sequence[str]) -> dict[str, Any]:
    """Return what templates may ask for: the environment, numbers as such, derived values.

    Args:
      environment: Variables by name; empty ones count as missing.
      arguments: Arguments of tl-jax, the value of ``ARGUMENTS``.

    Raises:
      RenderError: A number is none, or the topology does not fill whole hosts.
    """
    known: dict[str, Any] = {name: value for name, value in environment.items() if value}
    for name in NUMBERS:
        if name in known:
            if not re.fullmatch(r"[0-9]+", known[name]):
                raise RenderError(f"{name}={known[name]} must be a whole number")
            known[name] = int(known[name])
    if all(name in known for name in DERIVED["HOSTS"]):
        known["HOSTS"] = _hosts(known["TOPOLOGY"], known["CHIPS_PER_HOST"])
    if arguments:
        known["ARGUMENTS"] = ["launch/run_stages.sh", *arguments]
    return known


def render(template: str, known: Mapping[str, Any]) -> str:
    """Return ``template`` with each ``${NAME}`` replaced by its value as JSON.

    Raises:
      RenderError: Values are missing (all are named), or a ``$`` begins no placeholder.
    """
    missing = set(_PLACE.findall(template)) - known.keys()
    if missing == {"ARGUMENTS"}:
        raise RenderError("give the arguments of tl-jax after the template")
    wanted = {source for name in missing for source in DERIVED.get(name, (name,))} - {"ARGUMENTS"}
    if wanted - known.keys():
        names = " ".join(sorted(wanted - known.keys()))
        raise RenderError(f"set {names}; launch/env.example explains each")
    if "$" in _PLACE.sub("", template):
        raise RenderError("the template has a $ that begins no ${NAME}")
    return _PLACE.sub(lambda match: json.dumps(known[match[1]]), template)


def _hosts(topology: str, chips_per_host: int) -> int:
    if not re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*){1,2}", topology):
        raise RenderError(f"TOPOLOGY={topology} must look like 16x16 or 4x4x4")
    chips = math.prod(int(size) for size in topology.split("x"))
    if not chips_per_host or chips % chips_per_host:
        raise RenderError(
            f"TOPOLOGY={topology} has {chips} chips, which CHIPS_PER_HOST={chips_per_host} "
            "does not divide"
        )
    return chips // chips_per_host


def main(argv: Sequence[str]) -> int:
    """Write the rendered template to the standard output; return the exit status."""
    if not argv:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        template = Path(argv[0]).read_text(encoding="utf-8")
        sys.stdout.write(render(template, values(os.environ, argv[1:])))
    except (OSError, RenderError) as error:
        print(f"render.py: {argv[0]}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
