"""Measure preparing data at scale: against the build before, on two cores, against TRL, memory.

    python tools/bench/data.py --before=CHECKOUT [--peer=PYTHON] [--data=DIR] [--repeats=3]

CHECKOUT is a checkout of the build to compare with (``git worktree add --detach DIR COMMIT``), made
to run by this environment. PYTHON is the interpreter of an environment with ``datasets``, ``trl``
and torch for the CPU; without it that comparison is left out. DIR holds
``rotllama_gpt4/trajectories.jsonl.gz``; by default the value of TL_JAX_DATA. A tokenizer is trained
on that file first, so nothing is fetched. All sides run in turns, each in processes of its own, and
the ratios are those of runs that follow each other, so that other programs disturb them less.
``--memory=N,M`` prepares so many dialogues of the embedded world with a search for near duplicates;
``--selection=N`` looks for duplicates among so many signatures alone. Results go to
``results/data.json``. Takes some fifteen minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from tl_jax.calls.call import tool_entry
from tl_jax.config import DataConfig
from tl_jax.data.importers import read
from tl_jax.data.prepare.dedup import LENGTH
from tl_jax.data.prepare.part import write_part
from tl_jax.data.prepare.selection import select
from tl_jax.data.prepare.workspace import Workspace
from tl_jax.data.render.chat_turns import TurnForm, as_turns
from tl_jax.data.render.chatml_tools import CHATML_TOOLS, NEEDED_TOKENS
from tl_jax.data.trajectory import Trajectory

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "data.json"
ROOT = HERE.parent.parent
TEMPLATES = ("released", "chatml_tools")
_VOCABULARY, _EVERY = 16_000, 4
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_REPLY = '{{- "<|im_start|>" + message.role + "\\n" + (message.content or "") }}'
_END = """        {{- "<|im_end|>\\n" }}
    {%- endif %}
{%- endfor %}"""


def main() -> None:
    """Run the measurements that were asked for and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=pathlib.Path)
    parser.add_argument("--peer", default="")
    parser.add_argument("--data", default=os.environ.get("TL_JAX_DATA", ""))
    parser.add_argument("--rows", type=int, default=0, help="trajectories (0: all)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", default="10000,100000")
    parser.add_argument("--selection", type=int, default=1_000_000)
    parser.add_argument("--select", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--note", default="", help="kept in the results")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    if options.select:
        print(json.dumps(selection(options.select)))
        return
    results: dict[str, Any] = {"machine": machine(), "note": options.note}
    with tempfile.TemporaryDirectory() as folder:
        made = materials(pathlib.Path(folder), options.data, options.rows)
        for template in TEMPLATES if options.before else ():
            results[template] = against(made, template, options)
        if options.memory:
            results["memory"] = [
                {"trajectories": count, **side(ROOT, made, "released", f"synthetic/{count}", 2)}
                for count in map(int, options.memory.split(","))
            ]
    if options.selection:
        command = [sys.executable, __file__, f"--select={options.selection}"]
        results["selection"] = run(command, ROOT)
    results["targets"] = targets(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    libraries = ("tokenizers", "transformers", "numpy", "grain", "array_record")
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in libraries},
    }


def materials(folder: pathlib.Path, data: str, count: int) -> dict[str, str]:
    """Make the tokenizer and what both sides read, and return their paths."""
    path = pathlib.Path(data) / "rotllama_gpt4" / "trajectories.jsonl.gz"
    found = itertools.islice(iter(read(path)), count or None)
    rows = [row for row in found if isinstance(row, Trajectory)]
    if count:
        path = folder / "rows.jsonl"
        with open(path, "wb") as stream:
            stream.writelines(raw.value for raw in itertools.islice(read_raw(data), count))
    core = tokenizers.Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(tokenizers.Regex(_QWEN), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([cut, letters])
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        (message.content for row in rows[::_EVERY] for message in row.messages),
        trainers.BpeTrainer(
            vocab_size=_VOCABULARY,
            special_tokens=["<|endoftext|>", *NEEDED_TOKENS],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder / "tokenizer")
    with open(folder / "messages.jsonl", "w", encoding="utf-8") as stream:
        for row in rows:
            texts = [message.content if message.calls else "" for message in row.messages]
            turns = as_turns(row.messages, TurnForm(), texts)
            tools = [tool_entry(tool) for tool in row.tools]
            entry = {"messages": json.dumps(turns), "tools": json.dumps(tools)}
            stream.write(json.dumps(entry) + "\n")
    (folder / "template.jinja").write_text(with_generation_tags(), encoding="utf-8")
    names = ("tokenizer", "messages.jsonl", "template.jinja")
    return {"data": str(path), **{name: str(folder / name) for name in names}}


def read_raw(data: str) -> Any:
    """Return the lines of the real trajectories."""
    return read(pathlib.Path(data) / "rotllama_gpt4" / "trajectories.jsonl.gz").raw()


def with_generation_tags() -> str:
    """Return the template of ChatML with tools, with the tags by which TRL finds replies."""
    assistant = 'message.role == "assistant"'
    head = (
        '{{- "<|im_start|>" + message.role + "\\n" }}'
        f"{{%- if {assistant} %}}{{% generation %}}{{{{- body(message) }}}}{{% endgeneration %}}"
        "{%- else %}{{- body(message) }}{%- endif %}"
    )
    begin = CHATML_TOOLS.index(_REPLY)
    end = CHATML_TOOLS.index(_END)
    body = CHATML_TOOLS[begin:end].replace(_REPLY, '{{- (message.content or "") }}')
    macro = "{%- macro body(message) %}\n" + body + '{{- "<|im_end|>\\n" }}{%- endmacro %}\n'
    rest = CHATML_TOOLS[end:].removeprefix('        {{- "<|im_end|>\\n" }}\n')
    return macro + CHATML_TOOLS[:begin] + head + "\n" + rest


def against(made: dict[str, str], template: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run all sides in turns and return their rates and ratios."""
    data, before = made["data"], options.before.resolve()
    one, two = cores()[:1], cores()[:2]
    sides: dict[str, Callable[[], dict[str, Any]]] = {
        "before, one core": lambda: side(before, made, template, data, 1, one),
        "now, one core": lambda: side(ROOT, made, template, data, 1, one),
        "before, two cores": lambda: side(before, made, template, data, 1, two),
        "now, two cores": lambda: side(ROOT, made, template, data, 2, two),
    }
    if options.peer and template == "chatml_tools":
        script = str(HERE / "data_peer.py")
        command = [options.peer, script, made["tokenizer"], made["messages.jsonl"]]
        command += [made["template.jinja"], "2"]
        sides["datasets and TRL, two cores"] = lambda: run(command, None, two)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(options.repeats):
        for name, work in sides.items():
            runs[name].append(work())
            print(template, name, runs[name][-1], file=sys.stderr, flush=True)
    rates = {name: [run["rows"] / run["wall_s"] for run in found] for name, found in runs.items()}

    def ratio(new: str, old: str) -> dict[str, Any]:
        found = [a / b for a, b in zip(rates[new], rates[old], strict=True)]
        return {"median": round(statistics.median(found), 2), "all": [round(r, 2) for r in found]}

    pairs = {
        "one core": ("now, one core", "before, one core"),
        "two cores": ("now, two cores", "before, two cores"),
        "second core": ("now, two cores", "now, one core"),
    }
    if "datasets and TRL, two cores" in sides:
        pairs["datasets and TRL"] = ("now, two cores", "datasets and TRL, two cores")
    return {
        "trajectories_per_s": {
            name: round(statistics.median(values), 1) for name, values in rates.items()
        },
        "ratio": {name: ratio(*pair) for name, pair in pairs.items()},
        "runs": runs,
    }


def cores() -> list[int]:
    """Return the processors that this process may use."""
    return sorted(os.sched_getaffinity(0), reverse=True)


def side(
    checkout: pathlib.Path,
    made: dict[str, str],
    template: str,
    data: str,
    workers: int,
    on: Sequence[int] = (),
) -> dict[str, Any]:
    """Prepare ``data`` with a checkout."""
    script = str(HERE / "data_side.py")
    command = [sys.executable, script, made["tokenizer"], template, data, str(workers)]
    return run(command, checkout, on or cores()[:2])


def run(
    command: Sequence[str], checkout: pathlib.Path | None, on: Sequence[int] = ()
) -> dict[str, Any]:
    """Run a program on some processors and return the JSON that it prints last."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    environment.pop("PYTHONPATH", None)
    if checkout is not None:
        environment["PYTHONPATH"] = str(checkout)
    done = subprocess.run(
        command,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, on or cores()),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def selection(count: int) -> dict[str, Any]:
    """Look for near duplicates among ``count`` signatures, a tenth of them of others."""
    rng = np.random.default_rng(0)
    size = 128
    with tempfile.TemporaryDirectory() as folder:
        work = Workspace(pathlib.Path(folder))
        pool = rng.integers(0, 1 << 32, (4096, LENGTH), np.uint32)
        chunks = count // size
        for number in range(chunks):
            signatures = rng.integers(0, 1 << 32, (size, LENGTH), np.uint32)
            again = rng.random(size) < 0.1
            signatures[again] = pool[rng.integers(0, len(pool), again.sum())]
            digests = rng.integers(0, 1 << 63, (size, 2), np.uint64)
            names = [[i, "made.jsonl", number * size + i, f"t{number}-{i}"] for i in range(size)]
            sections = {"digests": digests.tobytes(), "signatures": signatures.tobytes()}
            write_part(work.scan(number), sections, names)
        before = _usage()
        select(work, chunks, DataConfig(duplicates="near"), 0)
        took = _usage() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"trajectories": chunks * size, "cpu_s": round(took, 1), "peak_mib": round(peak, 1)}


def _usage() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def targets(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each target with the number measured and whether it is met."""
    table: list[tuple[str, float, float]] = []
    for template in TEMPLATES:
        if template in results:
            ratio = results[template]["ratio"]
            table += [
                (f"{template}, one core, times before", ratio["one core"]["median"], 1.5),
                (f"{template}, two cores, times before", ratio["two cores"]["median"], 2.7),
            ]
            if "datasets and TRL" in ratio:
                table.append(("times datasets and TRL", ratio["datasets and TRL"]["median"], 1))
    found = {n: {"measured": v, "target": t, "met": v >= t} for n, v, t in table}
    for entry in [*results.get("memory", ()), results.get("selection")]:
        if entry:
            measured = round(entry["peak_mib"] + entry.get("largest_worker_mib", 0) * 2)
            name = f"MiB at {entry['trajectories']:,} trajectories, at most"
            kind = "selection: " if "cpu_s" in entry and "rows" not in entry else ""
            found[kind + name] = {"measured": measured, "target": 2048, "met": measured < 2048}
    return found


if __name__ == "__main__":
    main()
