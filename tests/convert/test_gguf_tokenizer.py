"""Vocabularies of LLaMA 2 and 3 in GGUF files give the ids that llama.cpp gives."""

import heapq
import itertools
import os
import random
from pathlib import Path

import gguf
import pytest
from tokenizers import pre_tokenizers

from tl_jax.convert import gguf_tokenizer
from tl_jax.data.tokenize.tokenizer import load_tokenizer

NORMAL, UNKNOWN, CONTROL = gguf.TokenType.NORMAL, gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL
USER, BYTE = gguf.TokenType.USER_DEFINED, gguf.TokenType.BYTE

WORDS = ["▁t", "he", "▁the", "in", "▁in", "▁i", "▁▁", "▁▁▁▁", "aa", "aaa", "12", "_c", "ca", "▁ca"]
WORDS += ["ll", "all", "call", "▁call", "er", "ere", "here", "▁there", "▁(", "('", "')"]
LETTERS = "▁theinac12_lr('=).\n"


def write(path, model, tokens, kinds, *, scores=None, merges=None, **fields):
    """Write a GGUF file that holds a vocabulary only."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if scores is not None:
        writer.add_token_scores(scores)
    if merges is not None:
        writer.add_token_merges(merges)
    for key, value in fields.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string}
        add[type(value)](key if "." in key else f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def built(path):
    """Return the tokenizer of a file, as it is saved and loaded again."""
    reader = gguf.GGUFReader(path)
    folder = path.with_suffix("")
    folder.mkdir()
    gguf_tokenizer.save(folder, gguf_tokenizer.build(path, reader), reader, 100)
    return load_tokenizer(folder)


@pytest.fixture(scope="module", params=[True, False], ids=["prefix", "no prefix"])
def sentencepiece(request, tmp_path_factory):
    """A tokenizer, and the tokens with their scores; every character or its bytes are there."""
    special = ["<unk>", "<s>", "</s>"]
    tool = ["<tool>"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    normal = [*WORDS, *dict.fromkeys(LETTERS)]
    tokens = [*special, *bytes_, *normal, *tool]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(normal), USER]
    # Longer words score worse, in an order of their own.
    rank = {word: place for place, word in enumerate(random.Random(3).sample(WORDS, len(WORDS)))}
    scores = [0.0] * (3 + 256) + [-float(rank.get(word, 1000)) for word in normal] + [0.0]
    path = tmp_path_factory.mktemp("spm") / "m.gguf"
    fields = {} if request.param else {"add_space_prefix": False, "add_bos_token": False}
    write(path, "llama", tokens, kinds, scores=scores, **fields)
    ids = {token: place for place, token in enumerate(tokens)}
    pieces = {word: score for word, score in zip(tokens, scores, strict=True) if word in normal}
    return built(path), ids, pieces, request.param


def as_llama_cpp(text, ids, scores, prefix):
    """Merge the neighbours whose whole scores best, the leftmost first; rests become bytes."""
    symbols = list((" " + text if prefix else text).replace(" ", "▁")) if text else []
    while True:
        found = [
            (-scores[left + right], place)
            for place, (left, right) in enumerate(itertools.pairwise(symbols))
            if left + right in scores
        ]
        if not found:
            break
        place = heapq.nsmallest(1, found)[0][1]
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
    names = [[s] if s in ids else [f"<0x{byte:02X}>" for byte in s.encode()] for s in symbols]
    return [ids[name] for name in itertools.chain(*names)]


def texts(seed, count=150):
    rng = random.Random(seed)
    parts = ["the", "in", "there", "call", "a", "aa", "aaaa", "12", "1", " ", "  ", "    ", "_"]
    parts += ["('", "')", "=", ".", "\n", "é", "日本", "🦙", "here", "<s>", "all"]
    return ["", " ", *("".join(rng.choices(parts, k=rng.randint(1, 12))) for _ in range(count))]


def test_a_sentencepiece_vocabulary_gives_the_ids_of_llama_cpp(sentencepiece):
    tokenizer, ids, scores, prefix = sentencepiece
    for text in texts(1):
        assert tokenizer.encode(text)[0] == as_llama_cpp(text, ids, scores, prefix)
        assert tokenizer.decode(tokenizer.encode(text)[0]) == text


def test_control_tokens_of_sentencepiece_have_their_usual_numbers_and_places(sentencepiece):
    tokenizer, ids, scores, prefix = sentencepiece
    assert (tokenizer.eos_id, tokenizer.bos_id) == (2, 1 if prefix else None)
    assert tokenizer.fast.unk_token == "<unk>"
    assert tokenizer.added_tokens == {"<unk>": True, "<s>": True, "</s>": True, "<tool>": False}
    found = tokenizer.with_control.encode("the<tool>in</s>the")[0]
    pieces = [as_llama_cpp(text, ids, scores, prefix) for text in ("the", "in", "the")]
    assert found == [*pieces[0], ids["<tool>"], *pieces[1], ids["</s>"], *pieces[2]]


@pytest.mark.parametrize("pre", ["llama-bpe", "llama3", "smollm"])
def test_llama_3_splits_numbers_by_three_and_takes_whole_words_as_they_are(tmp_path, pre):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # "call" is a word that no chain of merges makes.
    tokens = [*alphabet, "12", "123", "1234", "Ġt", "call", "'S", ".Ċ", "<|begin|>", "<|end|>"]
    kinds = [*[NORMAL] * (len(tokens) - 2), CONTROL, CONTROL]
    merges = ["1 2", "12 3", "123 4", "Ġ t", "' S", ". Ċ"]
    ends = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1}
    ends |= {
        "tokenizer.chat_template": "{{ messages }}",
        "tokenizer.chat_template.tool_use": "{{ tools }}",
        "tokenizer.chat_template.../x": "{{ outside }}",
    }
    path = write(tmp_path / "m.gguf", "gpt2", tokens, kinds, merges=merges, pre=pre, **ends)
    tokenizer = built(path)

    def pieces(text):
        return [tokenizer.backend.id_to_token(i) for i in tokenizer.encode(text)[0]]

    llama_3 = pre != "smollm"
    assert tokenizer.fast.get_chat_template() == "{{ messages }}"
    assert tokenizer.fast.get_chat_template(tools=[{}]) == "{{ tools }}"
    assert len(list(tmp_path.rglob("*.jinja"))) == 2
    assert tokenizer.bos_id == (ends["bos_token_id"] if llama_3 else None)
    assert pieces("12345") == (["123", "4", "5"] if llama_3 else list("12345"))
    assert pieces("call") == (["call"] if llama_3 else list("call"))
    plain = ["a", "'", "S", "Ġt", ".", "Ċ"]
    assert pieces("a'S t.\n") == (["a", "'S", "Ġt", ".Ċ"] if llama_3 else plain)
    for text in texts(2, 40):
        assert tokenizer.decode(tokenizer.encode(text)[0]) == text


GOLDEN = os.environ.get("TL_JAX_GGUF_VOCABULARIES", "")


@pytest.mark.slow
@pytest.mark.skipif(
    not GOLDEN, reason="TL_JAX_GGUF_VOCABULARIES is not set (tools/vocabularies.sh)"
)
@pytest.mark.parametrize(
    "name", ["llama-spm", "llama-bpe", "phi-3", "gpt-2", "refact", "starcoder"]
)
def test_ids_are_the_golden_ones_of_llama_cpp(name):
    path = Path(GOLDEN) / f"ggml-vocab-{name}.gguf"
    core = gguf_tokenizer.build(path, gguf.GGUFReader(path))
    core.encode_special_tokens = True
    given = Path(f"{path}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = Path(f"{path}.out").read_text().splitlines()
    assert len(given) == len(lines) > 40
    for text, line in zip(given, lines, strict=True):
        assert core.encode(text, add_special_tokens=False).ids == [int(i) for i in line.split()]
