"""Tokenise the same dialogues with ``datasets`` and TRL: one side of ``tools/bench/data.py``.

    python tools/bench/data_peer.py TOKENIZER MESSAGES TOOLS_TEMPLATE PROCESSES

Runs in an environment of its own with ``datasets`` and ``trl``. MESSAGES is a file of lines
``{"messages", "tools"}``, already in the form of OpenAI. It does less than preparing here: nothing
is judged, weighted, shortened, held out, checked for calls or written as prompts; replies are told
from context by the ``generation`` tags of the template, and TRL's collator makes the labels.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile
import time
from typing import Any

import datasets
import transformers
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

_ROWS = 8


def main(tokenizer: str, messages: str, template: str, processes: str) -> None:
    """Tokenise and collate all rows and print a line of JSON."""
    loaded = transformers.AutoTokenizer.from_pretrained(tokenizer)
    source = pathlib.Path(template).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as cache:
        # Tools as text: a table would fill every tool with the parameters of all others.
        rows = datasets.load_dataset("json", data_files=messages, split="train", cache_dir=cache)
        start = time.perf_counter()

        def tokens(row: dict[str, Any]) -> dict[str, Any]:
            found = loaded.apply_chat_template(
                json.loads(row["messages"]),
                tools=json.loads(row["tools"]),
                chat_template=source,
                return_dict=True,
                return_assistant_tokens_mask=True,
            )
            return {"input_ids": found["input_ids"], "assistant_masks": found["assistant_masks"]}

        done = rows.map(tokens, num_proc=int(processes), remove_columns=rows.column_names)
        collate = DataCollatorForLanguageModeling(pad_token_id=loaded.pad_token_id)
        count = trained = 0
        for at in range(0, len(done), _ROWS):
            batch = collate([done[i] for i in range(at, min(at + _ROWS, len(done)))])
            count += int(batch["attention_mask"].sum()) if "attention_mask" in batch else 0
            trained += int((batch["labels"] >= 0).sum())
        wall = time.perf_counter() - start
    found = {"rows": len(done), "tokens": count, "trained_tokens": trained, "wall_s": wall}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
