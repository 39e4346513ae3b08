"""Measure decoding with proposals and shared prompts: SmolLM2-135M on CPU, float32.

    python tools/bench/decoding.py --data=DIR --before=DIR [--prompts=64] [--new=64] [--repeats=3]
        [--out=FILE]

``--data`` holds ``eval_rotbench`` (as ``TL_JAX_DATA``), ``--before`` is a checkout of the build to
compare with; without it that side is left out. Works:

``calls``: RoTBench's first clean prompts in ChatML, each followed by the begin of a call, for the
model is not trained on tools; continued greedily by at most ``--new`` tokens, eight rows at a time.
``rollout``: four prompts of 512 tokens, eight samples of 64 tokens each, at temperature 1.

Sides: ``tl_jax``; ``before``; ``transformers``, eight rows sorted by length, padded on the left;
and ``lookup``, its prompt lookup, which takes one prompt at a time. Each has a process of its own,
and they take turns; the first turn of each, in which programs are compiled, does not count. Besides
wall time the time of the processor is kept, which tells more on a machine that does other things.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import model as bench
import rl_sides

RESULTS = pathlib.Path(__file__).parent / "results" / "decoding.json"
ROWS, STOP, LOOKED_UP = 8, 2, 10
ROLLOUT = rl_sides.Work(prompts=4, samples=8, length=512, new=64, updates=1)
BEGUN = '<tool_call>\n{"name": "'
CALLS, SAMPLES = "calls", "rollout"
TARGETS = {(CALLS, "transformers"): 2.0, (CALLS, "lookup"): 2.0, (SAMPLES, "before"): 1.5}
WORKS = {
    CALLS: "greedy generation of tool calls, prefill and decode, batch 8",
    SAMPLES: "rollout of 4 prompts of 512 tokens, 8 samples of 64",
}


def main() -> None:
    """Let the sides take turns and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=os.environ.get("TL_JAX_DATA"))
    parser.add_argument("--before", default="", help="checkout of the build to compare with")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--works", default=f"{CALLS},{SAMPLES}")
    parser.add_argument("--sides", default="tl_jax,before,transformers,lookup")
    parser.add_argument("--note", default="", help="kept in the results")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--side", default="", help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.side, options.directory)
        return
    load = os.getloadavg()[0]
    measured = measure(options)
    results = {
        "machine": bench.machine(load),
        "note": options.note,
        "prompts": options.prompts,
        "new": options.new,
        **measured,
    }
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the times of all sides, how many texts are equal, and the ratios."""
    sides = [x for x in options.sides.split(",") if x != "before" or options.before]
    works = options.works.split(",")
    found: dict[str, dict[str, Any]] = {work: {} for work in works}
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        prepare(directory, options)
        processes = {side: start(side, directory, options.before) for side in sides}
        for process in processes.values():
            bench.answer(process)
        for turn in range(options.repeats + 1):
            for work in works:
                for side, process in processes.items():
                    if (work, side) in TARGETS or side in ("tl_jax", "before"):
                        kept = found[work].setdefault(side, {"wall_s": [], "processor_s": []})
                        made = ask(process, work)
                        kept["ids"] = made.pop("ids")
                        for key in made if turn else ():
                            kept[key].append(round(made[key], 3))
        for process in processes.values():
            process.communicate()
    results = []
    for work, by_side in found.items():
        texts = {side: kept.pop("ids") for side, kept in by_side.items()}
        for side, kept in by_side.items():
            kept["tokens"] = sum(map(len, texts[side]))
            kept["texts_equal"] = sum(map(list.__eq__, texts[side], texts["tl_jax"]))
            if side != "tl_jax":
                results.append(compared(work, side, by_side))
    return {"sides": found, "results": results}


def compared(work: str, side: str, by_side: dict[str, Any]) -> dict[str, Any]:
    """Return a line of the results."""

    def ratio(key: str) -> float:
        theirs, ours = (statistics.median(by_side[name][key]) for name in (side, "tl_jax"))
        return round(theirs / ours, 3)

    against = {"before": "the build before", "lookup": "transformers, prompt lookup"}
    return {
        "work": WORKS[work],
        "against": against.get(side, side),
        "ratio": ratio("wall_s"),
        "ratio_processor": ratio("processor_s"),
        "target": TARGETS.get((work, side)),
    }


def prepare(directory: pathlib.Path, options: argparse.Namespace) -> None:
    """Write the model and the prompts."""
    from tl_jax import config
    from tl_jax.convert import gguf
    from tl_jax.evaluate.suites import rotbench
    from tl_jax.run.directory import Run

    path = directory / "model"
    gguf.convert(pathlib.Path(rl_sides.packaged_model()), path, "float32")
    source = config.ModelSourceConfig(path=str(path))
    run = Run(config.RunConfig(run_dir=str(directory / "run"), model=source))
    items = rotbench.read_items(options.data / "eval_rotbench" / "first_turn.jsonl.gz")
    begun = run.tokenizer.encode(BEGUN)[0]
    prompts = [
        [*map(int, run.renderer.prompt_ids(item.tools, list(item.messages))), *map(int, begun)]
        for item in items
    ]
    long = [ids[-ROLLOUT.length :] for ids in prompts if len(ids) >= ROLLOUT.length]
    works = {
        CALLS: {"prompts": prompts[: options.prompts], "new": options.new},
        SAMPLES: {"prompts": long[: ROLLOUT.prompts], "new": ROLLOUT.new},
    }
    (directory / "works.json").write_text(json.dumps(works), encoding="utf-8")


def start(side: str, directory: pathlib.Path, before: str) -> subprocess.Popen[str]:
    """Start the process of a side."""
    own = pathlib.Path(__file__).resolve().parents[2]
    checkout = before if side == "before" else str(own)
    return subprocess.Popen(
        [sys.executable, __file__, f"--side={side}", f"--directory={directory}"],
        env={**os.environ, "PYTHONPATH": checkout},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(process: subprocess.Popen[str], what: str) -> dict[str, Any]:
    """Return what a side answers."""
    assert process.stdin is not None
    print(what, file=process.stdin, flush=True)
    return bench.answer(process)


def serve(side: str, directory: pathlib.Path) -> None:
    """Do the works that the standard input asks for."""
    works = json.loads((directory / "works.json").read_text(encoding="utf-8"))
    model = str(directory / "model")
    do = {
        "tl_jax": our_side,
        "before": our_side,
        "transformers": their_side,
        "lookup": their_lookup,
    }[side](model, works)
    for work in rl_sides.asked():
        began, spent = time.perf_counter(), time.process_time()
        ids = do(work)
        times = {
            "wall_s": time.perf_counter() - began,
            "processor_s": time.process_time() - spent,
        }
        rl_sides.answer({"ids": ids, **times})


def our_side(path: str, works: dict[str, Any]) -> Callable[[str], list[list[int]]]:
    """Return what does a work with this package."""
    import jax

    from tl_jax.convert import from_hf
    from tl_jax.models import registry
    from tl_jax.sampling.next_token import SampleConfig
    from tl_jax.sampling.sampler import generate, make_sampler

    config, params = registry.read_config(path), from_hf.load(path)
    greedy = SampleConfig(works[CALLS]["new"], temperature=0.0, stop_ids=(STOP,))
    samplers = {
        CALLS: make_sampler(config, greedy),
        SAMPLES: make_sampler(config, SampleConfig(works[SAMPLES]["new"])),
    }

    def do(work: str) -> list[list[int]]:
        prompts, rows, length = works[work]["prompts"], ROWS, 0
        if work == SAMPLES:
            prompts = [ids for ids in prompts for _ in range(ROLLOUT.samples)]
            rows, length = ROLLOUT.rows, ROLLOUT.length
        keys = jax.random.split(jax.random.key(0), len(prompts))
        made = generate(samplers[work], params, prompts, keys, batch_size=rows, length=length)
        return [one.ids for one in made]

    return do


def their_model(path: str) -> Any:
    """Return the model of transformers."""
    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model.generation_config = transformers.GenerationConfig(
        do_sample=False, eos_token_id=STOP, pad_token_id=STOP
    )
    return model.eval()


def their_side(path: str, works: dict[str, Any]) -> Callable[[str], list[list[int]]]:
    """Return what generates greedily with transformers, eight rows at a time."""
    import torch

    model = their_model(path)

    def do(work: str) -> list[list[int]]:
        prompts = works[work]["prompts"]
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        found: dict[int, list[int]] = {}
        for begin in range(0, len(order), ROWS):
            members = order[begin : begin + ROWS]
            width = max(len(prompts[index]) for index in members)
            rows = [[STOP] * (width - len(prompts[i])) + prompts[i] for i in members]
            mask = [[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in members]
            with torch.inference_mode():
                made = model.generate(
                    torch.tensor(rows),
                    attention_mask=torch.tensor(mask),
                    max_new_tokens=works[work]["new"],
                )
            found.update(zip(members, map(ended, made[:, width:].tolist()), strict=True))
        return [found[index] for index in range(len(prompts))]

    return do


def their_lookup(path: str, works: dict[str, Any]) -> Callable[[str], list[list[int]]]:
    """Return what generates greedily with the prompt lookup of transformers, one at a time."""
    import torch

    model = their_model(path)

    def do(work: str) -> list[list[int]]:
        found = []
        for ids in works[work]["prompts"]:
            rows = torch.tensor([ids])
            with torch.inference_mode():
                made = model.generate(
                    rows,
                    attention_mask=torch.ones_like(rows),
                    max_new_tokens=works[work]["new"],
                    prompt_lookup_num_tokens=LOOKED_UP,
                )
            found.append(ended(made[0, len(ids) :].tolist()))
        return found

    return do


def ended(ids: list[int]) -> list[int]:
    """Return the tokens up to the one that ends a text."""
    return ids[: ids.index(STOP) + 1] if STOP in ids else ids


if __name__ == "__main__":
    main()
