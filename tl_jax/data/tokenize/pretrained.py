"""The ``transformers`` tokenizer of a model directory, with ``tokenizer.json`` as it stands there.

A model was trained on the ids of that file. ``AutoTokenizer`` takes the class that the directory
names, and classes of the library write the steps before and after the vocabulary anew: with
``GPT2Tokenizer`` a step that splits digits is lost, and which class is taken changes between
releases of the library and with the packages that are installed. The generic class reads the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

FILE = "tokenizer.json"
TEXT_FORM = "tl_jax_text_form"
"""Key of ``tokenizer_config.json``: the plain text form that a model without a chat template was
trained in."""
# Numbers, blanks, line feeds, quotes, accents in both forms, scripts, code: where classes differ.
_PROBE = (
    "tel 12 345  678\n\n  9: \"3.14\", don't DON'T\tnaïve cafe\u0301\r\n日本語 🦙\n"
    'find_all(what="a-b", n=1000)\n{"x": [1, 2.5, null]}   end '
)
_TEKKEN = "tekken.json"
# Mistral's file has the control tokens, and says nowhere which is which.
_TEKKEN_NAMES = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
}


def load_fast(path: str) -> Any:
    """Return the fast tokenizer of a directory, offline and without remote code.

    Without ``tokenizer.json`` it is what ``AutoTokenizer`` converts from the other files.

    Raises:
      OSError, ValueError, KeyError: No tokenizer there, or one that cannot be read.
    """
    from transformers import PreTrainedTokenizerFast  # seconds to import

    if not os.path.isfile(os.path.join(path, FILE)):
        fast = _automatic(path)
        if fast.eos_token is None and os.path.isfile(os.path.join(path, _TEKKEN)):
            _name(fast, _TEKKEN_NAMES)
        return fast
    fast = PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)
    if fast.eos_token is None:
        _name(fast, _names_of_class(path))
    return fast


def served_alike(path: str) -> bool:
    """Whether ``AutoTokenizer`` gives the ids of a directory's ``tokenizer.json``.

    For some model types the library takes a class of its own, whatever the directory names.
    """
    from transformers import PreTrainedTokenizerFast

    readers = _automatic, PreTrainedTokenizerFast.from_pretrained
    try:
        found = [read(path) for read in readers]
    except (OSError, ValueError, KeyError):
        return False
    text = _PROBE + " ".join(token for fast in found for token in fast.get_added_vocab())
    ids = [fast(text, add_special_tokens=False)["input_ids"] for fast in found]
    return ids[0] == ids[1]


def text_form(fast: Any) -> str:
    """Return what the directory of a tokenizer says under ``TEXT_FORM``, or an empty text."""
    found = fast.init_kwargs.get(TEXT_FORM)
    return found if isinstance(found, str) else ""


def steps(serialized: str) -> str:
    """Return what a tokenizer does beside its vocabulary, as a text for a fingerprint.

    Args:
      serialized: What ``tokenizers.Tokenizer.to_str`` gives.
    """
    declared = json.loads(serialized)
    names = ("normalizer", "pre_tokenizer", "decoder", "added_tokens")
    model = {k: v for k, v in declared["model"].items() if k not in ("vocab", "merges")}
    return json.dumps([{name: declared[name] for name in names}, model], sort_keys=True)


def _automatic(path: str) -> Any:
    from transformers import AutoTokenizer

    # Not with the tokenizer of mistral-common where that is installed: it tells no offsets.
    return AutoTokenizer.from_pretrained(
        path, trust_remote_code=False, local_files_only=True, mistral_format=False
    )


def _names_of_class(path: str) -> dict[str, Any]:
    """Return the control tokens that the class of a directory has names for."""
    try:
        named = _automatic(path)
    except (OSError, ValueError, KeyError):
        return {}
    return {name: getattr(named, name, None) for name in _TEKKEN_NAMES}


def _name(fast: Any, names: Mapping[str, Any]) -> None:
    """Give the tokenizer names for control tokens, if they are in its vocabulary."""
    vocabulary = fast.get_vocab()
    for name, token in names.items():
        if getattr(fast, name) is None and token in vocabulary:
            setattr(fast, name, token)
