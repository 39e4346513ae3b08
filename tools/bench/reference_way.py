"""The data work of the published training code, written from its description for comparison.

Every turn is rendered with all turns before it and tokenised as a whole; at every training step
the key tokens are searched in the pieces of the whole sequence, and every token is read from the
tensor of the batch. That tensor lies in host memory here and the tokenizer is the fast one; the
published code reads from an accelerator and has the slow tokenizer.

Source: TL-Training release, code/mae/mae.py and code/pkt/utils.py, as described in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch

from tl_jax.data.render.paper_template import render_sample
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.data.trajectory import Trajectory

PHRASES = (
    "is not defined", "positional argument", "unexpected keyword", "'related_searches'",
    "ConnectionError", '"error":', "not supported", "Invalid API call", "Response error",
    "Object of type SerpResults is not JSON serializable", "400 Client Error", "'error'",
    "slice indices must be integers or None or have an __index__ method", "connection error",
)  # fmt: skip
END_PIECES = ("(", "()", "(_", "_(", "_()", "()_", '("')
CLOSERS = ("',", "')", ")", ")_", "()", "()_", "'')", '")', '"")', '.")', ")")


def samples(trajectory: Trajectory) -> Iterator[str]:
    """Yield the text of every kept turn with all turns before it."""
    messages = trajectory.messages
    for index, message in enumerate(messages):
        if message.role != "assistant" or message.status == "error":
            continue
        if index + 1 < len(messages):
            following = messages[index + 1]
            if following.role != "tool":
                continue
            reduced = _reduced(following.content)
            if any(_reduced(phrase) in reduced for phrase in PHRASES):
                continue
        yield render_sample(trajectory.tools, messages[: index + 1]).text


def _reduced(text: str) -> str:
    return re.sub("[^\u4e00-\u9fa5^a-zA-Z0-9]", "", text).lower()


def tokens(text: str, tokenizer: Tokenizer) -> torch.Tensor:
    """Return the ids of a sample, all of which is tokenised, whatever came before."""
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    ids = tokenizer.backend.encode(text, add_special_tokens=False).ids
    return torch.tensor([*start, *ids, tokenizer.eos_id])


def weights(ids: torch.Tensor, tokenizer: Tokenizer, w_max: float = 9.0) -> list[float]:
    """Return the loss weights of a sample as a training step finds them."""
    piece_of = tokenizer.backend.id_to_token
    pieces = []
    for i in range(len(ids)):
        pieces.append(piece_of(ids[i].item()).replace("Ġ", "").replace("▁", ""))
    start = 0
    for i in range(len(pieces) - 1):
        if pieces[i] == "Assistant" and pieces[i + 1] == ":":
            start = i + 2
    reply = pieces[start:]
    end = len(reply)
    for piece in END_PIECES:
        if piece in reply:
            end = reply.index(piece)
            break
    gold = reply[:end]
    alternatives = []
    for i in range(len(pieces) - 1):
        if pieces[i] == "Function" and pieces[i + 1] == ":":
            name = []
            for j in range(i + 4, len(pieces)):
                if pieces[j] in ("(", "()", "():"):
                    break
                name.append(pieces[j])
            if name != gold:
                alternatives.append(name)
    key = {0}
    for name in alternatives:
        common = 0
        while common < min(len(name), len(gold)) and name[common] == gold[common]:
            common += 1
        if common:
            key.add(common)
    closers = set()
    for i in range(len(reply)):
        if reply[i] in CLOSERS:
            closers.add(i)
    other = 0
    for i in range(len(reply)):
        if i not in key and i not in closers:
            other += 1
    weight = max(min(other / len(key), w_max), 1.0)
    found = [0.0] * start
    for i in range(len(reply)):
        found.append(weight if i in key else 1.0)
    return found
