"""Measure how many replies are trained without the newest tool result they answer.

    python tools/bench/evidence.py --tokenizer=DIR --name=after [--data=DIR] [--out=FILE]

DIR of ``--tokenizer`` is a Hugging Face directory (SmolLM2's for the published numbers), DIR of
``--data`` holds the real trajectories; by default the value of TL_JAX_DATA. ``--name`` is the key
in the results, so that the script can run on two revisions (PYTHONPATH) and keep both. A mark
before each result tells whether any of its head stands in the sample, whatever shortens it.
Takes a few minutes on one core.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import json
import os
import pathlib
from typing import Any

from tl_jax.config import DataConfig, KeyTokenConfig, MaeConfig
from tl_jax.data.examples.build import build_examples
from tl_jax.data.examples.truncate import fit
from tl_jax.data.importers import BadRow, read
from tl_jax.data.mae.labels import label_turns
from tl_jax.data.mae.policy import policy_of
from tl_jax.data.render.renderer import Renderer, open_renderer
from tl_jax.data.tokenize.tokenizer import load_tokenizer
from tl_jax.data.trajectory import Trajectory

SETS = ("rotllama_gpt4/trajectories", "agentdojo/runs", "tau_bench/trajectories")
LENGTHS = (1024, 2048, 4096)
RESULTS = pathlib.Path(__file__).parent / "results" / "evidence.json"
POLICY = policy_of(MaeConfig())


def main() -> None:
    """Measure all sets, lengths and forms of samples, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--name", required=True, help="key in the results")
    parser.add_argument("--data", default=os.environ.get("TL_JAX_DATA", ""))
    parser.add_argument("--limit", type=int, default=150, help="trajectories of each set")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    tokenizer = load_tokenizer(options.tokenizer)
    found: dict[str, Any] = {}
    for name in SETS:
        rows = read(pathlib.Path(options.data) / f"{name}.jsonl.gz")
        good = [row for row in rows if not isinstance(row, BadRow)]
        spread = good[:: max(1, len(good) // options.limit)][: options.limit]
        trajectories = [marked(row) for row in spread]
        for samples, length in itertools.product(("per_turn", "per_trajectory"), LENGTHS):
            data = DataConfig(template="released", samples=samples, max_length=length)
            counts = {
                "trajectories": len(trajectories),
                **count(trajectories, open_renderer(data, tokenizer), length),
            }
            found[f"{name.partition('/')[0]}, {samples}, {length}"] = counts
            print(name, samples, length, counts, flush=True)
    results = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    results[options.name] = found
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def mark(index: int) -> str:
    """Return what stands before the result at a place of a dialogue."""
    return f"<{index}> "


def marked(trajectory: Trajectory) -> Trajectory:
    """Return a dialogue whose results begin with a mark of their own."""
    messages = [
        dataclasses.replace(m, content=mark(i) + m.content) if m.role == "tool" else m
        for i, m in enumerate(trajectory.messages)
    ]
    return dataclasses.replace(trajectory, messages=tuple(messages))


def count(trajectories: list[Trajectory], renderer: Renderer, length: int) -> dict[str, Any]:
    """Count trained replies that answer a result, and those that have lost it."""
    counts: collections.Counter[str] = collections.Counter()
    for trajectory in trajectories:
        labels = label_turns(trajectory, POLICY)
        encoded = renderer.encode_trajectory(trajectory)
        examples, skipped = build_examples(
            trajectory,
            labels,
            renderer,
            key_tokens=KeyTokenConfig(mode="off"),
            max_length=length,
            encoded=encoded,
        )
        counts["untrained"] += len(skipped)
        by_turn = {label.turn: label.message for label in labels}
        for example in examples:
            trained = [by_turn[int(turn)] for turn in example.tags["turns"].split(",")]
            sample = fit(trajectory, trained[-1], renderer, encoded, max_length=length).sample
            assert sample is not None
            kept = {reply.message for reply in sample.rendered.replies}
            for message in trained:
                counts["trained"] += 1
                before = trajectory.messages[:message]
                results = [i for i, turn in enumerate(before) if turn.role == "tool"]
                if not results:
                    continue
                counts["after_a_result"] += 1
                asked = max(i for i in range(results[-1]) if before[i].role == "assistant")
                lost = mark(results[-1]) not in sample.rendered.text or asked not in kept
                counts["result_lost"] += lost
                counts["answers_in_words_with_result_lost"] += (
                    lost and not trajectory.messages[message].calls
                )
    share = counts["result_lost"] / max(counts["after_a_result"], 1)
    names = ("trained", "untrained", "after_a_result", "result_lost")
    names += ("answers_in_words_with_result_lost",)
    return {**{name: counts[name] for name in names}, "share_lost": round(share, 4)}


if __name__ == "__main__":
    main()
