"""Write parameters as a Hugging Face model directory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tl_jax.config import ModelConfig
from tl_jax.convert import hf_directory, names, whole_directory
from tl_jax.convert.hf_directory import ModelError, Writable
from tl_jax.models import functional, lora, nf4, registry
from tl_jax.parallel import processes
from tl_jax.types import Params

_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def save(
    params: Params,
    path: str | Path,
    *,
    config: ModelConfig | None = None,
    source: str | Path | None = None,
    dtype: str = "float32",
    max_shard_bytes: int = hf_directory.SHARD_BYTES,
    generation: Mapping[str, Any] | None = None,
    chat_template: str | None = None,
    tokenizer_settings: Mapping[str, Any] | None = None,
    readme: str = "",
    overwrite: bool = False,
    on_tensor: Callable[[int, int], None] | None = None,
) -> None:
    """Write a model directory that ``transformers`` loads; it appears whole or not at all.

    Host memory holds one tensor at a time, on every host if the parameters are spread over
    several: then every process must call this, and the first one writes.

    Args:
      params: Nested dict of arrays, or of what ``from_hf.stored_params`` left on disk; a critic is
        left out. Adapters are merged into their kernels, one matrix at a time, in float32.
      path: Directory to make.
      config: Architecture of ``params``; None takes the one of ``source``.
      source: Directory the model or its tokenizer came from. Its tokenizer files, chat template
        and generation settings are copied, and its ``config.json`` is kept but for what changed.
        With neither ``config`` nor ``source``, a model directory at ``path`` that is to be
        replaced is the source.
      dtype: Type of the tensors, ``"float32"`` or ``"bfloat16"``.
      max_shard_bytes: Size limit of one safetensors file.
      generation: Entries for ``generation_config.json``, over those of ``source``. The token ids
        among them also go into a ``config.json`` that does not come from ``source``.
      chat_template: Chat template to write in place of that of ``source``; empty leaves it out,
        None keeps it.
      tokenizer_settings: As ``settings`` of ``hf_directory.copy_tokenizer``.
      readme: Model card to write as ``README.md``.
      overwrite: Replace ``path`` if it exists.
      on_tensor: Told how many tensors are written, and of how many.

    Raises:
      ModelError: Neither ``config`` nor a ``source`` with ``config.json``, ``path`` exists,
        ``params`` do not fit the configuration, or the files do not hold what was written.
    """
    hf_directory.dtype_of(dtype)
    if config is None and source is None and (Path(path) / "config.json").is_file():
        source = path
    if source is not None and not Path(source).is_dir():
        raise ModelError(f"{source}: no such directory to take config and tokenizer from")
    settings = _generation(source, generation)
    if source is not None and (Path(source) / "config.json").is_file():
        before = registry.read_config(source)
        config = config or before
        original = hf_directory.read_json(Path(source) / "config.json")
        hf_config = registry.update_hf_config(original, before, config, dtype)
    elif config is not None:
        hf_config = registry.to_hf_config(config) | {"torch_dtype": dtype}
        hf_config |= {name: settings[name] for name in _TOKEN_IDS if name in settings}
    else:
        raise ModelError(
            f"cannot write {path}: shapes alone do not tell the number of heads; give source=DIR, "
            "the directory the model was loaded from (with config.json), or config=ModelConfig(...)"
        )
    _check(params, config)
    with whole_directory.written_by_first(path, overwrite=overwrite) as directory:
        hf_directory.write_tensors(
            directory,
            _writable(params, config),
            dtype=dtype,
            max_shard_bytes=max_shard_bytes,
            on_tensor=on_tensor,
        )
        if directory is not None:
            if source is not None:
                hf_directory.copy_tokenizer(
                    source, directory, chat_template=chat_template, settings=tokenizer_settings
                )
            if readme:
                (directory / "README.md").write_text(readme, encoding="utf-8")
            if settings:
                hf_directory.write_json(directory / "generation_config.json", settings)
            # Last, so that a directory without it is known to be unfinished.
            hf_directory.write_json(directory / "config.json", hf_config)


def _exported(params: Params) -> dict[names.Path, Any]:
    leaves = names.flatten(params)
    return {leaf_path: leaf for leaf_path, leaf in leaves if leaf_path[0] not in names.LOCAL_ROOTS}


def _check(params: Params, config: ModelConfig) -> None:
    wanted = {path: info.shape for path, info in names.flatten(functional.abstract_params(config))}
    found = {path: tuple(leaf.shape) for path, leaf in _exported(params).items()}
    for path in sorted(wanted.keys() | found.keys()):
        if wanted.get(path) != found.get(path):
            raise ModelError(
                f"parameter {'/'.join(path)} has shape {found.get(path)}, the configuration calls "
                f"for {wanted.get(path)} (None: absent)"
            )


def _writable(params: Params, config: ModelConfig) -> dict[str, Writable]:
    leaves = _exported(params)
    for path in [path for path in leaves if path[-1] == nf4.CODES]:
        *module, _ = path
        kernels = nf4.Kernels(leaves[path], leaves[*module, nf4.SCALES])
        leaves[*module, "kernel"] = kernels
    tensors = names.tensors(
        {path: tuple(leaf.shape) for path, leaf in leaves.items() if path in names.TABLE}
    )
    return {
        name: Writable(tensor.shape, functools.partial(_fetch, leaves, tensor, config))
        for name, tensor in tensors.items()
    }


def _fetch(leaves: dict[names.Path, Any], tensor: names.Tensor, config: ModelConfig) -> np.ndarray:
    block = _part(leaves[tensor.path], tensor.layer)
    *module, name = tensor.path
    if name == "kernel" and (*module, lora.A) in leaves:
        a, b = (_part(leaves[*module, factor], tensor.layer) for factor in (lora.A, lora.B))
        block = lora.merged_kernel(block, a, b, config.lora)
    return block.T if names.TABLE[tensor.path].transpose else block


def _part(leaf: Any, layer: int | None) -> np.ndarray:
    if layer is not None:
        return processes.gather(leaf[layer])
    # An array keeps what was fetched of it on the host; a copy takes that along when it goes.
    return processes.gather(leaf.copy() if isinstance(leaf, jax.Array) else leaf)


def _generation(source: str | Path | None, generation: Mapping[str, Any] | None) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if source is not None and (Path(source) / "generation_config.json").is_file():
        settings = hf_directory.read_json(Path(source) / "generation_config.json")
    return settings | dict(generation or {})
