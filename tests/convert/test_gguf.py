"""A GGUF file becomes the model directory it was made from; foreign ones are refused by key."""

import dataclasses
import itertools
import json
import subprocess
import sys
import tracemalloc

import gguf
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer, pre_tokenizers

from tl_jax.config import ModelConfig, RopeScaling
from tl_jax.convert import from_hf, names, to_hf
from tl_jax.convert import gguf as from_gguf
from tl_jax.convert.hf_directory import ModelError
from tl_jax.models import functional, registry, rotary

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = ["<s>", "</s>", "<tool>", *ALPHABET, "ab", "Ġa", "ĠĠ"]
KINDS = [3, 3, 4] + [1] * (len(TOKENS) - 3)
MERGES = ["a b", "Ġ a", "Ġ Ġ"]
CONFIG = ModelConfig(
    vocab_size=len(TOKENS),
    embed_dim=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    mlp_dim=96,
    rope_theta=25000.0,
    norm_eps=1e-6,
    max_position=256,
)
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "hf"
    to_hf.save(functional.init(CONFIG, jax.random.key(0)), path, config=CONFIG)
    return load_file(path / "model.safetensors")


def permute(weight, heads):
    """What llama.cpp does to query and key rows (``LlamaModel.permute``)."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def stem_of(name):
    """Return llama.cpp's name of a tensor, without ``.weight``."""
    stem = name.removesuffix(".weight").replace("model.layers.", "blk.")
    for ours, theirs in NAMES.items():
        stem = stem.replace(ours, theirs)
    return stem


def write(path, tensors, *, quantise=None, packed=None, drop=(), extra=None, **changes):
    """Write a GGUF file; ``changes`` replace metadata (None leaves a key out).

    ``packed`` is name -> (type, bytes) of tensors that are written as they are.
    """
    writer = gguf.GGUFWriter(path, changes.pop("arch", "llama"))
    fields = {
        "llama.embedding_length": CONFIG.embed_dim,
        "llama.block_count": CONFIG.num_layers,
        "llama.attention.head_count": CONFIG.num_heads,
        "llama.attention.head_count_kv": CONFIG.num_kv_heads,
        "llama.feed_forward_length": CONFIG.mlp_dim,
        "llama.context_length": CONFIG.max_position,
        "llama.rope.freq_base": CONFIG.rope_theta,
        "llama.rope.dimension_count": CONFIG.head_dim,
        "llama.attention.layer_norm_rms_epsilon": CONFIG.norm_eps,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": "{{ messages }}\n",
        **changes,
    }
    for key, value in fields.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
    writer.add_token_list(TOKENS)
    writer.add_token_types(KINDS)
    writer.add_token_merges(MERGES)
    for name, (kind, content) in (packed or {}).items():
        writer.add_tensor(f"{stem_of(name)}.weight", content, raw_dtype=kind)
    for name, weight in {**tensors, **(extra or {})}.items():
        if name in drop:
            continue
        stem = stem_of(name)
        weight = permute(weight, CONFIG.num_heads) if stem.endswith("attn_q") else weight
        weight = permute(weight, CONFIG.num_kv_heads) if stem.endswith("attn_k") else weight
        if quantise is not None and weight.ndim == 2:
            content = gguf.quants.quantize(weight, quantise)
            writer.add_tensor(f"{stem}.weight", content, raw_dtype=quantise)
        else:
            writer.add_tensor(f"{stem}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_float_tensors_come_back_bit_for_bit(original, tmp_path):
    from_gguf.convert(write(tmp_path / "m.gguf", original), tmp_path / "hf", "float32")
    converted = load_file(tmp_path / "hf" / "model.safetensors")
    assert converted.keys() == original.keys()
    assert all(np.array_equal(converted[name], original[name]) for name in original)
    assert registry.read_config(tmp_path / "hf") == CONFIG
    assert from_hf.load(tmp_path / "hf")["lm_head"]["kernel"].shape == (64, len(TOKENS))


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        (gguf.GGMLQuantizationType.Q8_0, 1 / 127),
        (gguf.GGMLQuantizationType.Q4_1, 1 / 14),
        (gguf.GGMLQuantizationType.BF16, 1 / 128),
    ],
)
def test_quantised_tensors_come_back_within_their_step(original, tmp_path, kind, tolerance):
    write(tmp_path / "m.gguf", original, quantise=kind)
    from_gguf.convert(tmp_path / "m.gguf", tmp_path / "hf", "float32", max_shard_bytes=50_000)
    files = sorted((tmp_path / "hf").glob("model-*.safetensors"))
    assert len(files) > 1
    converted = {name: value for file in files for name, value in load_file(file).items()}
    for name, weight in original.items():
        limit = tolerance * np.abs(weight).max()
        assert np.abs(converted[name] - weight).max() <= limit, name


def random_bytes(kind, rows, columns):
    """Return random bytes that hold ``rows x columns`` numbers of a GGUF type."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    shape = (rows, columns // block * size)
    return np.random.default_rng(int(kind)).integers(0, 256, shape, dtype=np.uint8)


def finite_bytes(kind, rows, columns):
    """The same without the blocks whose scales are not finite."""
    found = random_bytes(kind, rows, columns)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    values = gguf.quants.dequantize(found, kind).reshape(rows, -1, block)
    found.reshape(rows, -1, size)[~np.isfinite(values).all(-1)] = 0
    return found


def is_readable(kind):
    try:
        gguf.quants.dequantize(random_bytes(kind, 1, 256), kind)
    except NotImplementedError:
        return False
    return True


with np.errstate(all="ignore"):
    READABLE = [kind for kind in gguf.GGML_QUANT_SIZES if is_readable(kind)]
# Every row a whole number of blocks, whatever the type.
WIDE = dataclasses.replace(
    CONFIG, embed_dim=256, num_layers=4, num_kv_heads=4, head_dim=64, mlp_dim=256
)
WIDE_FIELDS = {
    "llama.embedding_length": WIDE.embed_dim,
    "llama.block_count": WIDE.num_layers,
    "llama.attention.head_count_kv": WIDE.num_kv_heads,
    "llama.rope.dimension_count": WIDE.head_dim,
    "llama.feed_forward_length": WIDE.mlp_dim,
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # random scales are not always finite
def test_every_type_the_package_dequantises_arrives_as_it_gives_it(tmp_path):
    declared = names.flatten(functional.abstract_params(WIDE))
    tensors = names.tensors({path: info.shape for path, info in declared})
    matrices = {name: tensor.shape for name, tensor in tensors.items() if len(tensor.shape) == 2}
    packed = {
        name: (kind, finite_bytes(kind, *shape))
        for (name, shape), kind in zip(matrices.items(), itertools.cycle(READABLE), strict=False)
    }
    assert {kind for kind, _ in packed.values()} == set(READABLE)
    norms = {name: np.ones(tensors[name].shape, np.float32) for name in tensors.keys() - packed}
    write(tmp_path / "m.gguf", norms, packed=packed, **WIDE_FIELDS)
    from_gguf.convert(tmp_path / "m.gguf", tmp_path / "hf", "float32")
    converted = load_file(tmp_path / "hf" / "model.safetensors")
    for name, (kind, content) in packed.items():
        found = converted[name]
        if "q_proj" in name or "k_proj" in name:
            found = permute(found, WIDE.num_heads)
        assert found.tobytes() == gguf.quants.dequantize(content, kind).tobytes(), kind


def test_every_other_type_is_refused_by_name_before_anything_is_written(tmp_path):
    others = [kind for kind in gguf.GGML_QUANT_SIZES if kind not in READABLE]
    assert gguf.GGMLQuantizationType.Q8_K in others
    for kind in others:
        packed = {"model.embed_tokens": (kind, random_bytes(kind, len(TOKENS), WIDE.embed_dim))}
        write(tmp_path / "m.gguf", {}, packed=packed, **WIDE_FIELDS)
        message = f"m.gguf: tensor token_embd.weight has type {kind.name}, which the gguf package"
        with pytest.raises(ModelError, match=message):
            from_gguf.convert(tmp_path / "m.gguf", tmp_path / "hf")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_a_file_without_head_is_a_tied_model(original, tmp_path):
    write(tmp_path / "m.gguf", original, drop=["lm_head.weight"])
    from_gguf.convert(tmp_path / "m.gguf", tmp_path / "hf", "bfloat16")
    config = registry.read_config(tmp_path / "hf")
    assert config.tie_embeddings and config == from_gguf.read_config(tmp_path / "m.gguf")
    assert load_file(tmp_path / "hf" / "model.safetensors")["model.norm.weight"].itemsize == 2
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_tokenizer_template_and_token_ids_arrive(original, tmp_path):
    from_gguf.convert(write(tmp_path / "m.gguf", original), tmp_path / "hf", "float32")
    tokenizer = Tokenizer.from_file(str(tmp_path / "hf" / "tokenizer.json"))
    encoding = tokenizer.encode("<s>ab a<tool>  12</s>é")
    digits = [encoding.tokens[5], encoding.tokens[6]]
    assert encoding.tokens[:5] == ["<s>", "ab", "Ġa", "<tool>", "ĠĠ"]
    assert digits == ["1", "2"]
    assert tokenizer.decode(encoding.ids, skip_special_tokens=False) == "<s>ab a<tool>  12</s>é"
    assert tokenizer.decode(encoding.ids) == "ab a<tool>  12é"
    assert (tmp_path / "hf" / "chat_template.jinja").read_text() == "{{ messages }}\n"
    generation = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 0, "eos_token_id": 1}


def test_the_flag_for_a_leading_bos_is_honoured(original, tmp_path):
    write(tmp_path / "m.gguf", original, **{"tokenizer.ggml.add_bos_token": True})
    from_gguf.convert(tmp_path / "m.gguf", tmp_path / "hf", "float32")
    tokenizer = Tokenizer.from_file(str(tmp_path / "hf" / "tokenizer.json"))
    assert tokenizer.encode("ab").tokens == ["<s>", "ab"]
    assert tokenizer.encode("ab", add_special_tokens=False).tokens == ["ab"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "qwen2"}, "general.architecture is 'qwen2'"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type is 'yarn'"),
        ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count is 8; only 16"),
        ({"llama.expert_count": 4}, "llama.expert_count is 4"),
        ({"llama.attention.new_scale": 0.5}, "llama.attention.new_scale is 0.5, which is not kno"),
        ({"split.count": 3}, "is one of 3 parts of a model; join them"),
        ({"llama.block_count": None}, "lacks llama.block_count"),
        ({"llama.block_count": 1}, "tensor blk.1.* is not part of"),
        ({"llama.block_count": 3}, "9 tensors missing, first model.layers.2"),
        ({"llama.feed_forward_length": 128}, r"ffn_\w+.weight has shape .*call for"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model is 'llama', but .*scores has 0"),
        ({"tokenizer.ggml.model": "t5"}, "tokenizer.ggml.model is 't5'"),
        ({"llama.rope.scaling.factor": 0.5}, "factor of the rotary scaling is 0.5"),
        ({"llama.rope.scaling.attn_factor": 2.0}, "attn_factor is 2.0"),
        ({"tokenizer.ggml.pre": "new-split"}, "tokenizer.ggml.pre is 'new-split'"),
        ({"extra": {"rope_freqs.weight": np.ones(8, np.float32)}}, "tensor rope_freqs.weight"),
    ],
)
def test_what_is_not_supported_is_refused_by_key(original, tmp_path, changes, message):
    write(tmp_path / "m.gguf", original, **changes)
    with pytest.raises(ModelError, match=message) as error:
        from_gguf.convert(tmp_path / "m.gguf", tmp_path / "hf", "float32")
    assert "m.gguf" in str(error.value)
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, RopeScaling()),
        ({"llama.vocab_size": len(TOKENS), "llama.new_flag": False}, RopeScaling()),
        ({"llama.rope.scaling.factor": 2.5}, RopeScaling("linear", 2.5)),
        ({"llama.rope.scaling.type": "linear"}, RopeScaling()),
        (
            {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 8.0},
            RopeScaling("linear", 8.0),
        ),
        ({"llama.rope.scale_linear": 4.0}, RopeScaling("linear", 4.0)),
        # the newer key counts, also where it says none
        (
            {"llama.rope.scale_linear": 4.0, "llama.rope.scaling.factor": 0.0},
            RopeScaling(),
        ),
        ({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 8.0}, RopeScaling()),
        ({"llama.rope.scaling.type": "none", "llama.rope.scale_linear": 8.0}, RopeScaling()),
    ],
)
def test_rotary_scaling_is_that_of_llama_cpp(original, tmp_path, changes, expected):
    write(tmp_path / "m.gguf", original, **changes)
    from_gguf.convert(tmp_path / "m.gguf", tmp_path / "hf", "float32")
    config = registry.read_config(tmp_path / "hf")
    assert config == dataclasses.replace(CONFIG, rope_scaling=expected)


def test_the_factors_of_llama_3_are_its_scaling(original, tmp_path):
    scaling = RopeScaling("llama3", 32.0)
    plain, slowed = (
        rotary.frequencies(CONFIG.head_dim, CONFIG.rope_theta, kind)
        for kind in (RopeScaling(), scaling)
    )
    factors = {"rope_freqs.weight": (plain / slowed).astype(np.float32)}
    from_gguf.convert(write(tmp_path / "m.gguf", original, extra=factors), tmp_path / "hf")
    assert registry.read_config(tmp_path / "hf").rope_scaling == scaling
    write(tmp_path / "m.gguf", original, extra=factors, **{"llama.rope.scaling.factor": 2.0})
    with pytest.raises(ModelError, match="both are not implemented"):
        from_gguf.read_config(tmp_path / "m.gguf")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"not a model at all")
    for name in ("m.gguf", "absent.gguf"):
        with pytest.raises(ModelError, match=f"{name}: cannot be read as GGUF"):
            from_gguf.convert(tmp_path / name, tmp_path / "hf", "float32")
        with pytest.raises(ModelError, match=f"{name}: cannot be read as GGUF"):
            from_gguf.read_config(tmp_path / name)


def test_conversion_needs_no_torch(original, tmp_path):
    write(tmp_path / "m.gguf", original)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tl_jax.convert import from_hf, gguf, to_hf\n"
        f"gguf.convert({str(tmp_path / 'm.gguf')!r}, {str(tmp_path / 'a')!r}, 'float32')\n"
        f"params = from_hf.load({str(tmp_path / 'a')!r})\n"
        f"to_hf.save(params, {str(tmp_path / 'b')!r}, source={str(tmp_path / 'a')!r})\n"
        "assert 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "b" / "tokenizer.json").is_file()


def test_a_damaged_header_is_a_named_error_and_takes_no_memory(tmp_path, original):
    write(tmp_path / "whole.gguf", original)
    content = (tmp_path / "whole.gguf").read_bytes()
    end = content.rindex(b"output.weight") + 60
    random = np.random.default_rng(0)
    file = tmp_path / "damaged.gguf"
    tracemalloc.start()
    refused = 0
    for number in range(60):
        damaged = bytearray(content)
        at = int(random.integers(0, end))
        kind = random.integers(0, 4)
        if kind == 0:
            del damaged[at:]
        elif kind == 1:
            damaged[at] ^= 1 << int(random.integers(0, 8))
        else:
            odd = (2**63, 2**40, 2**31, 2**64 - 1, 0)[int(random.integers(0, 5))]
            damaged[at : at + 8] = odd.to_bytes(8, "little")
        file.write_bytes(bytes(damaged))
        try:
            from_gguf.read_config(file)
            if number < 12:
                from_gguf.convert(file, tmp_path / "out", overwrite=True)
        except ModelError as error:
            assert str(file) in str(error)
            refused += 1
    assert refused > 20 and tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()
