"""Load a Hugging Face checkpoint straight into sharded parameters."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.config import ModelConfig
from tl_jax.convert import model_files, names
from tl_jax.convert.hf_directory import ModelError, TensorFiles, dtype_of
from tl_jax.convert.safetensors_file import all_finite
from tl_jax.models import functional, registry
from tl_jax.parallel import sharding as sharding_lib
from tl_jax.types import Params

Index = tuple[slice, ...]

_HEAD = names.TABLE[("lm_head", "kernel")].name
_ROWS = 4096  # of a head and an embedding that are compared at a time


def load(
    path: str | Path,
    mesh: jax.sharding.Mesh | None = None,
    *,
    param_dtype: str = "float32",
    on_param: Callable[[int, int], None] | None = None,
    pack: Callable[[names.Path, jax.Array], dict[names.Path, jax.Array]] | None = None,
) -> Params:
    """Load the parameters of a checkpoint in safetensors form.

    Every byte is read once, and host memory holds at most the local shards of one parameter.

    Args:
      path: Directory with ``config.json`` and (sharded) safetensors files.
      mesh: Devices to place the parameters on; None puts them on the default device.
      param_dtype: Type of the parameters, ``"float32"`` or ``"bfloat16"``.
      on_param: Told how many parameters are loaded, and of how many.
      pack: Returns what to keep in place of a parameter, as soon as it is loaded.

    Returns:
      Nested dict of arrays, as ``functional.init`` returns it.

    Raises:
      ConfigError: The architecture is not supported.
      ModelError: A tensor is missing, not expected, of the wrong shape or not finite, or the
        weights are not safetensors or not what ``SHA256SUMS`` was written for; the message names
        the file and the tensor.
    """
    dtype = dtype_of(param_dtype)
    abstract = functional.abstract_params(registry.read_config(path, param_dtype=param_dtype))
    shardings = {}
    if mesh is not None:
        shardings = dict(names.flatten(sharding_lib.param_shardings(abstract, mesh)))
    params = {}
    declared = list(names.flatten(abstract))
    with open_files(path) as files:
        for number, (leaf_path, info) in enumerate(declared, start=1):
            shape = info.shape
            read = functools.partial(_read, files, names.TABLE[leaf_path], shape, dtype)
            if mesh is None:
                params[leaf_path] = jnp.asarray(read(_whole(shape)))
            else:
                # Devices that hold the same shard share one reading of it.
                params[leaf_path] = jax.make_array_from_callback(
                    shape, shardings[leaf_path], _once(read)
                )
            # The copies that devices are still reading would stand beside those of the next one.
            jax.block_until_ready(params[leaf_path])
            if pack is not None:
                params |= pack(leaf_path, params.pop(leaf_path))
            if on_param is not None:
                on_param(number, len(declared))
    return names.unflatten(params)


@dataclasses.dataclass(frozen=True)
class StoredParam:
    """A parameter that stays on disk: one layer is read by its index, all by ``np.asarray``."""

    files: TensorFiles
    entry: names.Entry
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, layer: int) -> np.ndarray:
        name, index = self.entry.layer_name(layer), _whole(self.shape[1:])
        block = _block(self.files, name, self.entry.transpose, index)
        self.files.release()
        return block.astype(self.dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        block = _read(self.files, self.entry, self.shape, self.dtype, _whole(self.shape))
        return block.astype(dtype or self.dtype, copy=False)


def stored_params(files: TensorFiles, config: ModelConfig) -> Params:
    """Return the parameters of an opened checkpoint without reading them.

    Args:
      files: What ``open_files`` returned, open as long as the parameters are used.
      config: Architecture of the checkpoint; its ``param_dtype`` is the type of what is read.

    Returns:
      Nested dict of ``StoredParam``, which ``to_hf.save`` takes as it takes arrays.
    """
    declared = names.flatten(functional.abstract_params(config))
    return names.unflatten(
        {
            path: StoredParam(files, names.TABLE[path], info.shape, np.dtype(info.dtype))
            for path, info in declared
        }
    )


def open_files(path: str | Path) -> TensorFiles:
    """Open a checkpoint whose tensors are those that its ``config.json`` calls for.

    Raises:
      ConfigError: The architecture is not supported.
      ModelError: As for ``load``.
    """
    config = registry.read_config(path)
    declared = names.flatten(functional.abstract_params(config))
    files = TensorFiles(path)
    expected = names.tensors({leaf_path: info.shape for leaf_path, info in declared})
    _check(Path(path), files, expected, config.tie_embeddings)
    model_files.verify(path, sorted(set(files.files.values())))
    if config.tie_embeddings:
        _check_tied(Path(path), files)
    return files


def _check(path: Path, files: TensorFiles, expected: dict[str, names.Tensor], tied: bool) -> None:
    missing = [name for name in expected if name not in files.files]
    if missing:
        hint = ""
        if missing == [_HEAD]:
            hint = "; if the model shares its embedding, set tie_word_embeddings in config.json"
        raise ModelError(f"{path}: {len(missing)} tensors missing, first {missing[0]}{hint}")
    for name, file in files.files.items():
        if name in expected:
            if files.shape(name) != expected[name].shape:
                raise ModelError(
                    f"{file}: {name} has shape {files.shape(name)}, config.json calls for "
                    f"{expected[name].shape}"
                )
            files.check_type(name)
        elif not (tied and name == _HEAD) and not name.endswith(names.IGNORED_SUFFIXES):
            raise ModelError(f"{file}: {name} is not part of a model of this config")


def _check_tied(path: Path, files: TensorFiles) -> None:
    """Refuse a head that the configuration ties to the embedding, but that is another matrix.

    transformers 4 ties it all the same, transformers 5 keeps the head: one of them is not meant.
    """
    head, embedding = _HEAD, names.TABLE[("embed", "embedding")].name
    if head not in files.files:
        return
    shape = files.shape(embedding)
    same = files.shape(head) == shape
    for first in range(0, shape[0], _ROWS):
        part = (slice(first, min(first + _ROWS, shape[0])), slice(None))
        same = same and np.array_equal(files.read(head, part), files.read(embedding, part))
        files.release()
    if not same:
        raise ModelError(
            f"{path}: config.json says tie_word_embeddings, but {head} differs from {embedding}; "
            "set tie_word_embeddings to false there to keep the head, as transformers 5 does, or "
            "take the tensor out"
        )


def _read(
    files: TensorFiles, entry: names.Entry, shape: tuple[int, ...], dtype: np.dtype, index: Index
) -> np.ndarray:
    """Return the part ``index`` of a parameter: layers stacked, kernels turned to ``[in, out]``."""
    if not entry.stacked:
        out = _block(files, entry.name, entry.transpose, index).astype(dtype, copy=False)
        _require_finite(files, entry.name, out)
    else:
        ranges = [range(*part.indices(size)) for part, size in zip(index, shape, strict=True)]
        out = np.empty([len(part) for part in ranges], dtype)
        for row, layer in enumerate(ranges[0]):
            name = entry.layer_name(layer)
            out[row] = _block(files, name, entry.transpose, index[1:])
            _require_finite(files, name, out[row])
    files.release()
    return out


def _require_finite(files: TensorFiles, name: str, block: np.ndarray) -> None:
    if not all_finite(block):
        raise ModelError(
            f"{files.files[name]}: {name} has values that are not finite as {block.dtype.name}; "
            "take weights that are whole"
        )


def _whole(shape: tuple[int, ...]) -> Index:
    return (slice(None),) * len(shape)


def _block(files: TensorFiles, name: str, transpose: bool, index: Index) -> np.ndarray:
    return files.read(name, index[::-1]).T if transpose else files.read(name, index)


def _once(read: Callable[[Index], np.ndarray]) -> Callable[[Index | None], np.ndarray]:
    blocks: dict[tuple[tuple[Any, ...], ...], np.ndarray] = {}

    def cached(index: Index | None) -> np.ndarray:
        assert index is not None  # jax's type allows it, for extended dtypes only
        key = tuple((part.start, part.stop, part.step) for part in index)
        if key not in blocks:
            blocks[key] = read(index)
        return blocks[key]

    return cached
