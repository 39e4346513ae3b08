"""Fill the run directory with what training reads: the initial model and the token files."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from rich.console import Console

from tl_jax.config import DataConfig, ModelConfig, RunConfig
from tl_jax.convert import gguf, hub, to_hf, whole_directory
from tl_jax.data.importers import BadRow
from tl_jax.data.loader.loader import measure
from tl_jax.data.prepare import dataset
from tl_jax.data.prepare.contamination import EvaluationSets, check_files
from tl_jax.data.prepare.files import EXAMPLES, LOADER_REPORT, write_json
from tl_jax.data.prepare.sources import open_sources
from tl_jax.data.prepare.split import is_validation, round_robin
from tl_jax.data.render.paper_template import STYLES, render_prompt
from tl_jax.data.render.probe import AUTO, PAPER
from tl_jax.data.tokenize.tokenizer import load_tokenizer, train_byte_bpe
from tl_jax.errors import ConfigError
from tl_jax.models import functional, known, registry
from tl_jax.parallel import processes
from tl_jax.report.read import read_json
from tl_jax.run.directory import Run

TOKENIZER_TEXTS = 4000
_ROWS_MEASURED = 4096


def make_model(run: Run, console: Console) -> None:
    """Fetch a model of the Hub, or turn a GGUF file or sizes into ``<run_dir>/model``, once."""
    source = run.config.model
    if (run.model_dir / "config.json").exists():
        return
    if source.path.endswith(".gguf"):
        console.print(f"converting {source.path} to {run.model_dir}", markup=False)
        gguf.convert(source.path, run.model_dir, overwrite=True)
    elif source.path == "scratch":
        if run.config.data.template not in (AUTO, *STYLES):
            raise ConfigError(
                "config.data.template: a model from scratch has no chat tokens; take "
                f"{' or '.join(map(repr, STYLES))}"
            )
        console.print(f"training a tokenizer and initialising {run.model_dir}", markup=False)
        bpe = run.run_dir / "tokenizer"
        texts = itertools.islice(_texts(run), TOKENIZER_TEXTS)
        with whole_directory.written_by_first(bpe, overwrite=True) as made:
            if made is not None:
                train_byte_bpe(texts, source.scratch_vocab_size, made)
        tokenizer = load_tokenizer(bpe)
        config = scratch_config(run.config, tokenizer.vocab_size)
        to_hf.save(
            functional.init(config, jax.random.key(run.config.seed)),
            run.model_dir,
            config=config,
            source=bpe,
            generation={"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id},
            overwrite=True,
        )
    elif hub.is_id(source.path):
        console.print(f"fetching {source.path} from the Hugging Face Hub", markup=False)
        if processes.is_first():
            hub.pin(source.path, run.run_dir)
        processes.wait_for_all("commit of the model")  # the others take the one it has decided
        model = hub.pin(source.path, run.run_dir)
        console.print(f"this run uses {model.id} at commit {model.commit}", markup=False)
    else:
        raise ConfigError(f"config.model.path: {source.path} has no config.json")


def discard_outdated(run: Run, changed: Iterable[str]) -> None:
    """Remove a model that was made of other settings, so that it is made again.

    Called while nothing is trained; data are prepared again by themselves.

    Args:
      run: The run with its new settings.
      changed: Names of the settings that are new.
    """
    path = run.config.model.path
    parts = ("model.path", "model.scratch_", "seed")
    if path == "scratch":
        parts = (*parts, "data.", "evaluate.")  # what its tokenizer learns from, and its context
    if any(name.startswith(parts) for name in changed) and run.newest_phase() == "before":
        if processes.is_first():
            for name in ("model", "tokenizer"):
                shutil.rmtree(run.run_dir / name, ignore_errors=True)
        processes.wait_for_all("discard_outdated")


def known_model(run: Run) -> ModelConfig:
    """Return the architecture, also of a model that is only made when the data are prepared.

    The vocabulary of a model from scratch is its upper limit; little data may give less. Of models
    that are not known here the Hugging Face Hub is asked.
    """
    found = planned_model(run)
    if found is not None:
        return found
    directory = hub.fetch(run.config.model.path, ("config.json",)).directory
    return _computed(run.config, registry.read_config(directory))


def planned_model(run: Run) -> ModelConfig | None:
    """Return what ``known_model`` does as far as this machine knows it without network."""
    source = run.config.model
    if (run.model_dir / "config.json").exists():
        return run.model
    if source.path == "scratch":
        return _computed(run.config, scratch_config(run.config, source.scratch_vocab_size))
    if source.path.endswith(".gguf"):
        return _computed(run.config, gguf.read_config(source.path))
    if hub.is_id(source.path):
        found = known.find(source.path)
        return None if found is None else _computed(run.config, found)
    return run.model


def _computed(config: RunConfig, model: ModelConfig) -> ModelConfig:
    source = config.model
    return dataclasses.replace(
        model,
        dtype=source.dtype,
        param_dtype=source.param_dtype,
        remat=source.remat,
        unroll=source.unroll,
        attention=source.attention,
        splash=source.splash,
        lora=config.lora,
    )


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


def prepare(run: Run) -> dict[str, Any]:
    """Write the token files and return the report; with several processes all of them must call it.

    Each prepares its part of the data in the run directory, which all of them see.

    Raises:
      ConfigError: An evaluation set or a source that is no file, or a token that the model does
        not have.
      DataError: See ``dataset.prepare``; also if the inputs of data that the run has been trained
        on have changed, and ``run.force`` is not set.
    """
    config, vocab_size = run.config, run.model.vocab_size
    run.tokenizer.check_ids(run.renderer.stop_ids, vocab_size)
    trained = run.newest_phase() != "before"
    return dataset.prepare(
        open_sources(config.data, config.seed),
        run.tokenizer,
        data=checked_data(config),
        mae=config.mae,
        key_tokens=config.key_tokens,
        seed=config.seed,
        out_dir=run.data_dir,
        vocab_size=vocab_size,
        hosts=dataset.Hosts(jax.process_index(), jax.process_count(), processes.wait_for_all),
        keep=trained and not run.force,
    )


def measure_loader(run: Run, shared_prefixes: bool | None = None) -> dict[str, Any]:
    """Return how full the training rows are, from ``data/loader_report.json`` if it is there.

    New data come in a new directory, so that a report is always of the data beside it. Where epochs
    are to be trained, all rows of one are counted.

    Args:
      run: The run.
      shared_prefixes: Whether the devices that train compute what samples begin with once; None
        where that is not known: as a report says, or as it is set.
    """
    data = run.config.data
    settings: dict[str, Any] = {
        "length": data.row_tokens,
        "seed": run.config.seed,
        "packing": data.packing,
        "packing_bins": data.packing_bins,
        "packing_fit": data.packing_fit,
    }
    path = run.data_dir / LOADER_REPORT
    report = read_json(path)
    shared = shared_prefixes
    if shared is None:
        known = report.get("settings", {}).get("shared_prefixes", data.shared_prefixes)
        shared = data.shared_prefixes and known
    settings["shared_prefixes"] = shared
    whole = bool(run.config.train.epochs)
    same = report.get("settings") == {**settings, "batch_size": data.batch_size}
    if not same or (whole and not report["complete"]):
        most_rows = sys.maxsize if whole else _ROWS_MEASURED
        report = measure(run.data_dir / EXAMPLES, **settings, most_rows=most_rows)
        report["settings"] = {**settings, "batch_size": data.batch_size}
        if report["complete"]:
            report["steps_per_epoch"] = math.ceil(report["rows"] / data.batch_size)
        write_json(path, report)
    return report


def _texts(run: Run) -> Iterator[str]:
    """Yield texts of all sources in turn, to train a tokenizer: only what may be trained on."""
    data = checked_data(run.config)
    style = data.template if data.template in STYLES else PAPER  # as "auto" comes to
    apart = data.contamination_paths if data.contamination_action == "remove" else ()
    sets = EvaluationSets(apart, data.contamination_checks)
    for row in round_robin(s.rows for s in open_sources(data, run.config.seed)):
        if isinstance(row, BadRow) or is_validation(row, data.validation_fraction):
            continue
        if sets.hits(row):
            continue
        try:
            text = render_prompt(row.tools, row.messages, style).text
        except ValueError:
            continue  # comes into quarantine when the data are prepared
        yield text
