"""Tokenizer wrapper: offsets, control tokens as plain text, pieces that fit together."""

import json

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tl_jax.data.tokenize.tokenizer import from_fast, load_tokenizer, train_byte_bpe

TEXTS = ["System: search_advice(query = 'tool 2024')\nUser: hi", "Output: 12 naïve 日本"] * 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_byte_bpe(TEXTS, 330, tmp_path_factory.mktemp("bpe"))


def marking_tokenizer():
    """A small tokenizer that writes a blank before the text, as LLaMA-2's does."""
    pieces = ["<unk>", "<s>", "</s>", "▁", "g", "e", "t", ":", "\n", "ge", "get", "▁get", "a"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    merges = [("g", "e"), ("ge", "t"), ("▁", "get")]
    core = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    return from_fast(
        PreTrainedTokenizerFast(
            tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
    )


def test_training_twice_gives_the_same_tokenizer(trained, tmp_path):
    again = train_byte_bpe(iter(TEXTS), 330, tmp_path)
    assert again.fingerprint == trained.fingerprint


@pytest.mark.parametrize("name, text", [("eos_token", "<|bos|>"), ("pad_token", "<|eos|>")])
def test_another_control_token_makes_another_fingerprint(trained, tmp_path, name, text):
    trained.save(tmp_path)
    before = load_tokenizer(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: text}))
    file = (tmp_path / "tokenizer.json").read_bytes()
    after = load_tokenizer(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == file
    assert (after.eos_id, after.pad_id) != (before.eos_id, before.pad_id)
    assert after.fingerprint != before.fingerprint == trained.fingerprint


def test_a_file_of_an_unknown_form_is_named_with_what_to_do(trained, tmp_path):
    trained.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["type"] = "of next year"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"tokenizer\.json: cannot be read .* upgrade it"):
        load_tokenizer(tmp_path)


def test_auto_tokenizer_loads_what_was_saved(trained, tmp_path):
    trained.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = "get 2024 é日"
    assert loaded.encode(text) == trained.encode(text)
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token_id == loaded.eos_id == 2
    assert loaded.pad_id == 0


def test_digits_stand_alone_and_text_survives(trained):
    ids, offsets = trained.encode(" 2024 日本")
    assert trained.decode(ids) == " 2024 日本"
    assert [(1, 2), (2, 3), (3, 4), (4, 5)] == offsets[1:5]


def test_control_tokens_in_text_are_plain_text(trained):
    ids, _ = trained.encode("<|eos|> and <|bos|>")
    assert trained.eos_id not in ids and 1 not in ids
    assert trained.decode(ids) == "<|eos|> and <|bos|>"


def test_bos_only_where_the_tokenizer_puts_one(trained):
    assert trained.bos_id is None
    assert trained.encode("hi", add_bos=True) == trained.encode("hi")


def test_continuation_has_no_added_blank():
    tokenizer = marking_tokenizer()
    get, blank_get = 10, 11
    assert tokenizer.encode("get")[0] == [blank_get]
    ids, offsets = tokenizer.encode_continuation("get")
    assert (ids, offsets) == ([get], [(0, 3)])
    whole = tokenizer.encode("a: get")[0]
    pieces = tokenizer.encode("a:")[0] + tokenizer.encode_continuation(" get")[0]
    assert whole == pieces and pieces[-1] == blank_get


def test_too_small_a_vocabulary_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 259"):
        train_byte_bpe(TEXTS, 100, tmp_path)


def test_a_directory_without_tokenizer_is_named(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        load_tokenizer(tmp_path)


def test_a_word_has_the_same_ids_after_a_blank_as_inside_quotes(trained):
    after_blank, _ = trained.encode("the tool x")
    in_quotes, _ = trained.encode("('tool')")
    word, _ = trained.encode("tool")
    for ids in (after_blank, in_quotes):
        assert any(ids[i : i + len(word)] == word for i in range(len(ids)))


@pytest.mark.parametrize("kind", ["tokenizer", "llama_like", "joining"])
def test_the_pieces_of_a_text_join_to_it(kind, request):
    chosen = request.getfixturevalue(kind)
    text = " search_advice(query = 'naïve 😀 \ufffd 日本') \n"
    ids = [*chosen.encode_continuation(text)[0], chosen.eos_id]
    pieces = chosen.pieces(ids)
    assert len(pieces) == len(ids) and pieces[-1] == chosen.eos_text
    assert "".join(pieces) == chosen.decode(ids, keep_control=True)
    if kind == "tokenizer":
        assert "".join(pieces) == text + chosen.eos_text
        [*parts, whole] = pieces[pieces.index("😀") - 3 : pieces.index("😀") + 1]
        assert parts == ["", "", ""] and whole == "😀"
