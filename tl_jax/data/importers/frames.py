"""Take the marks away that families of models write round what a turn thinks and what it says.

Harmony (gpt-oss) has messages inside a turn, each with a channel; others have tags of their own
round the answer, beside those round the thought.
"""

from __future__ import annotations

import re

from tl_jax.data.importers import thoughts

_CHANNEL, _MESSAGE, _START = "<|channel|>", "<|message|>", "<|start|>assistant"
_END = re.compile(r"<\|(?:end|return|call)\|>\s*\Z")
_THOUGHT, _RECIPIENT = "analysis", "to="
_ANSWERS = {
    "<|begin_of_solution|>": "<|end_of_solution|>",
    "<|START_RESPONSE|>": "<|END_RESPONSE|>",
    "<|START_TEXT|>": "<|END_TEXT|>",
}


def parted(text: str) -> tuple[str, str]:
    """Return the thoughts in the text of an assistant turn, and what it says or calls.

    Tags of thoughts are read by ``thoughts.split_thoughts``. Calls stay as the family writes them.
    """
    if text.lstrip().startswith((_CHANNEL, _START)) and _MESSAGE in text:
        return _messages(text)
    thought, said = thoughts.split_thoughts(text)
    for opening, closing in _ANSWERS.items():
        if said.lstrip().startswith(opening):
            said = said.strip().removeprefix(opening).removesuffix(closing).strip()
    return thought, said


def _messages(text: str) -> tuple[str, str]:
    """Part harmony's messages; those with a recipient are calls, from it on."""
    reasoned, said, calls = [], [], ""
    for piece in text.split(_START):
        head, mark, body = piece.partition(_MESSAGE)
        if not mark:
            said.append(head.strip())
        elif _RECIPIENT in head:
            call = piece[piece.index(_RECIPIENT) :]
            calls = f"{calls}{_START}{piece}" if calls else call
        elif head.strip().startswith(_CHANNEL + _THOUGHT):
            reasoned.append(_END.sub("", body).strip())
        else:
            said.append(_END.sub("", body).strip())
    return thoughts.joined(*reasoned), "\n".join(filter(None, (*said, calls)))
