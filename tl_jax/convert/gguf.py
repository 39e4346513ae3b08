"""Turn a GGUF file of the LLaMA architecture into a Hugging Face model directory."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tl_jax.config import ModelConfig, RopeScaling
from tl_jax.convert import (
    gguf_header,
    gguf_tokenizer,
    hf_directory,
    model_files,
    names,
    whole_directory,
)
from tl_jax.convert.hf_directory import ModelError, Writable
from tl_jax.errors import TlJaxError
from tl_jax.models import functional, registry, rotary

# GGUF tensor -> Hugging Face tensor; {i} is the layer.
_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "blk.{i}.attn_norm.weight": "model.layers.{i}.input_layernorm.weight",
    "blk.{i}.attn_q.weight": "model.layers.{i}.self_attn.q_proj.weight",
    "blk.{i}.attn_k.weight": "model.layers.{i}.self_attn.k_proj.weight",
    "blk.{i}.attn_v.weight": "model.layers.{i}.self_attn.v_proj.weight",
    "blk.{i}.attn_output.weight": "model.layers.{i}.self_attn.o_proj.weight",
    "blk.{i}.ffn_norm.weight": "model.layers.{i}.post_attention_layernorm.weight",
    "blk.{i}.ffn_gate.weight": "model.layers.{i}.mlp.gate_proj.weight",
    "blk.{i}.ffn_up.weight": "model.layers.{i}.mlp.up_proj.weight",
    "blk.{i}.ffn_down.weight": "model.layers.{i}.mlp.down_proj.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
# Projections whose rows llama.cpp permutes, and their number of heads.
_ROTARY_HEADS = {
    "blk.{i}.attn_q.weight": lambda config: config.num_heads,
    "blk.{i}.attn_k.weight": lambda config: config.num_kv_heads,
}
_TOKEN_IDS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
# Factors by which the rotary frequencies are divided, one for each pair; LLaMA 3.1 has them.
_FACTORS = "rope_freqs.weight"
# Keys of the architecture that are read, or say nothing about the computation.
_KEYS = frozenset(
    """
    context_length embedding_length block_count feed_forward_length attention.head_count
    attention.head_count_kv attention.key_length attention.layer_norm_rms_epsilon rope.freq_base
    rope.scaling.type rope.scaling.factor rope.scale_linear rope.scaling.original_context_length
    rope.scaling.finetuned vocab_size tensor_data_layout
    """.split()
)
_LARGEST = 2**31
_MOST_LAYERS = 10_000


def convert(
    gguf_path: str | Path,
    out_dir: str | Path,
    dtype: str = "float32",
    *,
    max_shard_bytes: int = hf_directory.SHARD_BYTES,
    overwrite: bool = False,
    on_tensor: Callable[[int, int], None] | None = None,
) -> None:
    """Write the dequantised model, its configuration and its tokenizer as a model directory.

    Tensors are dequantised one after another; host memory holds one at a time.

    Args:
      gguf_path: A GGUF file whose ``general.architecture`` is ``llama``.
      out_dir: Directory to make.
      dtype: Type of the tensors, ``"float32"`` or ``"bfloat16"``.
      max_shard_bytes: Size limit of one safetensors file.
      overwrite: Replace ``out_dir`` if it exists.
      on_tensor: Told how many tensors are written, and of how many.

    Raises:
      ModelError: Not a GGUF file, or a model, tensor or tokenizer that is not supported; the
        message names the file and the key. Nothing is written then.

    Source: ``convert_hf_to_gguf.py`` of llama.cpp (class ``LlamaModel``), whose row permutation of
    the query and key projections is undone here.
    """
    file, reader = _open(gguf_path)
    with _reading(file):
        config = _config(file, reader)
        tensors = _tensors(file, reader, config)
        token_ids = {
            name: number
            for name, which in _TOKEN_IDS.items()
            if (number := gguf_tokenizer.token_id(reader, which)) is not None
        }
        tokenizer = gguf_tokenizer.build(file, reader)
    with whole_directory.new_directory(out_dir, overwrite=overwrite) as directory:
        hf_directory.write_tensors(
            directory,
            tensors,
            dtype=dtype,
            max_shard_bytes=max_shard_bytes,
            on_tensor=on_tensor,
        )
        gguf_tokenizer.save(directory, tokenizer, reader, config.max_position)
        hf_directory.write_json(directory / "generation_config.json", token_ids)
        hf_config = registry.to_hf_config(config) | token_ids | {"torch_dtype": dtype}
        hf_directory.write_json(directory / "config.json", hf_config)


def read_config(gguf_path: str | Path) -> ModelConfig:
    """Read the architecture from the header of a GGUF file; no tensor is read.

    Raises:
      ModelError: Not a GGUF file, or a model that is not supported.
    """
    file, reader = _open(gguf_path)
    with _reading(file):
        return _config(file, reader)


def _open(gguf_path: str | Path) -> tuple[Path, gguf.GGUFReader]:
    file = Path(gguf_path)
    with _reading(file):
        model_files.check_content(file)
        gguf_header.check(file)
        reader = gguf.GGUFReader(file)
        if (parts := _value(reader, "split.count", 0)) > 1:
            raise ModelError(
                f"{file}: is one of {parts} parts of a model; join them with llama.cpp's "
                "`llama-gguf-split --merge FIRST.gguf WHOLE.gguf` and give the whole"
            )
        return file, reader


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn what odd contents of a file lead to, here or in a library, into one kind of error."""
    try:
        yield
    except TlJaxError:
        raise
    except Exception as error:  # of tokenizers, what is damaged raises no other kind
        raise ModelError(
            f"{file}: cannot be read as GGUF, it is damaged or of a form not known here "
            f"({type(error).__name__}: {error})"
        ) from error


def _value(reader: gguf.GGUFReader, key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    return default if field is None else field.contents()


def _config(file: Path, reader: gguf.GGUFReader) -> ModelConfig:
    architecture = _value(reader, "general.architecture")
    if architecture != "llama":
        raise ModelError(
            f"{file}: general.architecture is {architecture!r}; supported: llama. Of a model of "
            f"another architecture give the Hugging Face directory ({', '.join(registry.FAMILIES)})"
        )

    def need(key: str) -> int:
        value = _value(reader, f"llama.{key}")
        if value is None:
            raise ModelError(f"{file}: lacks llama.{key}")
        if not isinstance(value, int) or not 0 < value < _LARGEST:
            raise ModelError(f"{file}: llama.{key} is {value!r}; a size must be above 0")
        return int(value)

    heads = need("attention.head_count")
    if need("block_count") > _MOST_LAYERS:
        raise ModelError(f"{file}: llama.block_count is {need('block_count')}; it is damaged")
    head_dim = int(_value(reader, "llama.attention.key_length", need("embedding_length") // heads))
    # The computation these keys ask for is not implemented, so only their neutral values pass.
    neutral = {
        "llama.rope.dimension_count": (None, head_dim),
        "llama.attention.value_length": (None, head_dim),
        "llama.rope.scaling.attn_factor": (None, 1.0),
        "llama.expert_count": (None, 0),
    }
    for key, allowed in neutral.items():
        if _value(reader, key) not in allowed:
            raise ModelError(
                f"{file}: {key} is {_value(reader, key)!r}; only {allowed[1]!r} is implemented"
            )
    for key in reader.fields:
        name = key.removeprefix("llama.")
        if name != key and name not in _KEYS and key not in neutral and _value(reader, key):
            raise ModelError(
                f"{file}: {key} is {_value(reader, key)!r}, which is not known here and may change "
                "the computation"
            )
    theta = _shortest(_value(reader, "llama.rope.freq_base", 10000.0))
    return ModelConfig(
        vocab_size=len(_value(reader, "tokenizer.ggml.tokens", ())),
        embed_dim=need("embedding_length"),
        num_layers=need("block_count"),
        num_heads=heads,
        num_kv_heads=int(_value(reader, "llama.attention.head_count_kv", heads)),
        head_dim=head_dim,
        mlp_dim=need("feed_forward_length"),
        rope_theta=theta,
        rope_scaling=_rope_scaling(file, reader, theta, head_dim),
        norm_eps=_shortest(_value(reader, "llama.attention.layer_norm_rms_epsilon", 1e-5)),
        tie_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
        max_position=need("context_length"),
    )


def _rope_scaling(file: Path, reader: gguf.GGUFReader, theta: float, head_dim: int) -> RopeScaling:
    """Return the rotary scaling: without a type it is linear, and an old key may have its factor.

    Raises:
      ModelError: A kind that is not implemented, or more than one.

    Source: ``llama_model::load_hparams`` in llama.cpp (``src/llama-model.cpp``).
    """
    key = "llama.rope.scaling.type"
    kind = _value(reader, key, "linear")
    if kind not in ("none", "linear"):
        raise ModelError(f"{file}: {key} is {kind!r}; only 'none' and 'linear' are implemented")
    factor = _value(reader, "llama.rope.scaling.factor")
    if factor is None:
        factor = _value(reader, "llama.rope.scale_linear", 1.0)
    factor = _shortest(factor) or 1.0
    if factor < 1:
        raise ModelError(f"{file}: the factor of the rotary scaling is {factor}, below 1")
    tensors = [tensor for tensor in reader.tensors if tensor.name == _FACTORS]
    scaled = kind == "linear" and factor != 1
    if tensors and scaled:
        raise ModelError(
            f"{file}: has {_FACTORS} and a factor of the rotary scaling; both are not implemented"
        )
    if tensors:
        return _llama_3_scaling(file, tensors[0].data, theta, head_dim)
    return RopeScaling("linear", factor) if scaled else RopeScaling()


def _llama_3_scaling(file: Path, factors: np.ndarray, theta: float, head_dim: int) -> RopeScaling:
    """Return the scaling of LLaMA 3.1, if it is what gives these factors."""
    scaling = RopeScaling("llama3", _shortest(factors.max()))
    plain = rotary.frequencies(head_dim, theta, RopeScaling())
    slowed = rotary.frequencies(head_dim, theta, scaling)
    same = factors.shape == plain.shape and np.allclose(plain / factors, slowed, rtol=1e-4, atol=0)
    if scaling.factor <= 1 or not same:
        raise ModelError(f"{file}: tensor {_FACTORS} is no rotary scaling as LLaMA 3.1 has it")
    return scaling


def _shortest(value: float) -> float:
    """Return the decimal that was meant: the file holds 1e-5 as float32 9.99999974e-06."""
    return float(str(np.float32(value)))


def _tensors(file: Path, reader: gguf.GGUFReader, config: ModelConfig) -> dict[str, Writable]:
    declared = names.flatten(functional.abstract_params(config))
    wanted = names.tensors({path: info.shape for path, info in declared})
    found: dict[str, Writable] = {}
    for tensor in reader.tensors:
        if tensor.name == _FACTORS:
            continue  # read as part of the configuration
        pattern = re.sub(r"^blk\.\d+\.", "blk.{i}.", tensor.name)
        name = _NAMES.get(pattern, "").replace("{i}", tensor.name.split(".")[1])
        if name not in wanted:
            raise ModelError(
                f"{file}: tensor {tensor.name} is not part of a LLaMA model of these sizes without "
                "biases or experts"
            )
        # GGUF lists dimensions from the fastest, safetensors from the slowest.
        shape = tuple(int(size) for size in tensor.shape[::-1])
        if shape != wanted[name].shape:
            raise ModelError(
                f"{file}: tensor {tensor.name} has shape {shape}, the metadata call for "
                f"{wanted[name].shape}"
            )
        _check_type(file, tensor)
        heads = _ROTARY_HEADS[pattern](config) if pattern in _ROTARY_HEADS else None
        read = functools.partial(_dequantise, tensor, shape, heads)
        found[name] = Writable(shape, read)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ModelError(f"{file}: {len(missing)} tensors missing, first {missing[0]}")
    return {name: found[name] for name in wanted}


def _check_type(file: Path, tensor: gguf.ReaderTensor) -> None:
    """Refuse a type that cannot be dequantised, by trying the first row."""
    try:
        gguf.quants.dequantize(tensor.data[:1], tensor.tensor_type)
    except NotImplementedError as error:
        raise ModelError(
            f"{file}: tensor {tensor.name} has type {tensor.tensor_type.name}, which the gguf "
            "package cannot dequantise"
        ) from error


def _dequantise(tensor: gguf.ReaderTensor, shape: tuple[int, ...], heads: int | None) -> np.ndarray:
    block = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    block = block.reshape(shape)
    if heads is None:
        return block
    # llama.cpp interleaves the two halves of every head's rotary pairs; lay them side by side.
    pairs = block.reshape(heads, shape[0] // heads // 2, 2, *shape[1:])
    return pairs.swapaxes(1, 2).reshape(shape)
