"""Every setting changes something: what it is for is observed with two values of it.

An observer returns what the code makes of a configuration at the place where the setting is
consumed; nothing is compiled or trained. A new field of RunConfig needs an entry in EFFECTS.
"""

import contextlib
import dataclasses
import functools
import importlib.machinery
import json
import re
import shutil
import sys
import tempfile
import types
from collections.abc import Callable
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from tl_jax.aot import plan
from tl_jax.calls.call import ToolCall
from tl_jax.calls.render import render_call
from tl_jax.config import LoraConfig, MeshConfig, ModelConfig, RunConfig
from tl_jax.config.fields import from_dict
from tl_jax.convert import peft, to_hf
from tl_jax.data import synthetic
from tl_jax.data.examples.jsonl import read_prompts
from tl_jax.data.examples.shards import open_shards
from tl_jax.data.prepare import dataset
from tl_jax.data.prepare.files import EXAMPLES, PROMPTS, REPAIRS, VALIDATION, VALIDATION_PROMPTS
from tl_jax.data.prepare.pool import Pool
from tl_jax.data.render.chatml_tools import CHATML_TOOLS, NEEDED_TOKENS
from tl_jax.data.render.paper_template import render_sample
from tl_jax.data.render.renderer import open_renderer
from tl_jax.data.tokenize.tokenizer import from_fast, load_tokenizer, train_byte_bpe
from tl_jax.data.trajectory import Message, to_json
from tl_jax.errors import ConfigError, DataError, Diverged
from tl_jax.evaluate import ablation
from tl_jax.evaluate import run as evaluate
from tl_jax.evaluate.suites import SUITES
from tl_jax.evaluate.suites.choose import Chosen
from tl_jax.models import critic, functional, nf4
from tl_jax.parallel.mesh import make_mesh
from tl_jax.rl.tools_check import open_tools
from tl_jax.run import directory as workspace_lib
from tl_jax.run import prepare, trackers
from tl_jax.run.directory import Run
from tl_jax.sampling.sampler import Generation
from tl_jax.train import held_out, sft
from tl_jax.train import loop as loop_lib
from tl_jax.train import optimizer as optim
from tl_jax.train import ppo as ppo_lib
from tl_jax.train import prompt_pools as prompts_lib
from tl_jax.train import step as step_lib
from tl_jax.train.rollback import Rollbacks
from tl_jax.types import Batch, Rollout, StepMetrics, TrainState

BASE = {
    "model.path": "<model>",
    "data.synthetic_trajectories": 120,
    "data.batch_size": 2,
    "data.samples": "per_turn",
    "data.max_length": 768,
    "data.validation_fraction": 0.3,
    "train.steps": 6,
    "train.eval_batches": 1,
    "optim.warmup_steps": 2,
    "ppo.steps": 3,
    "ppo.prompts_per_step": 4,
    "ppo.critic_warmup_steps": 1,
    "ppo.max_first_log_ratio": 0.5,
    "ppo_optim.warmup_steps": 1,
    "evaluate.synthetic_trajectories": 4,
}


@dataclasses.dataclass
class Scene:
    """Where the files of the tests lie, and how a test replaces functions."""

    folder: Any
    patch: Any

    def config(self, values):
        """Return the configuration with dotted settings over BASE; ``<name>`` is a scene file."""
        nested: dict[str, Any] = {}
        for name, value in {"run_dir": "<run>", **BASE, **values}.items():
            value = self._placed(value)
            *sections, field = name.split(".")
            target = nested
            for section in sections:
                target = target.setdefault(section, {})
            target[field] = value
        return from_dict(RunConfig, nested)

    def _placed(self, value):
        if isinstance(value, tuple):
            return tuple(map(self._placed, value))
        if isinstance(value, str) and value.startswith("<"):
            name, _, rest = value[1:].partition(">")
            return f"{self.folder / name}{rest}"
        return value


def on_one_device(config):
    workspace = Run(config)
    workspace.__dict__["mesh"] = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    return workspace


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, two files of trajectories, a RoTBench file and a prepared run."""
    folder = tmp_path_factory.mktemp("scene")
    world = list(synthetic.trajectories(30, seed=5, split="train"))
    texts = [render_sample(t.tools, t.messages).text for t in world]
    tokenizer = train_byte_bpe(texts, 900, folder / "tokenizer")
    model = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        embed_dim=16,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        mlp_dim=32,
    )
    params = jax.tree.map(
        lambda info: np.zeros(info.shape, info.dtype),
        functional.abstract_params(model),
        is_leaf=lambda leaf: hasattr(leaf, "axes"),
    )
    to_hf.save(params, folder / "model", config=model, source=folder / "tokenizer")
    adapted = dataclasses.replace(model, lora=LoraConfig(rank=2, alpha=4.0, targets="attn/q"))
    adapter = functional.init(adapted, jax.random.key(1))
    peft.save(adapter, folder / "adapter", config=adapted, base="model")
    rows = [json.dumps(to_json(trajectory)) for trajectory in world]
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "bad_rows.jsonl").write_text("\n".join([*rows[:19], '{"id": "bad"}']) + "\n")
    noted = [json.dumps({**json.loads(row), "note": "x"}) for row in rows]
    bare = [json.dumps({**json.loads(row), "tools": []}) for row in rows]
    (folder / "no_tools.jsonl").write_text("\n".join(bare) + "\n")
    (folder / "noted_rows.jsonl").write_text("\n".join(noted) + "\n")
    (folder / "listed_rows.jsonl").write_text("\n".join(map(listed, rows)) + "\n")
    chats = [json.dumps(chat_row(number)) for number in range(4)]
    (folder / "chat_rows.jsonl").write_text("\n".join(chats) + "\n")
    (folder / "chat_tools.json").write_text(json.dumps([{"name": "add", "description": "Add."}]))
    services = {tool.name for trajectory in world for tool in trajectory.tools} - {"finish"}
    (folder / "tools.py").write_text(TOOLS_FILE + "".join(map(ECHO.format, sorted(services))))
    (folder / "reward.py").write_text("def reward(reply, prompt): return len(reply) / 100")
    (folder / "importer.py").write_text(IMPORTER_FILE)
    (folder / "doubles.jsonl").write_text("\n".join([*rows, rows[0]]) + "\n")
    queries = [json.dumps({"query": t.messages[0].content}) for t in world[:3]]
    (folder / "evaluation.jsonl").write_text("\n".join(queries) + "\n")
    (folder / "rotbench.jsonl").write_text(json.dumps(rotbench_row()) + "\n")
    prepare.prepare(Run(Scene(folder, None).config({})))
    prepare.prepare(Run(Scene(folder, None).config(dict(WHOLE))))
    return folder


@pytest.fixture
def scene(folder, monkeypatch):
    return Scene(folder, monkeypatch)


def listed(row):
    """Return the row with every parameter's schema listing the values of its tool's calls."""
    trajectory = json.loads(row)
    calls = [call for message in trajectory["messages"] for call in message.get("calls", ())]
    for tool in trajectory["tools"]:
        for name, schema in tool["parameters"]["properties"].items():
            given = [c["arguments"].get(name) for c in calls if c["name"] == tool["name"]]
            schema["enum"] = [*given, "another value"]
    return json.dumps(trajectory)


def chat_row(number):
    call = {"function": {"name": "add", "arguments": {"n": number}}}
    return {
        "messages": [
            {"role": "user", "content": f"add {number}"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "content": "done"},
            {"role": "assistant", "content": "It is done."},
        ]
    }


TOOLS_FILE = """
import os, resource

def limits():
    kinds = resource.RLIMIT_AS, resource.RLIMIT_CPU
    return [resource.getrlimit(kind)[0] for kind in kinds]

def long(): return "x" * 500
def given(): return os.environ.get("TL_JAX_TOOL")
"""
IMPORTER_FILE = """
from tl_jax.data.importers.canonical import recognise
from tl_jax.data.importers import canonical

NAME = "half"

def trajectory(row, *, source, line):
    if line % 2:
        raise ValueError("an odd row")
    return canonical.trajectory(row, source=source, line=line)
"""
ECHO = """
def {}(**given): return given
"""


def rotbench_row():
    tool = {"name": "weather", "description": "?", "parameters": {"properties": {"city": {}}}}
    system = f"Tools:\n{json.dumps([tool])}\n\nLet's Begin!"
    reply = 'Thought:\nAction: weather\nAction Input: {"city": "Rome"}'
    return {
        "noise": "clean",
        "index": 1,
        "scenario": "TG",
        "conversations": [
            {"from": "system", "value": system},
            {"from": "user", "value": "Is it warm?\nBegin!\n"},
            {"from": "assistant", "value": [reply]},
        ],
    }


def digest(tree):
    return [(np.shape(x), np.asarray(x).tobytes()) for x in jax.tree.leaves(tree)]


# Observers: (scene, config) -> what the code makes of the configuration.


def paths(scene, config):
    workspace = Run(config)
    return workspace.data_dir, workspace.results_dir, workspace.checkpoint_dir("reward")


def ablation_parts(scene, config):
    return [(part.cell, part.seed) for part in ablation.parts(config)]


def model_source(scene, config):
    return Run(config).model_dir


def program(scene, config):
    """The traced forward pass."""
    model = Run(config).model
    params = jax.tree.map(
        lambda info: jax.ShapeDtypeStruct(info.shape, info.dtype),
        functional.abstract_params(model),
        is_leaf=lambda leaf: hasattr(leaf, "axes"),
    )
    ids = np.ones((1, 2048), np.int32)  # more than one block of queries
    batch = Batch(ids, ids, ids.astype(np.float32), ids, ids)
    return str(jax.make_jaxpr(lambda p: functional.apply(p, batch, model))(params))


def declared(scene, config):
    """What the parameters look like; the blocks are shorter than the tiny model's matrices."""
    scene.patch.setattr(nf4, "BLOCK", 8)
    return str(functional.abstract_params(Run(config).model))


def adapters(scene, config):
    """The adapters that training starts from."""
    return digest(on_one_device(config).trained("before"))


def scratch(scene, config):
    """The tokenizer size and the architecture of a model from scratch."""
    seen = []

    def train(texts, vocab_size, out_dir):
        seen.append(vocab_size)

    scene.patch.setattr(prepare, "train_byte_bpe", train)
    scene.patch.setattr(prepare, "load_tokenizer", lambda _: Run(scene.config({})).tokenizer)
    scene.patch.setattr(prepare.functional, "init", lambda model, key: seen.append(model))
    scene.patch.setattr(prepare.to_hf, "save", lambda *_, **__: None)
    prepare.make_model(Run(config), Console(quiet=True))
    return seen


def mesh(scene, config):
    return dict(Run(config).mesh.shape)


def pod(scene, config):
    return plan.planned_mesh(Run(config))


def sampling_mesh(scene, config):
    """The devices of the mesh on which text is sampled."""
    found = Run(config).sampling_mesh
    return found and dict(found.shape)


def prepared(scene, config):
    """The prepared examples and prompts, or why there are none."""
    run_dir = scene.folder / "prepared"
    workspace = Run(dataclasses.replace(config, run_dir=str(run_dir)))
    try:
        prepare.prepare(workspace)
    except DataError as error:
        return str(error)
    names = (PROMPTS, VALIDATION_PROMPTS, REPAIRS)
    sides = (list(open_shards(workspace.data_dir / name)) for name in (EXAMPLES, VALIDATION))
    return [*sides, *((workspace.data_dir / name).read_bytes() for name in names)]


def processes_used(scene, config):
    """How many processes prepare the data at most."""
    seen = []

    def recorded(job, here, workers):
        seen.append(workers)
        return Pool(job, here, 1)

    scene.patch.setattr(dataset, "Pool", recorded)
    run_dir = tempfile.mkdtemp(dir=scene.folder)
    prepare.prepare(Run(dataclasses.replace(config, run_dir=run_dir)))
    return seen


THINKING_TEMPLATE = CHATML_TOOLS.replace(
    '{{- "<|im_start|>" + message.role + "\\n" + (message.content or "") }}',
    '{{- "<|im_start|>" + message.role + "\\n" }}'
    '{%- if message.reasoning_content %}{{ "<think>" + message.reasoning_content + "</think>" }}'
    '{%- endif %}{{- message.content or "" }}',
)


def chat_text(scene, config):
    """A dialogue in a chat template that has a variable and a place for thoughts."""
    tokenizer = load_tokenizer(scene.folder / "tokenizer")
    tokenizer.fast.add_tokens([*NEEDED_TOKENS], special_tokens=True)
    tokenizer.fast.chat_template = "{{- lead }}" + THINKING_TEMPLATE
    turns = (Message("user", "hi"), Message("assistant", "ho", thoughts="hm"))
    opened = open_renderer(config.data, from_fast(tokenizer.fast))
    return opened.encode((), turns).rendered.text


def batches(scene, config):
    """The first training batches."""
    loader = sft.open_loader(on_one_device(config))
    found = [digest(next(loader)) for _ in range(6)]
    loader.close()
    return found


def prefetched(scene, config):
    """How many batches the loader keeps ready."""
    seen = []
    make = grain.experimental.ThreadPrefetchIterDataset

    def recorded(stream, *, prefetch_buffer_size):
        seen.append(prefetch_buffer_size)
        return make(stream, prefetch_buffer_size=prefetch_buffer_size)

    scene.patch.setattr(grain.experimental, "ThreadPrefetchIterDataset", recorded)
    sft.open_loader(on_one_device(config)).close()
    return seen


def updates(optimizer, steps):
    """What an optimiser makes of fixed gradients."""
    params = {
        "mlp": {"kernel": jnp.float32([[1.0, -2.0]])},
        "norm": {"scale": jnp.float32([1.0, 0.5])},
        "value_head": {"kernel": jnp.float32([[0.3]]), "bias": jnp.float32([0.1])},
        "critic": {"kernel": jnp.float32([[0.7]])},
    }
    state, found = optimizer.init(params), []
    for step in range(steps):
        size = 0.1 * (1 + step) ** 2
        grads = jax.tree.map(lambda x, size=size: size * jnp.cos(x + size), params)
        change, state = optimizer.update(grads, state, params)
        params = jax.tree.map(jnp.add, params, change)
        found.append(digest(change))
    return found


class Stub:
    """Checkpoints without a directory; remembers the settings."""

    def __init__(self, directory, every_steps, keep):
        self.settings = (every_steps, keep)

    def __enter__(self):
        Stub.last = self.settings
        return self

    def __exit__(self, *_):
        pass


MAKE_TRAIN_STEP = step_lib.make_train_step


@functools.cache
def traced(model, loss):
    """The train step as it would be compiled, so that only what it reads of ``loss`` is seen."""
    optimizer = optax.sgd(1.0)
    shapes = jax.tree.map(
        lambda info: jax.ShapeDtypeStruct(info.shape, info.dtype),
        critic.abstract_params(model, separate=False),
        is_leaf=lambda leaf: hasattr(leaf, "axes"),
    )
    init = functools.partial(step_lib.init_state, optimizer=optimizer, kl_coef=0.1)
    ids, real = (jax.ShapeDtypeStruct((1, 128), kind) for kind in (jnp.int32, jnp.float32))
    batch = Batch(ids, ids, real, ids, ids, Rollout(real, real, real, real, real, real))
    step = MAKE_TRAIN_STEP(model, loss, optimizer)
    text = str(jax.make_jaxpr(step)(jax.eval_shape(init, shapes), batch))
    return re.sub(r"0x[0-9a-f]+", "", text)


def captured_phase(scene, module, config, steps):
    """Let the phase go through ``steps`` steps that train nothing.

    Returns:
      The workspace, and where what the phase did is found once it has run.
    """
    seen: dict[str, Any] = {"losses": [], "samples": []}

    class Loop:
        def __init__(self, phase, steps, start, *, log_every=1, end_if_hung=None, **rest):
            seen["rhythm"] = steps, log_every, Stub.last, end_if_hung, rest.get("spike")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __iter__(self):
            return iter(range(steps))

        def data(self):
            return contextlib.nullcontext()

        def record(self, values, samples=()):
            seen["samples"].append(list(samples))

        def measure(self, state, measures):
            seen["validate_every"] = [steps for _, steps in measures]
            seen["validation"] = {}
            if measures[0][0] is not None:
                seen["validation"].update(measures[0][0](state))
            return {}

        def save(self, state):
            pass

    def make_train_step(model, loss, optimizer, *, accumulation=1, schedule=None):
        seen["losses"].append(traced(model, loss))
        seen.update(optimizer=optimizer, accumulation=accumulation)
        return seen["losses"][-1]

    def jit_train_step(loss, layout, rows, frozen):
        def update(state, batch, frozen):
            seen.setdefault("events", []).append((loss, digest(batch)))
            return state, StepMetrics(**{f.name: 0.3 for f in dataclasses.fields(StepMetrics)})

        return update

    def start_state(initial, abstract, layout, init, *_):
        seen["parts"] = sorted(abstract.params)
        return TrainState(0, {"policy": 1}, None, 0, init.keywords.get("kl_coef")), 0

    scene.patch.setattr(module.step_lib, "make_train_step", make_train_step)
    scene.patch.setattr(module.step_lib, "jit_train_step", jit_train_step)
    scene.patch.setattr(module, "Loop", Loop)
    scene.patch.setattr(module, "start_state", start_state)
    scene.patch.setattr(loop_lib, "Checkpoints", Stub)
    scene.patch.setattr(loop_lib, "MetricsWriter", lambda *_: contextlib.nullcontext())
    scene.patch.setattr(Run, "trained", lambda self, phase: {"name": phase})
    return on_one_device(config), seen


def supervised_phase(scene, config):
    """Loss, updates, rhythm and validation of the supervised phase."""
    workspace, seen = captured_phase(scene, sft, config, steps=1)

    def make_eval_step(model, *, ce_chunk):
        seen["eval_chunk"] = ce_chunk
        return lambda params, batch: (jnp.sum(batch.weights), jnp.float32(1))

    scene.patch.setattr(sft.step_lib, "make_eval_step", make_eval_step)
    sft.train(workspace)
    kinds = "losses", "accumulation", "rhythm", "validate_every", "validation", "eval_chunk"
    return [seen.get(kind) for kind in kinds], updates(seen["optimizer"], 6)


def tracked(scene, config):
    """What trackers are told when a run begins."""
    told = []
    for name in ("wandb", "trackio"):
        fake: Any = types.ModuleType(name)
        fake.__spec__ = importlib.machinery.ModuleSpec(name, None)
        fake.log = fake.finish = lambda *_: None

        def init(*, name=name, config, **settings):
            told.append((name, settings))
            return types.SimpleNamespace(log=None, finish=None, define_metric=lambda *_, **__: None)

        fake.init = init
        scene.patch.setitem(sys.modules, name, fake)
    trackers.open_trackers(config)
    return told


def divergences(scene, config):
    """How often a phase that diverges each time is tried."""
    run_dir, tries = tempfile.mkdtemp(dir=scene.folder), 0
    run = Run(dataclasses.replace(config, run_dir=run_dir))
    with contextlib.suppress(Diverged):
        for attempt in Rollbacks(run, "supervised"):
            with attempt:
                tries += 1
                raise Diverged("", first=11, last=20)
    return tries


def best_model(scene, config):
    """Which of some measured states are kept, and after which of them the phase ends."""
    kept: list[int] = []
    keeping = types.SimpleNamespace(
        save=lambda step, *_, **__: kept.append(step), wait=lambda: None
    )
    scene.patch.setattr(held_out, "Checkpoints", lambda *_, **__: contextlib.nullcontext(keeping))
    best = held_out.Best(on_one_device(config), "supervised", 0)
    measured = zip((2.0, 1.0, 1.5, 1.2), (5.0, 4.0, 7.0, 6.0), strict=True)
    states = [{"validation_loss": loss, "held_out_cf": cf} for loss, cf in measured]
    return [best.see(values, step, Any) for step, values in enumerate(states, 1)], kept


def untaken_steps(scene, config):
    """Set up the reward phase of no rollouts; return what it has seen and its reference."""
    workspace, seen = captured_phase(scene, ppo_lib, config, steps=0)
    references = []
    scene.patch.setattr(ppo_lib, "usable_prompts", lambda _: types.SimpleNamespace(longest=1))
    scene.patch.setattr(ppo_lib, "plan_rollouts", lambda *_: None)
    scene.patch.setattr(ppo_lib, "prompt_pools", lambda _, start, prompts: references.append(start))
    return workspace, seen, references


def reward_updates(scene, config):
    """What the optimiser of the reward phase does."""
    made = optim.make_optimizer
    optimizers = []

    def make_optimizer(*arguments, **options):
        optimizers.append(made(*arguments, **options))
        return optimizers[-1]

    scene.patch.setattr(optim, "make_optimizer", make_optimizer)
    workspace, seen, _ = untaken_steps(scene, config)
    ppo_lib.train(workspace)
    return updates(optimizers[0], 4), seen["parts"]


def waiting(scene, config):
    """The memory in which the reference waits."""
    workspace, _, references = untaken_steps(scene, config)
    scene.patch.setattr(Run, "trained", lambda self, phase: {"scale": jnp.ones(2)})
    ppo_lib.train(workspace)
    return [leaf.sharding.memory_kind for leaf in jax.tree.leaves(references)]


def reward_phase(scene, config):
    """Two steps of the reward phase: sampled, scored and cut into updates, but not trained."""
    workspace, seen = captured_phase(scene, ppo_lib, config, steps=2)
    events: list[Any] = []
    seen["events"] = events
    golds = {tuple(p.ids): p for p in read_prompts(workspace.data_dir / PROMPTS)}

    def generate(sample, params, prompts, row_keys, **_):
        events.append(sample)
        generations = []
        for row, ids in enumerate(prompts):
            if config.environment.path:
                known = max((p for p in golds if tuple(ids[: len(p)]) == p), key=len)
                text = " " + render_call(golds[known].golds[0])
            else:
                text = reply_to(golds[tuple(ids)], row)
            reply = [*workspace.tokenizer.encode(text)[0], workspace.tokenizer.eos_id]
            kept = reply[: sample.max_new_tokens]
            generations.append(Generation(kept, [0.0] * len(kept), kept == reply))
        return generations

    def make_logprob_step(model, *, temperature, chunk):
        events.append((temperature, chunk))

        def fake(params, batch):
            shift = 0.3 if "name" in params else 0.1
            logprobs = -shift * (1 + batch.targets % 5).astype(np.float32)
            return logprobs, 0.1 * (batch.tokens % 3).astype(np.float32), -logprobs

        return fake

    scene.patch.setattr(workspace_lib, "_sampler", lambda model, sample, *_: sample)
    scene.patch.setattr(ppo_lib.rollout_lib, "generate", generate)
    scene.patch.setattr(prompts_lib, "generate", generate)
    scene.patch.setattr(ppo_lib, "make_logprob_step", make_logprob_step)
    try:
        ppo_lib.train(workspace)
    except (ConfigError, ppo_lib.ScoringMismatch) as error:
        return str(error)
    return events, seen["samples"], seen["rhythm"]


def tool_process(scene, config):
    """What limits and variables a tool that runs has, and whether a long result is told."""
    scene.patch.setenv("TL_JAX_TOOL", "1")
    tools = open_tools(Run(config))
    if tools is None:
        return None
    session = tools.environment.session()
    found = [session.call(ToolCall(name)) for name in ("limits", "long", "given")]
    # Whether the system lets it be taken away is another question.
    network = session._process.args[-1]
    session.close()
    return found, network


def reply_to(prompt, row):
    """Return a reply that only strict scoring with free text accepts, or nonsense."""
    more = {0: "!", 1: " as found"}.get(row % 4)
    if more and prompt.golds[0].name == "finish":
        return " " + render_call(prompt.golds[0]).removesuffix("')") + more + "')"
    return " no call"


def evaluation(scene, config):
    """What would be generated and scored."""
    events: list[Any] = []

    def record(tasks, params, *, sample, batch_size, constrain, **_):
        ids = [item.id for item in tasks.items]
        events.append((tasks.suite.name, ids, tasks.skipped, sample, batch_size, constrain is None))
        return {}, {}, []

    scene.patch.setattr(evaluate, "evaluate", record)
    scene.patch.setattr(workspace_lib, "_sampler", lambda model, sample, *_: sample)
    scene.patch.setattr(Run, "params", lambda self, phase: None)
    run = on_one_device(config)
    shutil.rmtree(run.results_dir, ignore_errors=True)
    evaluate.evaluate_phase(run, "before")
    return events


def held_out_turns(scene, config):
    """Which turns of one's own data are scored."""
    run = on_one_device(config)
    path = str(run.data_dir / PROMPTS)
    scene.patch.setattr(evaluate.own_data, "source", lambda _: path)
    chosen = Chosen(SUITES["own"], path)
    return [item.id for item in evaluate.read_tasks(run, chosen).items]


@dataclasses.dataclass(frozen=True)
class Effect:
    """Where a setting is seen, another value of it, and settings without which it has no use."""

    observe: Callable[[Scene, RunConfig], Any]
    value: Any
    base: tuple[tuple[str, Any], ...] = ()


TRACKED = (("tracking.trackers", ("wandb", "trackio")),)
FROM_FILE = (("data.path", "<rows.jsonl>"),)
FROM_CHATS = (("data.path", "<chat_rows.jsonl>"), ("data.validation_fraction", 0.0))
OFFERED = (*FROM_CHATS, ("data.tools_path", "<chat_tools.json>"))
FROM_DOUBLES = (("data.path", "<doubles.jsonl>"),)
CHECKED = (*FROM_FILE, ("data.contamination_paths", ("<evaluation.jsonl>",)))
FROM_SCRATCH = (("model.path", "scratch"), ("run_dir", "<scratch>"))
DOWN_WEIGHTED = (("mae.category_actions", ("parameter_hallucination=down-weight",)),)
DECAYING = (("ppo_optim.schedule", "cosine"),)
JOINT = (("ppo.critic_warmup_steps", 0),)
COMPARED = (("ppo.advantage", "grpo"), ("ppo.value_coef", 0.0))
SPLASH = (("model.attention", "splash"),)
ADAPTED = (("lora.rank", 2), ("lora.alpha", 4.0), ("lora.targets", "attn/q"))
WHOLE = (("data.samples", "per_trajectory"), ("run_dir", "<whole>"))
RUNNING = (("environment.path", "<tools.py>"), *WHOLE)
DIALOGUES = (*RUNNING, ("ppo.prompts_per_step", 2), ("ppo.samples_per_prompt", 1))
EXTENDED = (("key_tokens.mode", "extended"), ("data.path", "<listed_rows.jsonl>"))

EFFECTS = {
    "run_dir": Effect(paths, "elsewhere"),
    "seed": Effect(prepared, 1),
    "model.path": Effect(model_source, "<tokenizer>"),
    "model.dtype": Effect(program, "bfloat16"),
    "model.param_dtype": Effect(program, "bfloat16"),
    "model.remat": Effect(program, "none"),
    "model.unroll": Effect(program, 2),
    "model.attention": Effect(program, "dense"),
    "model.splash.block_q": Effect(program, 256, SPLASH),
    "model.splash.block_kv": Effect(program, 256, SPLASH),
    "model.splash.fused_backward": Effect(program, True, SPLASH),
    "model.adapter": Effect(adapters, "<adapter>", ADAPTED),
    "lora.rank": Effect(program, 3),
    "lora.alpha": Effect(program, 5.0, ADAPTED),
    "lora.targets": Effect(program, "mlp/up", ADAPTED),
    "lora.frozen": Effect(declared, "nf4", ADAPTED),
    "lora.dtype": Effect(program, "bfloat16", ADAPTED),
    "model.scratch_vocab_size": Effect(scratch, 512, FROM_SCRATCH),
    "model.scratch_embed_dim": Effect(scratch, 64, FROM_SCRATCH),
    "model.scratch_num_layers": Effect(scratch, 3, FROM_SCRATCH),
    "model.scratch_num_heads": Effect(scratch, 8, FROM_SCRATCH),
    "model.scratch_num_kv_heads": Effect(scratch, 1, FROM_SCRATCH),
    "model.scratch_mlp_dim": Effect(scratch, 128, FROM_SCRATCH),
    "mesh.data": Effect(mesh, 2),
    "mesh.fsdp": Effect(mesh, 2, (("mesh.data", -1), ("mesh.fsdp", 1))),
    "mesh.tensor": Effect(mesh, 2),
    "mesh.sequence": Effect(mesh, 2),
    "mesh.sampling_tensor": Effect(sampling_mesh, 2),
    "mesh.topology": Effect(pod, "v5e:4x4"),
    "mesh.slices": Effect(pod, 2, (("mesh.topology", "v5e:4x4"),)),
    "data.path": Effect(prepared, "<rows.jsonl>"),
    "data.format": Effect(prepared, "rotllama", FROM_FILE),
    "data.importer": Effect(prepared, "<importer.py>", FROM_FILE),
    "data.tools_path": Effect(prepared, "<chat_tools.json>", FROM_CHATS),
    "data.template": Effect(prepared, "script"),
    "data.template_settings": Effect(chat_text, ('lead="Be brief."',)),
    "data.train_thoughts": Effect(chat_text, True),
    "data.samples": Effect(prepared, "per_trajectory"),
    "data.max_length": Effect(prepared, 400),
    "data.row_length": Effect(batches, 1024),
    "data.batch_size": Effect(batches, 3),
    "data.shared_prefixes": Effect(batches, False),
    "data.packing": Effect(batches, False),
    "data.packing_bins": Effect(batches, 2),
    "data.packing_fit": Effect(batches, "sorted"),
    "data.streams": Effect(batches, 2),
    "data.max_trajectories": Effect(prepared, 9),
    "data.max_prompts": Effect(prepared, 9),
    "data.no_call_prompts": Effect(prepared, False, OFFERED),
    "data.validation_fraction": Effect(prepared, 0.6),
    "data.max_bad_fraction": Effect(prepared, 0.5, (("data.path", "<bad_rows.jsonl>"),)),
    "data.max_without_tools": Effect(prepared, 1.0, (("data.path", "<no_tools.jsonl>"),)),
    "data.strict": Effect(prepared, True, (("data.path", "<noted_rows.jsonl>"),)),
    "data.synthetic_trajectories": Effect(prepared, 121),
    "data.sources": Effect(prepared, ("synthetic", "<rows.jsonl>@0.5")),
    "data.duplicates": Effect(prepared, "exact", FROM_DOUBLES),
    "data.contamination_paths": Effect(prepared, ("<evaluation.jsonl>",), FROM_FILE),
    "data.contamination_checks": Effect(prepared, ("tools",), CHECKED),
    "data.contamination_action": Effect(prepared, "report", CHECKED),
    "data.prefetch": Effect(prefetched, 5),
    "data.workers": Effect(processes_used, 3),
    "mae.rules": Effect(prepared, "off"),
    "mae.extra_rules": Effect(prepared, ("all_right: unexpected keyword",)),
    "mae.category_actions": Effect(prepared, ("parameter_hallucination=keep",)),
    "mae.down_weight": Effect(prepared, 0.25, DOWN_WEIGHTED),
    "mae.repair_turns": Effect(prepared, 0),
    "key_tokens.mode": Effect(prepared, "code"),
    "key_tokens.parameter_names": Effect(prepared, False, EXTENDED),
    "key_tokens.enum_values": Effect(prepared, False, EXTENDED),
    "key_tokens.w_max": Effect(prepared, 1.5),
    "key_tokens.normalise": Effect(prepared, "reply"),
    "train.steps": Effect(supervised_phase, 7),
    "tracking.trackers": Effect(tracked, ("wandb", "trackio")),
    "tracking.project": Effect(tracked, "mine", TRACKED),
    "tracking.offline": Effect(tracked, True, TRACKED),
    "train.epochs": Effect(supervised_phase, 2.0, (("train.steps", 200),)),
    "train.accumulation": Effect(supervised_phase, 2),
    "train.ce_chunk": Effect(supervised_phase, 64),
    "train.log_every": Effect(supervised_phase, 3),
    "train.eval_every": Effect(supervised_phase, 3),
    "train.eval_batches": Effect(supervised_phase, 2),
    "optim.learning_rate": Effect(supervised_phase, 1e-2),
    "optim.warmup_steps": Effect(supervised_phase, 3),
    "optim.schedule": Effect(supervised_phase, "constant"),
    "optim.final_fraction": Effect(supervised_phase, 0.5),
    "optim.b1": Effect(supervised_phase, 0.5),
    "optim.b2": Effect(supervised_phase, 0.5),
    "optim.eps": Effect(supervised_phase, 0.1),
    "optim.weight_decay": Effect(supervised_phase, 0.5),
    "optim.clip_norm": Effect(supervised_phase, 0.1),
    "optim.moments": Effect(supervised_phase, "bfloat16"),
    "reward.path": Effect(reward_phase, "<reward.py>:reward"),
    "reward.mode": Effect(reward_phase, "reference"),
    "reward.clip": Effect(reward_phase, 0.5),
    "reward.free_text_tools": Effect(reward_phase, ()),
    "reward.free_text_match": Effect(reward_phase, "exact"),
    "reward.free_text_min_f1": Effect(reward_phase, 1.0, (("reward.free_text_match", "token_f1"),)),
    "environment.path": Effect(tool_process, "<tools.py>"),
    "environment.max_turns": Effect(reward_phase, 2, DIALOGUES),
    "environment.max_tokens": Effect(reward_phase, 500, DIALOGUES),
    "environment.timeout_s": Effect(tool_process, 30.0, RUNNING),
    "environment.memory_mib": Effect(tool_process, 500, RUNNING),
    "environment.result_chars": Effect(tool_process, 300, RUNNING),
    "environment.network": Effect(tool_process, True, RUNNING),
    "environment.variables": Effect(tool_process, ("TL_JAX_TOOL",), RUNNING),
    "ppo.steps": Effect(reward_phase, 4),
    "ppo.prompts_per_step": Effect(reward_phase, 3),
    "ppo.samples_per_prompt": Effect(reward_phase, 3),
    "ppo.missed_share": Effect(reward_phase, 0.5),
    "ppo.max_prompt_length": Effect(reward_phase, 400),
    "ppo.max_new_tokens": Effect(reward_phase, 5),
    "ppo.temperature": Effect(reward_phase, 0.7),
    "ppo.top_k": Effect(reward_phase, 5),
    "ppo.top_p": Effect(reward_phase, 0.9),
    "ppo.kl_coef": Effect(reward_phase, 0.5),
    "ppo.gamma": Effect(reward_phase, 0.5),
    "ppo.gae_lambda": Effect(reward_phase, 0.5),
    "ppo.whiten_advantages": Effect(reward_phase, False),
    "ppo.kl": Effect(reward_phase, "loss_k2"),
    "ppo.kl_target": Effect(reward_phase, 0.1, (("ppo.critic_warmup_steps", 0),)),
    "ppo.advantage": Effect(reward_phase, "rloo", (*COMPARED, ("ppo.whiten_advantages", False))),
    "ppo.group_std": Effect(reward_phase, True, COMPARED),
    "ppo.truncated": Effect(reward_phase, "mask", (("ppo.max_new_tokens", 40),)),
    "ppo.aggregation": Effect(reward_phase, "sequence_mean"),
    "ppo.clip_low": Effect(reward_phase, 0.1),
    "ppo.clip_high": Effect(reward_phase, 0.1),
    "ppo.dual_clip": Effect(reward_phase, 3.0),
    "ppo.entropy_coef": Effect(reward_phase, 0.1),
    "ppo.stop_kl": Effect(reward_phase, 0.1, (("ppo.minibatches", 2),)),
    "ppo.max_first_log_ratio": Effect(reward_phase, 0.2, JOINT),
    "ppo.critic": Effect(reward_updates, "separate"),
    "ppo.critic_learning_rate": Effect(reward_updates, 0.5),
    "ppo.clip_value": Effect(reward_phase, 0.1),
    "ppo.epochs": Effect(reward_phase, 2),
    "ppo.minibatches": Effect(reward_phase, 2),
    "ppo.critic_warmup_steps": Effect(reward_phase, 2),
    "ppo.value_stop_gradient": Effect(reward_phase, False, JOINT),
    "ppo.value_learning_rate": Effect(reward_updates, 0.5),
    "ppo.ce_coef": Effect(reward_phase, 0.5, JOINT),
    "ppo.reward_coef": Effect(reward_phase, 0.5, JOINT),
    "ppo.value_coef": Effect(reward_phase, 0.5),
    "ppo.idle_memory": Effect(waiting, "host"),
    "ppo_optim.learning_rate": Effect(reward_updates, 1e-2),
    "ppo_optim.warmup_steps": Effect(reward_updates, 0),
    "ppo_optim.schedule": Effect(reward_updates, "cosine"),
    "ppo_optim.final_fraction": Effect(reward_updates, 0.5, DECAYING),
    "ppo_optim.b1": Effect(reward_updates, 0.5),
    "ppo_optim.b2": Effect(reward_updates, 0.5),
    "ppo_optim.eps": Effect(reward_updates, 0.1),
    "ppo_optim.weight_decay": Effect(reward_updates, 0.5),
    "ppo_optim.clip_norm": Effect(reward_updates, 0.1),
    "ppo_optim.moments": Effect(reward_updates, "bfloat16"),
    "checkpoint.every_steps": Effect(supervised_phase, 7),
    "checkpoint.keep": Effect(reward_phase, 7),
    "checkpoint.end_if_hung": Effect(supervised_phase, True),
    "checkpoint.rollbacks": Effect(divergences, 1),
    "checkpoint.spike": Effect(supervised_phase, 5.0),
    "evaluate.batch_size": Effect(evaluation, 3),
    "evaluate.max_new_tokens": Effect(evaluation, 3),
    "evaluate.max_prompt_length": Effect(evaluation, 300),
    "evaluate.max_tasks": Effect(evaluation, 2),
    "evaluate.stop_strings": Effect(evaluation, (")",)),
    "evaluate.constrained": Effect(evaluation, True),
    "evaluate.synthetic_trajectories": Effect(evaluation, 5),
    "evaluate.rotbench_path": Effect(evaluation, "<rotbench.jsonl>"),
    "evaluate.held_out_tasks": Effect(held_out_turns, 1),
    "evaluate.every": Effect(supervised_phase, 3),
    "evaluate.best": Effect(best_model, "cf", (("evaluate.every", 1),)),
    "evaluate.patience": Effect(best_model, 1, (("evaluate.best", "validation_loss"),)),
    "evaluate.suites": Effect(evaluation, ("synthetic/unseen",)),
    "ablation.seeds": Effect(ablation_parts, (3, 4)),
}


def fields_of(config, prefix=""):
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


FIELDS = list(fields_of(RunConfig()))
_seen: dict[Any, Any] = {}


def observed_base(scene, effect):
    """Observe the configuration before the change, once for all tests that start from it."""
    key = (effect.observe, effect.base)
    if key not in _seen:
        _seen[key] = effect.observe(scene, scene.config(dict(effect.base)))
    return _seen[key]


def test_every_entry_is_a_setting():
    assert EFFECTS.keys() <= set(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_changes_what_it_is_for(scene, name):
    assert name in EFFECTS, f"say in EFFECTS where {name} shows"
    effect = EFFECTS[name]
    before = observed_base(scene, effect)
    scene.patch.undo()  # an observer wraps what it finds
    config = scene.config({**dict(effect.base), name: effect.value})
    assert config != scene.config(dict(effect.base))
    unchanged = effect.observe(scene, config) == before
    assert not unchanged


@pytest.mark.parametrize(
    "effect",
    {(e.observe, e.base): e for e in EFFECTS.values()}.values(),
    ids=lambda e: f"{e.observe.__name__}-{len(e.base)}",
)
def test_nothing_else_changes_what_is_observed(scene, effect):
    before = observed_base(scene, effect)
    scene.patch.undo()
    unchanged = effect.observe(scene, scene.config(dict(effect.base))) == before
    assert unchanged
