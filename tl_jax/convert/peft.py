"""LoRA adapters in PEFT's form: ``adapter_model.safetensors`` beside ``adapter_config.json``.

Source: ``peft/utils/save_and_load.py`` and ``peft/tuners/lora/config.py`` of PEFT 0.21.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from tl_jax.config import LoraConfig, ModelConfig
from tl_jax.convert import (
    hf_directory,
    model_files,
    names,
    safetensors_file,
    whole_directory,
)
from tl_jax.convert.hf_directory import ModelError
from tl_jax.convert.safetensors_file import Writable, all_finite
from tl_jax.errors import ConfigError
from tl_jax.models import functional, lora
from tl_jax.parallel import processes
from tl_jax.parallel import sharding as sharding_lib
from tl_jax.types import Params

_WEIGHTS, _CONFIG = "adapter_model.safetensors", model_files.ADAPTERS
FILES = (_CONFIG, _WEIGHTS)
"""The files of a directory of adapters that are read."""
_PREFIX, _KERNEL = "base_model.model.", ".weight"
_FACTORS = {lora.A: ".lora_A.weight", lora.B: ".lora_B.weight"}

# Fields that change what an adapter does, with the values that mean plain LoRA. Some
# initialisations change the frozen model, too; those named here do not.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False,),
    "lora_bias": (False,),
    "fan_in_fan_out": (False,),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "modules_to_save": ([],),
    "layer_replication": (),
    "trainable_token_indices": (),
    "alora_invocation_tokens": (),
    "arrow_config": (),
    "use_bdlora": (),
    "kasa_config": (),
    "monteclora_config": (),
    "use_qalora": (False,),
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
}
# Fields that are read here, or that no longer matter once the adapters are trained.
_KNOWN = frozenset(
    """
    r lora_alpha use_rslora target_modules exclude_modules layers_to_transform layers_pattern
    target_parameters base_model_name_or_path revision task_type inference_mode auto_mapping
    peft_version lora_dropout megatron_config megatron_core loftq_config eva_config corda_config
    lora_ga_config velora_config qalora_group_size runtime_config ensure_weight_tying
    """.split()
)


def save(
    params: Params,
    path: str | Path,
    *,
    config: ModelConfig,
    base: str,
    source: str | Path | None = None,
    chat_template: str | None = None,
    tokenizer_settings: Mapping[str, Any] | None = None,
    readme: str = "",
    dtype: str = "float32",
    overwrite: bool = False,
    on_tensor: Callable[[int, int], None] | None = None,
) -> None:
    """Write the adapters among ``params`` as a directory that ``peft`` loads.

    With several processes every one must call this, and the first one writes.

    Args:
      params: With adapters; everything else is left out.
      path: Directory to make; it appears whole or not at all.
      config: Architecture with the adapters' settings.
      base: Path or name of the model that the adapters belong to, kept for PEFT.
      source: Directory whose tokenizer files are copied; None copies none.
      chat_template: See ``hf_directory.copy_tokenizer``.
      tokenizer_settings: As ``settings`` of ``hf_directory.copy_tokenizer``.
      readme: Model card to write as ``README.md``.
      dtype: Type of the tensors, ``"float32"`` or ``"bfloat16"``.
      overwrite: Replace ``path`` if it exists.
      on_tensor: Told how many tensors are written, and of how many.

    Raises:
      ModelError: ``path`` exists, or there are no adapters.
    """
    hf_directory.dtype_of(dtype)
    leaves = dict(_adapters(params))
    if not leaves:
        raise ModelError("the model has no adapters; train it with config.lora.rank above 0")
    tensors = {}
    for leaf_path, leaf in leaves.items():
        for layer, name in enumerate(_tensor_names(leaf_path, config.num_layers)):
            read = functools.partial(_transposed, leaf, layer)
            tensors[name] = Writable(leaf.shape[:0:-1], read)
    alpha = config.lora.alpha
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.lora.rank,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted({name.rsplit(".", 3)[1] for name in tensors}),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    with whole_directory.written_by_first(path, overwrite=overwrite) as directory:
        if directory is None:
            for tensor in tensors.values():
                tensor.read()
            return
        done = itertools.count(1)
        count = lambda: on_tensor and on_tensor(next(done), len(tensors))  # noqa: E731
        safetensors_file.write(directory / _WEIGHTS, tensors, dtype=dtype, on_tensor=count)
        if source is not None:
            hf_directory.copy_tokenizer(
                source, directory, chat_template=chat_template, settings=tokenizer_settings
            )
        if readme:
            (directory / "README.md").write_text(readme, encoding="utf-8")
        hf_directory.write_json(directory / _CONFIG, settings)


def load(path: str | Path, config: ModelConfig, mesh: jax.sharding.Mesh) -> Params:
    """Load adapters that PEFT or ``save`` has written.

    Host memory holds all of them.

    Args:
      path: Directory with both files.
      config: Architecture with the settings that the adapters must have.
      mesh: Devices to place them on.

    Returns:
      Nested dict of the adapters alone.

    Raises:
      ConfigError: ``config`` has no adapters, or of another rank, scale or target.
      ModelError: A file is absent or damaged, the adapters are no plain LoRA, or a tensor has
        another shape.
    """
    path = Path(path)
    for name in (_CONFIG, _WEIGHTS):
        if not (path / name).is_file():
            raise ModelError(f"{path / name}: no such file; {_held_instead(path)}")
    model_files.check_own(path)
    model_files.verify(path, [path / _WEIGHTS])
    _check_settings(path, hf_directory.read_json(path / _CONFIG), config.lora)
    tensors = _read(path / _WEIGHTS)
    declared = lora.split(functional.abstract_params(config), config.lora)[0]
    placed = dict(names.flatten(sharding_lib.param_shardings(declared, mesh)))
    infos = dict(names.flatten(declared))
    expected = {leaf: _tensor_names(leaf, config.num_layers) for leaf in infos}
    _check_names(path, set(tensors), {name for found in expected.values() for name in found})
    leaves = {}
    for leaf_path, info in infos.items():
        for name in expected[leaf_path]:
            if tensors[name].shape != info.shape[:0:-1]:
                raise ModelError(
                    f"{path / _WEIGHTS}: {name} has shape {tensors[name].shape}, the model calls "
                    f"for {info.shape[:0:-1]}"
                )
        stack = np.stack([tensors[name].T for name in expected[leaf_path]]).astype(info.dtype)
        if not all_finite(stack):
            raise ModelError(
                f"{path / _WEIGHTS}: {expected[leaf_path][0]} or one of its other "
                "layers has values that are not finite"
            )
        leaves[leaf_path] = jax.make_array_from_callback(
            info.shape, placed[leaf_path], lambda index, stack=stack: stack[index]
        )
    return names.unflatten(leaves)


def _adapters(params: Params) -> Iterator[tuple[names.Path, Any]]:
    for path, leaf in names.flatten(params):
        if path[-1] in _FACTORS and path[0] not in names.LOCAL_ROOTS:
            yield path, leaf


def _transposed(leaf: Any, layer: int) -> np.ndarray:
    return processes.gather(leaf[layer]).T


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(file, framework="numpy") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file}: cannot be read as safetensors: {error}") from error


def _tensor_names(path: names.Path, layers: int) -> list[str]:
    """Return PEFT's name of a stacked factor in each layer."""
    entry = names.TABLE[(*path[:-1], "kernel")]
    kernels = [entry.layer_name(layer) for layer in range(layers)]
    return [_PREFIX + name.removesuffix(_KERNEL) + _FACTORS[path[-1]] for name in kernels]


def _held_instead(path: Path) -> str:
    """Return what a directory without plain adapters holds, and what to do then."""
    if (path / "adapter_model.bin").is_file():
        return (
            "adapter_model.bin beside it is pickled, which can run code and is not read; load and "
            "save the adapters with PEFT 0.6 or newer"
        )
    if (path / "adapters.safetensors").is_file():
        return "adapters.safetensors beside it is of MLX; write them in PEFT's form"
    if (path / "config.json").is_file():
        return "the directory holds a whole model; give it as config.model.path"
    return "give a directory that PEFT wrote"


def _check_settings(path: Path, found: Mapping[str, Any], config: LoraConfig) -> None:
    for field, plain in _PLAIN.items():
        value = found.get(field)
        if value is not None and value not in plain:
            raise ModelError(
                f"{path / _CONFIG}: {field} is {value!r}; only plain LoRA is implemented"
            )
    for field, value in found.items():
        if value and field not in _KNOWN and field not in _PLAIN:
            raise ModelError(
                f"{path / _CONFIG}: {field} is {value!r}, which is not known here and may change "
                "what the adapters do; if it does not, take it out of the file"
            )
    rank, alpha = found.get("r"), found.get("lora_alpha")
    if type(rank) is not int or rank < 1 or not isinstance(alpha, (int, float)):
        raise ModelError(f"{path / _CONFIG}: r is {rank!r} and lora_alpha {alpha!r}")
    if found.get("use_rslora"):
        alpha *= math.sqrt(rank)  # its scale is alpha / sqrt(r)
    if rank != config.rank or not math.isclose(alpha, config.alpha):
        # In full: a shortened one would be refused again.
        exact = repr(float(alpha)).removesuffix(".0")
        raise ConfigError(
            f"config.model.adapter {path} has rank {rank} and alpha {exact}; set "
            f"config.lora.rank={rank} and config.lora.alpha={exact}"
        )


def _check_names(path: Path, found: set[str], expected: set[str]) -> None:
    if found == expected:
        return
    if whole := sorted(name for name in found if not name.endswith(tuple(_FACTORS.values()))):
        raise ModelError(
            f"{path / _WEIGHTS}: {whole[0]} is no part of a plain adapter, such as an embedding "
            "that is saved whole beside it; merge all into the model with PEFT's "
            "`merge_and_unload()` and give that as config.model.path"
        )
    known = {
        name.partition("{i}.")[2].removesuffix(_KERNEL): "/".join(leaf[1:-1])
        for leaf, name in ((leaf, entry.name) for leaf, entry in names.TABLE.items())
        if leaf[-1] == "kernel" and leaf[0] == "layers"
    }
    modules = {re.sub(r"^.*layers\.\d+\.", "", name.rsplit(".", 2)[0]) for name in found}
    strange = sorted(modules - known.keys())
    if strange:
        raise ModelError(f"{path / _WEIGHTS}: adapters of {strange[0]} are not implemented")
    raise ConfigError(
        f"config.model.adapter {path} does not have the adapters that config.lora.targets calls "
        f"for ({len(expected - found)} missing, {len(found - expected)} more); its own are "
        f"config.lora.targets='{'|'.join(sorted(known[name] for name in modules))}' in all layers"
    )
