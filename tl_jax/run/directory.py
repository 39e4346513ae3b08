"""One run's directory: where each command finds and leaves its things."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from tl_jax.calls.call import ToolSpec
from tl_jax.config import ModelConfig, RunConfig
from tl_jax.convert import from_hf, hf_directory, hub, model_files, peft
from tl_jax.data.render import paper_template
from tl_jax.data.render.probe import AUTO
from tl_jax.data.render.renderer import Renderer, open_renderer
from tl_jax.data.tokenize.tokenizer import Tokenizer, load_tokenizer
from tl_jax.errors import ConfigError
from tl_jax.models import functional, lora, nf4, registry
from tl_jax.parallel import sharding
from tl_jax.parallel.mesh import make_mesh, make_sampling_mesh
from tl_jax.run import checkpoint
from tl_jax.run.length import supervised_steps
from tl_jax.run.record import read_own
from tl_jax.sampling import grammar
from tl_jax.sampling.next_token import SampleConfig
from tl_jax.sampling.sampler import Constraint, Sampler, make_sampler
from tl_jax.types import Params

PHASES = ("before", "supervised", "reward")
"""The models of a run in order: the initial one and the result of each training phase."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Paths of a run directory and the objects that several commands open.

    Attributes:
      config: The settings.
      reward: A function that rewards sampled replies in place of ``config.reward``'s rules, as
        ``rl.custom_reward.RewardFunction``.
      force: Go on although weights, tokenizer or data are others than those that training began
        with; ``inputs.json`` tells it.

    Example:
      >>> import tl_jax as tl
      >>> run = tl.Run(tl.RunConfig(run_dir="runs/mine"))
      >>> run.export_dir.as_posix()
      'runs/mine/export'
    """

    config: RunConfig
    reward: Callable[[str, Any], Any] | None = None
    force: bool = False

    @property
    def run_dir(self) -> Path:
        return Path(self.config.run_dir)

    @property
    def data_dir(self) -> Path:
        return self.run_dir / "data"

    @property
    def results_dir(self) -> Path:
        return self.run_dir / "results"

    @property
    def export_dir(self) -> Path:
        return self.run_dir / "export"

    def checkpoint_dir(self, phase: str) -> Path:
        """Return where the checkpoints of a training phase lie."""
        return self.run_dir / "checkpoints" / phase

    @property
    def model_dir(self) -> Path:
        """The initial model as a Hugging Face directory.

        A GGUF file and a model from scratch become ``model/`` in the run directory when the data
        are prepared. A model of the Hugging Face Hub lies in its cache on this machine; before the
        data are prepared, there is no such directory.
        """
        path = self.config.model.path
        if path == "embedded":
            return Path(str(importlib.resources.files("tl_jax") / "assets" / "base"))
        if path == "scratch" or path.endswith(".gguf"):
            return self.run_dir / "model"
        if hub.is_id(path):
            pinned = self.hub_model
            return self.run_dir / "model" if pinned is None else pinned.directory
        if not Path(path).is_dir():
            raise ConfigError(
                f"config.model.path: {path} is no directory; give a Hugging Face model directory, "
                "the id of a model on the Hub (organisation/name, or organisation/name@revision), "
                "a .gguf file, 'embedded' or 'scratch'"
            )
        return Path(path)

    @property
    def hub_model(self) -> hub.HubModel | None:
        """The initial model on the Hugging Face Hub at the commit of this run, if it is one."""
        path = self.config.model.path
        return hub.pinned(path, self.run_dir) if hub.is_id(path) else None

    @functools.cached_property
    def model(self) -> ModelConfig:
        """Architecture of the initial model with the compute choices of the run."""
        source = self.config.model
        config = registry.read_config(
            self.model_dir,
            dtype=source.dtype,
            param_dtype=source.param_dtype,
            remat=source.remat,
            attention=source.attention,
        )
        return dataclasses.replace(
            config, unroll=source.unroll, splash=source.splash, lora=self.config.lora
        )

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of the initial model."""
        model_files.check_own(self.model_dir)
        try:
            return load_tokenizer(self.model_dir)
        except ValueError as error:
            raise ConfigError(f"config.model.path: {error}") from error

    @functools.cached_property
    def renderer(self) -> Renderer:
        """The text form that the model is trained on and asked in."""
        tokenizer = self.tokenizer
        stops = hf_directory.generation_stops(self.model_dir)
        known = [token for token in stops if tokenizer.backend.id_to_token(token) is not None]
        return open_renderer(self.config.data, tokenizer, more_stops=known)

    @functools.cached_property
    def mesh(self) -> Mesh:
        return make_mesh(self.config.mesh)

    @functools.cached_property
    def sampling_mesh(self) -> Mesh | None:
        """Where text is sampled, if not on the mesh of training.

        Raises:
          ConfigError: The model cannot be split like that.
        """
        mesh = make_sampling_mesh(self.mesh, self.config.mesh.sampling_tensor)
        if mesh == self.mesh:
            return None
        sharding.param_shardings(functional.abstract_params(self.model), mesh)
        return mesh

    def check_sampled_rows(self, count: int, name: str) -> None:
        """Refuse rows of sampling that devices which share rows in training cannot each have.

        Raises:
          ConfigError: ``count`` of the setting ``name`` is not divisible.
        """
        mesh = self.sampling_mesh
        if mesh is None or self.mesh.shape["sequence"] == 1:
            return
        devices = sharding.parts(mesh, sharding.RULES["batch"])
        if count % devices:
            raise ConfigError(
                f"{name} = {count} rows are not divisible by {devices} mesh rows: devices along "
                "mesh axis 'sequence' sample rows of their own"
            )

    def best_dir(self, phase: str) -> Path:
        """Return where the best model of a training phase lies, if ``evaluate.best`` keeps it."""
        return self.run_dir / "checkpoints" / f"{phase}-best"

    def ended_file(self, phase: str) -> Path:
        """Return the file that says that a phase was ended before its last step."""
        return self.run_dir / "checkpoints" / f"{phase}-ended.json"

    def phase_done(self, phase: str) -> bool:
        """Whether the phase has a model: always for the initial one, else a final checkpoint."""
        if phase == "before":
            return True
        saved = self.saved_step(phase)
        if saved is None:
            return False
        steps = self.steps(phase)
        mend = f"it tells of an early end: move it away to train all {steps} steps"
        early = read_own(self.ended_file(phase), mend) == [saved, steps]
        return early or saved >= steps  # with other steps it goes on

    def model_step(self, phase: str) -> int | None:
        """Return the step of the model that a phase has: its best one if that is kept."""
        best = checkpoint.latest_step_dir(self.best_dir(phase)) if self._keeps_best(phase) else None
        return self.saved_step(phase) if best is None else int(best.name)

    def _keeps_best(self, phase: str) -> bool:
        return bool(self.config.evaluate.best) and self.best_dir(phase).is_dir()

    def steps(self, phase: str) -> int:
        """Return the configured steps of a training phase; 0 leaves it out.

        Raises:
          ConfigError: They are epochs of data that are not prepared.
        """
        supervised = phase == "supervised"
        return supervised_steps(self.config) if supervised else self.config.ppo.steps

    def trains(self, phase: str) -> bool:
        """Whether a training phase is not left out."""
        epochs = phase == "supervised" and self.config.train.epochs
        return bool(epochs) or self.steps(phase) > 0

    def steps_left(self, phase: str) -> bool:
        """Whether a training phase is not left out and not done."""
        return self.trains(phase) and not self.phase_done(phase)

    def saved_step(self, phase: str) -> int | None:
        """Return the step of the phase's newest model: 0 for the initial one, None without any."""
        if phase == "before":
            return 0
        directory = checkpoint.latest_step_dir(self.checkpoint_dir(phase))
        return None if directory is None else int(directory.name)

    def newest_phase(self) -> str:
        """Return the last phase that has a checkpoint, finished or not, or ``"before"``."""
        return next(phase for phase in reversed(PHASES) if self.saved_step(phase) is not None)

    def params(self, phase: str) -> Params:
        """Load the parameters of a phase onto the mesh, without a critic.

        Raises:
          ConfigError: The phase has not been trained.
        """
        return lora.joined(self.trained(phase), self.frozen())

    def frozen(self) -> Params:
        """Load the parameters that are not trained: with adapters, the whole initial model."""
        return self._initial() if self.config.lora.rank else {}

    def trained(self, phase: str) -> Params:
        """Load what is trained, as it is after a phase: everything, or the adapters.

        Raises:
          ConfigError: The phase has not been trained, or ``config.model.adapter`` does not fit.
        """
        if phase == "before":
            return self._adapters() if self.config.lora.rank else self._initial()
        best = checkpoint.latest_step_dir(self.best_dir(phase)) if self._keeps_best(phase) else None
        directory = best or checkpoint.latest_step_dir(self.checkpoint_dir(phase))
        if directory is None:
            raise ConfigError(
                f"{self.run_dir} has no {phase} checkpoint; run `tl-jax train` with this "
                "configuration first"
            )
        return checkpoint.restore_params(directory, self.placed(self.declared()))

    def declared(self) -> Any:
        """Return the declarations of what is trained, without a critic."""
        return lora.split(functional.abstract_params(self.model), self.config.lora)[0]

    def _initial(self) -> Params:
        packed = self.config.lora.rank and self.config.lora.frozen == "nf4"
        return from_hf.load(
            self.model_dir,
            self.mesh,
            param_dtype=self.config.model.param_dtype,
            pack=self._pack if packed else None,
        )

    def _pack(self, path: tuple[str, ...], leaf: jax.Array) -> dict[tuple[str, ...], Any]:
        *module, name = path
        declared = functional.abstract_params(self.model)
        for key in module:
            declared = declared[key]
        if nf4.CODES not in declared or name != "kernel":
            return {path: leaf}
        kept = (nf4.CODES, nf4.SCALES)
        placed = self.placed({key: declared[key] for key in kept})
        where = tuple(placed[key].sharding for key in kept)
        parts = jax.jit(nf4.quantised, out_shardings=where)(leaf)
        return {(*module, key): part for key, part in zip(kept, parts, strict=True)}

    def _adapters(self) -> Params:
        if self.config.model.adapter:
            return peft.load(self.config.model.adapter, self.model, self.mesh)
        where = jax.tree.map(lambda leaf: leaf.sharding, self.placed(self.declared()))

        def make(key: jax.Array) -> Params:
            # The compiler drops the rest of the model, which nobody asks for.
            return lora.split(functional.init(self.model, key), self.config.lora)[0]

        return jax.jit(make, out_shardings=where)(jax.random.key(self.config.seed))

    def placed(self, declared: Any) -> Any:
        """Return shapes, types and shardings on the mesh of declared parameters."""
        return sharding.placed(declared, self.mesh)

    def sampler(
        self,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        *,
        top_k: int = 0,
        stop_strings: tuple[str, ...] = (),
    ) -> Sampler:
        """Return the compiled sampler with the stop tokens of the run's template.

        Raises:
          ConfigError: A limit that cannot be.
        """
        try:
            settings = SampleConfig(
                max_new_tokens, temperature, top_k, top_p, self.renderer.stop_ids, stop_strings
            )
        except ValueError as error:
            raise ConfigError(f"config.ppo or config.evaluate: {error}") from error
        return _sampler(self.model, settings, self.tokenizer, self.sampling_mesh)

    def constraints(self) -> Callable[[Sequence[ToolSpec]], Constraint]:
        """Return what makes, of the tools of a prompt, the constraint that holds a reply to them.

        Raises:
          ConfigError: The template's call style cannot be followed; or, when the constraint is
            made, no call of a tool can be written.
        """
        style, stop_ids = self.renderer.call_style, self.renderer.stop_ids
        if style not in grammar.STYLES:
            raise ConfigError(
                f"config.evaluate.constrained holds {', '.join(grammar.STYLES)} calls to their "
                f"tools; config.data.template {self.renderer.template!r} writes {style} calls, "
                "so set it to False"
            )
        vocabulary = grammar.read_vocabulary(self.tokenizer, self.model.vocab_size)

        def make(tools: Sequence[ToolSpec]) -> Constraint:
            try:
                return grammar.make_constraint(vocabulary, tools, stop_ids, style)
            except ValueError as error:
                raise ConfigError(f"config.evaluate.constrained: {error}") from error

        return make


def check_reward(config: RunConfig) -> None:
    """Refuse reward training whose reward or tools do not fit the other settings.

    Raises:
      ConfigError: The message names the settings that do not fit.
    """
    template = config.data.template
    if config.ppo.steps and config.environment.path:
        _check_environment(config)
    published = config.reward.mode == "reference" and not config.reward.path
    if config.ppo.steps and published and template != "released":
        raise ConfigError(
            "config.reward.mode 'reference' sees single-quoted arguments of Python calls only, "
            f"which config.data.template {template!r} does not write; take mode 'strict' or "
            "'graded', or template 'released'"
        )


def _check_environment(config: RunConfig) -> None:
    environment, new_tokens = config.environment, config.ppo.max_new_tokens
    if not Path(environment.path).is_file():
        raise ConfigError(
            f"config.environment.path: no file {environment.path}; give a Python file"
        )
    if config.reward.mode == "reference" and not config.reward.path:
        raise ConfigError(
            "config.reward.mode 'reference' is the published reward of one reply; with "
            "config.environment.path take mode 'strict' or 'graded'"
        )
    plain = config.data.template in (AUTO, *paper_template.STYLES)
    if plain and config.data.samples != "per_trajectory":
        raise ConfigError(
            "config.environment.path makes dialogues in which every reply ends with a stop token; "
            "the model learns such with config.data.samples='per_trajectory', not "
            f"{config.data.samples!r}, or with a chat template that config.data.template names"
        )
    if environment.max_tokens <= new_tokens:
        raise ConfigError(
            f"config.environment.max_tokens is {environment.max_tokens}, but one reply alone may "
            f"have config.ppo.max_new_tokens = {new_tokens}; raise it, so that another one fits"
        )


@functools.lru_cache(maxsize=8)
def _sampler(
    model: ModelConfig, sample: SampleConfig, tokenizer: Tokenizer, mesh: Mesh | None
) -> Sampler:
    """Keep compiled samplers, so that the evaluations of a run compile once."""
    text_of = functools.partial(tokenizer.decode, keep_control=True)
    return make_sampler(model, sample, text_of, mesh)
