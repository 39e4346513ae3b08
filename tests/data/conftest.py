"""A small tokenizer, a small dialogue, and where the golden and the real files are."""

import json
import os
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.data.render.paper_template import render_sample
from tl_jax.data.synthetic import trajectories
from tl_jax.data.tokenize.tokenizer import from_fast, train_byte_bpe
from tl_jax.data.trajectory import Message, Trajectory

SEARCH = ToolSpec(
    "search_advice",
    "Search advice slips.",
    (Parameter("query", "string", "The text.", True), Parameter("limit", "integer", "How many.")),
)
USER = ToolSpec("search_user", "Search users.", (Parameter("name", "string", "The name.", True),))
ASK = ToolSpec("ask_to_user", "Ask.", (Parameter("question", "string", "What.", True),))
FINISH = ToolSpec("finish", "Finish.", (Parameter("answer", "string", "The answer.", True),))


def call(name, **arguments):
    """An assistant turn with one call."""
    return Message("assistant", "", (ToolCall(name, arguments),))


@pytest.fixture(scope="session")
def trajectory():
    """A wrong call, its error, the right call, its result, the answer."""
    return Trajectory(
        id="t1",
        tools=(SEARCH, USER, ASK, FINISH),
        messages=(
            Message("user", "advice on 'love', please"),
            call("search_advice", q="love"),
            Message("tool", "search_advice() got an unexpected keyword argument 'q'"),
            call("search_advice", query="love", limit=2),
            Message("tool", '{"slips": ["Love is <|eos|> patient", "Love is kind"]}'),
            call("finish", answer="It's patient"),
        ),
        source="made.jsonl",
        line=7,
        tags={"domain": "advice"},
    )


@pytest.fixture(scope="session")
def tokenizer(trajectory, tmp_path_factory):
    """A byte-level BPE of 400 tokens."""
    text = render_sample(trajectory.tools, trajectory.messages).text
    return train_byte_bpe([text] * 3, 400, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def llama_like(trajectory):
    """A tokenizer that, as LLaMA-2's, puts a blank before the text and a control token first."""
    core = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    text = render_sample(trajectory.tools, trajectory.messages).text
    special = ["<unk>", "<s>", "</s>"]
    core.train_from_iterator(
        text.split(),  # so that a blank only begins a piece
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=special,
            initial_alphabet=["\n"],
            max_token_length=12,
            show_progress=False,
        ),
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    names = dict(zip(("unk_token", "bos_token", "eos_token"), special, strict=True))
    return from_fast(PreTrainedTokenizerFast(tokenizer_object=core, **names))


@pytest.fixture(scope="session")
def joining(trajectory):
    """A byte-level BPE that joins characters whatever they are: ``(qu``, `` = 'l``, ``', ``."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    text = render_sample(trajectory.tools, trajectory.messages).text
    extra = " forecast(city = 'Bergen', unit = 'metric', days = 1) forecast(city=\"B\", unit=\"met"
    core.train_from_iterator(
        [text, extra, extra],
        trainers.BpeTrainer(
            vocab_size=420,
            special_tokens=["<|eos|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            max_token_length=5,
            show_progress=False,
        ),
    )
    return from_fast(PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|eos|>"))


@pytest.fixture(scope="session")
def golden():
    """Read a golden file by name; skips where TL_JAX_GOLDEN is unset."""
    folder = os.environ.get("TL_JAX_GOLDEN")
    if not folder:
        pytest.skip("TL_JAX_GOLDEN is not set")
    return lambda name: json.loads((Path(folder) / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def import_cases():
    """Folder of small rows that users bring; skips where TL_JAX_CASES is unset."""
    folder = os.environ.get("TL_JAX_CASES")
    if not folder:
        pytest.skip("TL_JAX_CASES is not set")
    return Path(folder) / "imports"


@pytest.fixture(scope="session")
def rotllama():
    """Path of the real trajectory file; skips where TL_JAX_DATA is unset."""
    folder = os.environ.get("TL_JAX_DATA")
    if not folder:
        pytest.skip("TL_JAX_DATA is not set")
    return Path(folder) / "rotllama_gpt4" / "trajectories.jsonl.gz"


@pytest.fixture(scope="session")
def dialogues():
    """Three thousand dialogues of the embedded world for each split."""
    splits = ("train", "test_seen", "test_reworded", "test_unseen")
    return {split: list(trajectories(3000, seed=7, split=split)) for split in splits}
