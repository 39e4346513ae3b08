"""The tokenizer as the data code sees it: ids with character offsets, no hidden control tokens."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from tl_jax.data.tokenize.offsets import Offsets
from tl_jax.data.tokenize.prefix_cache import TextStarts
from tl_jax.data.tokenize.pretrained import FILE, load_fast, steps
from tl_jax.data.tokenize.word_cache import TextPieces
from tl_jax.errors import ConfigError

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"

# Put before a text piece that continues another one, for tokenizers that treat the start of a
# text specially (LLaMA-2 writes a blank there); its tokens are taken off again.
_ANCHOR = "\n"
_LONGEST_CHARACTER = 4  # bytes, and so tokens


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A fast tokenizer whose control tokens enter by id only.

    Text is always encoded as plain text: a control token typed in a user message or a tool result
    becomes ordinary tokens. Callers append ``eos_id`` themselves.

    Attributes:
      fast: The ``transformers`` fast tokenizer, as loaded.
      backend: Its ``tokenizers`` core, set to treat control tokens in text as plain text.
      eos_id: Id of the end-of-sequence token.
      bos_id: Id that the tokenizer puts first by its own default; None if it puts none.
      pad_id: Id of the padding token; ``eos_id`` where the tokenizer has none (masks come from
        lengths, so the two need not differ).
      fingerprint: sha256 of ``tokenizer.json``, of the three ids, which are set elsewhere, and of
        the steps that the loaded tokenizer takes.
    """

    fast: Any = dataclasses.field(repr=False)
    backend: tokenizers.Tokenizer = dataclasses.field(repr=False)
    eos_id: int
    bos_id: int | None
    pad_id: int
    fingerprint: str

    def __getstate__(self) -> dict[str, Any]:
        # What has been remembered stays behind, and the backend's text form lacks one setting.
        state = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        state["backend"] = self.backend.to_str(), self.backend.encode_special_tokens
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        text, plain = state["backend"]
        backend = tokenizers.Tokenizer.from_str(text)
        backend.encode_special_tokens = plain
        self.__dict__.update(state, backend=backend)

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @property
    def eos_text(self) -> str:
        """Text form of the end-of-sequence token."""
        return self.fast.eos_token

    @functools.cached_property
    def added_tokens(self) -> dict[str, bool]:
        """Text of every added token, and whether it is special."""
        return {t.content: t.special for t in self.backend.get_added_tokens_decoder().values()}

    @functools.cached_property
    def with_control(self) -> Tokenizer:
        """The same tokenizer, but a control token in a text is its id; for templates only."""
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        backend.encode_special_tokens = False
        return dataclasses.replace(self, backend=backend)

    def token_id(self, text: str) -> int:
        """Return the id of a token.

        Raises:
          ValueError: There is no such token.
        """
        found = self.backend.token_to_id(text)
        if found is None:
            raise ValueError(f"this tokenizer has no token {text!r}")
        return found

    def check_ids(self, ids: Sequence[int], vocab_size: int) -> None:
        """Refuse ids that a model of ``vocab_size`` ids has no embedding for.

        Raises:
          ConfigError: The message names the largest of them.
        """
        largest = max(ids, default=-1)
        if largest >= vocab_size:
            raise ConfigError(
                f"config.model.path: token {self.backend.id_to_token(largest)!r} has the id "
                f"{largest}, but the model has {vocab_size} ids and its tokenizer "
                f"{self.vocab_size}: resize the model's embeddings or use its own tokenizer"
            )

    def encode(
        self, text: str, add_bos: bool = False, *, shared: int = 0
    ) -> tuple[list[int], Offsets]:
        """Encode a text that starts a sequence.

        Args:
          text: Plain text.
          add_bos: Put ``bos_id`` first if the tokenizer does so by default (offset ``(0, 0)``).
          shared: How many characters at the start of ``text`` other texts start with, too. The
            result is the same for any number; the right one saves time.

        Returns:
          Ids, and for each the ``(start, end)`` character range of ``text`` it stands for.
        """
        if shared:
            ids, offsets = self._starts.encode(text, shared)
        else:
            ids, offsets = self._pieces.encode(text)
        if add_bos and self.bos_id is not None:
            return [self.bos_id, *ids], Offsets.joined([Offsets.of([(0, 0)]), offsets])
        return ids, offsets

    def encode_continuation(self, text: str) -> tuple[list[int], Offsets]:
        """Encode a text that follows other tokens, so that no blank is added at its start.

        Raises:
          ValueError: The tokenizer joins the start of ``text`` with a newline before it.
        """
        if not self._marks_start:
            return self.encode(text)
        ids, offsets = self.encode(_ANCHOR + text)
        skip = len(_ANCHOR)
        first = offsets.over(skip, skip).start
        if first < len(ids) and offsets[first][0] < skip:
            raise ValueError(
                f"this tokenizer joins a newline with {text[:20]!r}; it cannot encode "
                "a prompt and its reply piece by piece"
            )
        return ids[first:], offsets[first:].shifted(-skip)

    def decode(self, ids: Sequence[int], *, keep_control: bool = False) -> str:
        """Return the text of ``ids``; control tokens are left out unless ``keep_control``."""
        return self.backend.decode(list(ids), skip_special_tokens=not keep_control)

    def count(self, text: str) -> int:
        """Return how many tokens a text that starts a sequence has."""
        return self._pieces.count(text)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text of every token, control tokens included; joined they are the text.

        A character made of several tokens is the text of the last of them, the others have none.
        """
        pieces, before, read = [], 0, 0
        for end in range(1, len(ids) + 1):
            known = self.decode(ids[before:read], keep_control=True)
            text = self.decode(ids[before:end], keep_control=True)
            unfinished = text.endswith("\N{REPLACEMENT CHARACTER}") and end < len(ids)
            if unfinished and end - read < _LONGEST_CHARACTER:
                pieces.append("")
                continue
            pieces.append(text[len(known) :])
            # The next is read after this one: some decoders drop a blank at the start.
            before, read = read, end
        return pieces

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write the tokenizer files so that ``AutoTokenizer`` and ``load_tokenizer`` read them."""
        self.fast.save_pretrained(str(directory))

    @functools.cached_property
    def _pieces(self) -> TextPieces:
        return TextPieces(self.backend)

    @functools.cached_property
    def _starts(self) -> TextStarts:
        return TextStarts(self.backend, self._pieces)

    @functools.cached_property
    def _marks_start(self) -> bool:
        alone, after = self.encode("a")[0], self.encode(_ANCHOR + "a")[0]
        return after[-len(alone) :] != alone


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Load the tokenizer of a Hugging Face model directory, offline and without remote code.

    Its ids are those of ``tokenizer.json``, whatever class the directory names.

    Raises:
      ValueError: No tokenizer in ``path``, one of an unknown form, no fast version of it, or no
        end-of-sequence token.
    """
    path = str(path)
    try:
        fast = load_fast(path)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: cannot load a tokenizer ({error})") from error
    except Exception as error:
        if type(error) is not Exception:  # as which the library raises what it cannot read
            raise _of_odd_types(path, error) from error
        raise ValueError(
            f"{os.path.join(path, FILE)}: cannot be read ({error}); written by a newer "
            "`tokenizers`? upgrade it, or fetch the file again"
        ) from error
    try:
        return from_fast(fast, path)
    except (TypeError, AttributeError, LookupError, OverflowError) as error:
        raise _of_odd_types(path, error) from error


def _of_odd_types(path: str, error: Exception) -> ValueError:
    return ValueError(
        f"{path}: a tokenizer file has a value of another type than it should "
        f"({type(error).__name__}: {error}); fetch the tokenizer files again"
    )


def from_fast(fast: Any, path: str = "") -> Tokenizer:
    """Wrap a ``transformers`` fast tokenizer; ``path`` is where its ``tokenizer.json`` lies."""
    if not getattr(fast, "is_fast", False):
        raise ValueError(f"{path}: character offsets need a fast tokenizer (tokenizer.json)")
    if fast.eos_token_id is None:
        raise ValueError(f"{path}: the tokenizer has no eos_token; set it in tokenizer_config.json")
    serialized = fast.backend_tokenizer.to_str()
    backend = tokenizers.Tokenizer.from_str(serialized)
    backend.no_truncation()
    backend.no_padding()
    default = fast("a")["input_ids"]
    starts_with_bos = fast.bos_token_id is not None and default[:1] == [fast.bos_token_id]
    file = os.path.join(path, FILE)
    if path and os.path.exists(file):
        with open(file, "rb") as stream:
            digest = hashlib.sha256(stream.read())
    else:
        digest = hashlib.sha256(serialized.encode())
    bos_id = fast.bos_token_id if starts_with_bos else None
    pad_id = fast.eos_token_id if fast.pad_token_id is None else fast.pad_token_id
    digest.update(f"\n{fast.eos_token_id} {bos_id} {pad_id}\n{steps(serialized)}".encode())
    backend.encode_special_tokens = True
    backend.post_processor = None  # it would take blanks off the offsets
    return Tokenizer(
        fast=fast,
        backend=backend,
        eos_id=fast.eos_token_id,
        bos_id=bos_id,
        pad_id=pad_id,
        fingerprint=digest.hexdigest(),
    )


def train_byte_bpe(
    texts: Iterable[str], vocab_size: int, out_dir: str | os.PathLike[str]
) -> Tokenizer:
    """Train a byte-level BPE tokenizer and save it to ``out_dir``.

    Blanks, punctuation and underscores are tokens of their own and digits stand alone, so that a
    word has the same ids after a blank, inside quotes and inside a tool name: a small model can
    then copy values from the query and names from the documentation.
    The result depends only on ``texts`` and ``vocab_size``.

    Args:
      texts: Training texts.
      vocab_size: Wanted number of ids, the three control tokens and 256 bytes included.
      out_dir: Directory for the tokenizer files; made if absent.

    Raises:
      ValueError: ``vocab_size`` has no room for the bytes and the control tokens.
    """
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    least = len(alphabet) + 3
    if vocab_size < least:
        raise ValueError(f"vocab_size must be at least {least}, got {vocab_size}")
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(r"\s+"), "isolated"),
            pre_tokenizers.Split(tokenizers.Regex(r"[^\w\s]+|_"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[PAD, BOS, EOS],
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        clean_up_tokenization_spaces=False,
    )
    os.makedirs(out_dir, exist_ok=True)
    fast.save_pretrained(str(out_dir))
    return load_tokenizer(out_dir)
