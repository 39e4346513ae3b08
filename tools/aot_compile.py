"""Compile the programs of a configuration for a TPU pod, on a machine without one.

    python tools/aot_compile.py --config=configs/codellama_7b_v5e256.py

The compiler is the package libtpu, for any x86-64 Linux machine:

    .venv/bin/pip install --constraint tools/constraints.txt libtpu

It says how much memory a chip needs and refuses what does not fit. Times are bounds from published
peaks, not measurements; the formula stands below the table. The step of a 7B model compiles in
minutes, for v6e in ten to twenty-one.

    --topology=v5e:16x16 --num_slices=2   instead of the configuration's mesh.topology and slices
    --programs=NAME,...                   some of supervised, update, score, prefill, decode; the
                                          others keep the figures that FILE has
    --flags=FILE                          instead of launch/xla_flags/CHIP.txt; empty: none
    --search                              find the largest batch that fits, too
    --rank=VARIANT,...                    instead of the programs, compare variants of the step of
                                          the supervised phase: POLICY[-WORD ...][+FLAG=VALUE ...],
                                          a policy of model.remat, without the compiler flags whose
                                          names have a word in them ("-" alone: without any), and
                                          with others
    --json=FILE                           put the figures into FILE, beside those of others
    --hlo=DIRECTORY                       keep the text of the compiled programs
    --config.section.field=value          as for tl-jax

The table of configs/README.md is tools/bench/results/aot.json, made by tools/aot_table.sh, as is
the ranking rank.json beside it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from absl import app, flags
from ml_collections import config_flags
from rich.console import Console

from tl_jax.aot import compile, roofline
from tl_jax.config import RunConfig
from tl_jax.config.fields import from_dict
from tl_jax.errors import ConfigError
from tl_jax.parallel import tpu
from tl_jax.run.directory import Run
from tl_jax.run.prepare import known_model

ROOT = Path(__file__).resolve().parents[1]

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.")
_TOPOLOGY = flags.DEFINE_string("topology", None, "Such as v5e:16x16.")
_SLICES = flags.DEFINE_integer("num_slices", None, "Slices of that topology.")
_PROGRAMS = flags.DEFINE_list("programs", None, "Some of the programs only.")
_FLAGS = flags.DEFINE_string("flags", None, "File of compiler flags.")
_SEARCH = flags.DEFINE_bool("search", False, "Find the largest batch.")
_RANK = flags.DEFINE_list("rank", None, "Variants to compare.")
_JSON = flags.DEFINE_string("json", None, "File for the figures.")
_HLO = flags.DEFINE_string("hlo", None, "Directory for compiled programs.")


def read_config() -> RunConfig:
    """Return the configuration with the pod that the flags name."""
    values = _CONFIG.value.to_dict()
    for field, flag in (("topology", _TOPOLOGY), ("slices", _SLICES)):
        if flag.value is not None:
            values["mesh"][field] = flag.value
    return from_dict(RunConfig, values)


def read_options(config: RunConfig) -> dict[str, str]:
    """Return the compiler flags of the pod's chip."""
    chip, _ = tpu.parse(config.mesh.topology)
    name = _FLAGS.value
    path = ROOT / "launch" / "xla_flags" / f"{chip}.txt" if name is None else Path(name)
    return tpu.read_flags(path.read_text()) if name != "" else {}


def read(name: str) -> dict[str, Any]:
    """Return the figures of one configuration that the file of --json has."""
    path = Path(_JSON.value) if _JSON.value else None
    return json.loads(path.read_text()).get(name, {}) if path and path.exists() else {}


def write(path: Path, name: str, figures: dict[str, Any]) -> None:
    """Put the figures of one configuration into a file that may hold others'."""
    found = json.loads(path.read_text()) if path.exists() else {}
    found[name] = figures
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def rank(pod: compile.Pod, name: str) -> list[Any]:
    """Return the ranking; of variants that are not asked for, the rows that the file has."""
    rows = {row["variant"]: row for row in read(name).get("ranking", ())}
    for text in _RANK.value:
        rows[text] = compile.rank_variant(pod, text)
        if _JSON.value:
            ranking = {**compile.describe(pod), "ranking": compile.ranked(rows.values())}
            write(Path(_JSON.value), name, ranking)
    return compile.ranked(rows.values())


def main(argv: list[str]) -> None:
    if len(argv) > 1 or _CONFIG.value is None:
        sys.exit(__doc__)
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    try:
        config = read_config()
        pod = compile.open_pod(config, known_model(Run(config)), read_options(config))
        figures = {**compile.describe(pod), "programs": []}
        console = Console(width=None if sys.stdout.isatty() else 160)
        name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
        if _RANK.value:
            console.print(compile.ranking_table(f"variants of {name}", rank(pod, name)))
            return
        known = read(name).get("programs", []) if _PROGRAMS.value else []
        rows = {row["program"]: row for row in known}
        for program in _PROGRAMS.value or compile.names(config):
            keep = Path(_HLO.value) / name if _HLO.value else None
            rows[program] = compile.measure(program, pod, keep=keep)
            figures["programs"] = [rows[one] for one in compile.names(config) if one in rows]
            if _JSON.value:
                write(Path(_JSON.value), name, figures)
        if _SEARCH.value:
            figures["largest_batch"] = compile.largest_batch(pod)
            if _JSON.value:
                write(Path(_JSON.value), name, figures)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    title = f"{name} on {config.mesh.slices} x {config.mesh.topology}"
    console.print(compile.table(title, figures["programs"]))
    if _SEARCH.value:
        console.print(f"largest batch that fits: {figures['largest_batch']} rows")
    console.print(roofline.FORMULA, markup=False, highlight=False)


if __name__ == "__main__":
    app.run(main)
