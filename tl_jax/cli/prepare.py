"""prepare: read trajectories, judge their calls (MAE), weigh their tokens (PKT), write token files.

Reads config.data.path (a .jsonl, .jsonl.gz or .json file, or "synthetic" for the embedded tool
world), or the weighted files of config.data.sources, and leaves in <run_dir>/data: examples.jsonl
and validation.jsonl (token ids and loss weights), prompts.jsonl (prompts with gold calls for
reward training), quarantine.jsonl (rows that could not be read, with file, line and reason),
removed.jsonl (duplicates and overlaps with evaluation sets: config.data.contamination_paths and
config.evaluate.rotbench_path), mae_report.json (what was kept, dropped, why, and from which source)
and loader_report.json (how full the packed rows are).
Running it again with the same inputs changes nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tl_jax.cli.workspace import Workspace
from tl_jax.config import DataConfig, ModelConfig, RunConfig
from tl_jax.convert import gguf, hub, to_hf
from tl_jax.data import dataset
from tl_jax.data.contamination import EvaluationSets, check_files
from tl_jax.data.importers import BadRow
from tl_jax.data.pipeline import measure
from tl_jax.data.prepared_files import EXAMPLES, LOADER_REPORT, write_json
from tl_jax.data.sources import open_sources
from tl_jax.data.split import is_validation, round_robin
from tl_jax.data.template_trial import TEMPLATES
from tl_jax.data.templates import STYLES, render_prompt
from tl_jax.data.tokenizer import train_byte_bpe
from tl_jax.models import functional, registry
from tl_jax.parallel import processes
from tl_jax.report.read import read_json
from tl_jax.settings import ConfigError

TOKENIZER_TEXTS = 4000
_ENTRIES_SHOWN = 6


def main(workspace: Workspace, console: Console) -> None:
    """Prepare the model directory and the token files, and print the counts."""
    if processes.is_first():
        checked_data(workspace.config)  # before anything is converted or trained
        make_model(workspace, console)
        registry.check_lengths(workspace.config, workspace.model)
        _show(prepare(workspace), console)
        _show_loader(measure_loader(workspace), console)
    processes.wait_for_all("prepare")


def make_model(workspace: Workspace, console: Console) -> None:
    """Fetch a model of the Hub, or turn a GGUF file or sizes into ``<run_dir>/model``, once."""
    source = workspace.config.model
    if (workspace.model_dir / "config.json").exists():
        return
    if source.path.endswith(".gguf"):
        console.print(f"converting {source.path} to {workspace.model_dir}", markup=False)
        gguf.convert(source.path, workspace.model_dir, overwrite=True)
    elif source.path == "scratch":
        if workspace.config.data.template in TEMPLATES:
            raise ConfigError(
                "config.data.template: a model from scratch has no chat tokens; take "
                f"{' or '.join(map(repr, STYLES))}"
            )
        console.print(f"training a tokenizer and initialising {workspace.model_dir}", markup=False)
        bpe = workspace.run_dir / "tokenizer"
        texts = itertools.islice(_texts(workspace), TOKENIZER_TEXTS)
        tokenizer = train_byte_bpe(texts, source.scratch_vocab_size, bpe)
        config = scratch_config(workspace.config, tokenizer.vocab_size)
        to_hf.save(
            functional.init(config, jax.random.key(workspace.config.seed)),
            workspace.model_dir,
            config=config,
            source=bpe,
            generation={"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id},
            overwrite=True,
        )
    elif hub.is_id(source.path):
        console.print(f"fetching {source.path} from the Hugging Face Hub", markup=False)
        model = hub.pin(source.path, workspace.run_dir)
        console.print(f"this run uses {model.id} at commit {model.commit}", markup=False)
    else:
        raise ConfigError(f"config.model.path: {source.path} has no config.json")


def scratch_config(config: RunConfig, vocab_size: int) -> ModelConfig:
    """Return the architecture of a model from scratch; its context holds every text of the run.

    Raises:
      ConfigError: The heads do not divide the sizes.
    """
    source = config.model
    if source.scratch_embed_dim % (2 * source.scratch_num_heads):
        raise ConfigError(
            f"config.model.scratch_embed_dim {source.scratch_embed_dim} must be a multiple of "
            f"twice scratch_num_heads {source.scratch_num_heads}"
        )
    if source.scratch_num_heads % source.scratch_num_kv_heads:
        raise ConfigError(
            f"config.model.scratch_num_heads {source.scratch_num_heads} must be a multiple of "
            f"scratch_num_kv_heads {source.scratch_num_kv_heads}"
        )
    generating = (config.ppo, config.evaluate)
    return ModelConfig(
        vocab_size=vocab_size,
        embed_dim=source.scratch_embed_dim,
        num_layers=source.scratch_num_layers,
        num_heads=source.scratch_num_heads,
        num_kv_heads=source.scratch_num_kv_heads,
        head_dim=source.scratch_embed_dim // source.scratch_num_heads,
        mlp_dim=source.scratch_mlp_dim,
        tie_embeddings=True,
        max_position=max(
            2 * config.data.max_length,
            *(limits.max_prompt_length + limits.max_new_tokens for limits in generating),
        ),
    )


def checked_data(config: RunConfig) -> DataConfig:
    """Return the data settings with RoTBench's file among the sets to find overlaps with.

    Raises:
      ConfigError: An evaluation set that is no file.
    """
    rotbench = (config.evaluate.rotbench_path,) if config.evaluate.rotbench_path else ()
    named = config.data.contamination_paths
    check_files(named)
    check_files(rotbench, "evaluate.rotbench_path")
    paths = tuple(dict.fromkeys((*named, *rotbench)))
    return dataclasses.replace(config.data, contamination_paths=paths)


def prepare(workspace: Workspace) -> dict[str, Any]:
    """Write the token files and return the report.

    Raises:
      ConfigError: An evaluation set or a source that is no file, or a token that the model does
        not have.
      DataError: See ``dataset.prepare``.
    """
    config, vocab_size = workspace.config, workspace.model.vocab_size
    workspace.tokenizer.check_ids(workspace.stop_ids, vocab_size)
    return dataset.prepare(
        open_sources(config.data, config.seed),
        workspace.tokenizer,
        data=checked_data(config),
        mae=config.mae,
        key_tokens=config.key_tokens,
        seed=config.seed,
        out_dir=workspace.data_dir,
        vocab_size=vocab_size,
    )


def measure_loader(workspace: Workspace) -> dict[str, Any]:
    """Return how full the training rows are, from ``data/loader_report.json`` if it is there.

    New data come in a new directory, so that a report is always of the data beside it.
    """
    data = workspace.config.data
    settings: dict[str, Any] = {
        "length": data.max_length,
        "seed": workspace.config.seed,
        "packing": data.packing,
        "packing_bins": data.packing_bins,
        "packing_fit": data.packing_fit,
    }
    path = workspace.data_dir / LOADER_REPORT
    report = read_json(path)
    if report.get("settings") != {**settings, "batch_size": data.batch_size}:
        report = measure(workspace.data_dir / EXAMPLES, **settings)
        report["settings"] = {**settings, "batch_size": data.batch_size}
        if report["complete"]:
            report["steps_per_epoch"] = max(1, report["rows"] // data.batch_size)
        write_json(path, report)
    return report


def _texts(workspace: Workspace) -> Iterator[str]:
    """Yield texts of all sources in turn, to train a tokenizer: only what may be trained on."""
    data = checked_data(workspace.config)
    apart = data.contamination_paths if data.contamination_action == "remove" else ()
    sets = EvaluationSets(apart, data.contamination_checks)
    for row in round_robin(s.rows for s in open_sources(data, workspace.config.seed)):
        if isinstance(row, BadRow) or is_validation(row, data.validation_fraction):
            continue
        if sets.hits(row):
            continue
        try:
            text = render_prompt(row.tools, row.messages, data.template).text
        except ValueError:
            continue  # comes into quarantine when the data are prepared
        yield text


def _show(report: dict[str, Any], console: Console) -> None:
    table = Table(title="prepared data", show_header=False)
    for name, value in report.items():
        if name == "sources":
            name, value = "rows_by_source", {key: entry["rows"] for key, entry in value.items()}
        if name == "checked_against" and value:
            name = "evaluation_queries_compared"
            value = {entry["path"]: entry["queries"] for entry in value}
        label = name.replace("_", " ")
        if isinstance(value, int):
            table.add_row(label, f"{value:,}")
        elif isinstance(value, dict) and value:
            table.add_row(label, escape(_commonest(value)))
    console.print(table)


def _show_loader(report: dict[str, Any], console: Console) -> None:
    much = "an epoch has" if report["complete"] else "measured"
    console.print(
        f"{much} {report['rows']:,} rows, {100 * report['fill']:.1f} % full, "
        f"{100 * report['trained_token_share']:.1f} % of the tokens are trained",
        highlight=False,
    )


def _commonest(counts: dict[str, int]) -> str:
    """Return the largest counts in words, in the order given."""
    shown = set(sorted(counts, key=lambda key: -counts[key])[:_ENTRIES_SHOWN])
    words = [f"{key} {number:,}" for key, number in counts.items() if key in shown]
    more = len(counts) - len(shown)
    return ", ".join([*words, *([f"and {more} more"] if more else [])])
