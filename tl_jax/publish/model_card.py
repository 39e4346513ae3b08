"""The model card of an exported model: where it comes from, what it learned, how it scored."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.config import RunConfig
from tl_jax.data.prepare.files import FINGERPRINT, REPORT
from tl_jax.data.render.renderer import Renderer
from tl_jax.data.trajectory import Message
from tl_jax.report import mae
from tl_jax.report.read import (
    METRICS,
    PHASE_TITLES,
    labelled_sets,
    number,
    phase_results,
    read_json,
)

_TOOL = ToolSpec(
    "get_weather", "Weather of a city.", (Parameter("city", "string", "Name of the city.", True),)
)
_CALL = ToolCall("get_weather", {"city": "Oslo"})
_TAGS = ("tl-training", "tool-use", "function-calling")


@dataclasses.dataclass(frozen=True)
class Exported:
    """What is exported.

    Attributes:
      name: Title of the card.
      phase: One of ``read.PHASE_TITLES``.
      step: Step of the phase.
      dtype: Type of the tensors.
      base_id: Id of the initial model on the Hugging Face Hub, or empty.
      base_commit: Its commit there.
      adapter: Whether these are adapters alone, for PEFT.
    """

    name: str
    phase: str
    step: int
    dtype: str
    base_id: str = ""
    base_commit: str = ""
    adapter: bool = False


def model_card(config: RunConfig, renderer: Renderer, model: Exported) -> str:
    """Return the text of ``README.md`` for the export of a run.

    Everything but the settings is read from the run directory, and what is not there is said to be
    missing. Of local paths only the last part is named. The same run gives the same text.
    """
    run_dir = Path(config.run_dir)
    parts = [_front_matter(model), f"# {model.name}", _summary(config, model)]
    parts += _section("Use", _use(renderer, model))
    if model.phase != "before":
        report = read_json(run_dir / "data" / REPORT)
        fingerprint = read_json(run_dir / "data" / FINGERPRINT)
        parts += _section("Training data", _data(config, renderer, report, fingerprint))
        parts += _section("Wrong calls (MAE)", [*_mae(report), _settings(config.mae)])
        parts += _section("Key tokens (PKT)", [_settings(config.key_tokens)])
        parts += _section("Reward training (IRM)", _reward(config, model))
    parts += _section("Scores", _scores(run_dir, model))
    return "\n\n".join(parts) + "\n"


def conversion_card(source: str, dtype: str, *, base_id: str = "", base_commit: str = "") -> str:
    """Return the text of ``README.md`` for a model that only changed its form."""
    model = Exported(base_id or Path(source).name, "before", 0, dtype, base_id, base_commit)
    text = f"{_base(source, model)} Converted by `tl_jax` to {dtype} safetensors, not trained."
    return "\n\n".join([_front_matter(model), f"# {model.name}", text]) + "\n"


def _front_matter(model: Exported) -> str:
    library = "peft" if model.adapter else "transformers"
    lines = [f"library_name: {library}", "pipeline_tag: text-generation"]
    if model.base_id:
        lines.append(f"base_model: {model.base_id}")
    if model.phase != "before":
        lines += ["tags:", *(f"- {tag}" for tag in _TAGS)]
    return "\n".join(["---", *lines, "---"])


def _summary(config: RunConfig, model: Exported) -> str:
    what = {
        "before": "The initial model of a run of TL-Training, not trained by it",
        "supervised": "A language model that calls tools, made with TL-Training",
        "reward": "A language model that calls tools, made with TL-Training",
    }
    form = " These are its LoRA adapters alone, for the base model." if model.adapter else ""
    steps = {
        "before": "",
        "supervised": f" Steps trained: {model.step} supervised.",
        "reward": f" Steps trained: {_supervised(config)}, {model.step} with a reward.",
    }
    return (
        f"{what[model.phase]} ([arXiv 2412.15495](https://arxiv.org/abs/2412.15495), `tl_jax`)."
        f"{steps[model.phase]} {_base(config.model.path, model)}{form} "
        f"Its tensors are {model.dtype}."
    )


def _supervised(config: RunConfig) -> str:
    train = config.train
    return f"{train.epochs:g} epochs supervised" if train.epochs else f"{train.steps} supervised"


def _base(path: str, model: Exported) -> str:
    if model.base_id:
        link = f"[{model.base_id}](https://huggingface.co/{model.base_id})"
        return f"The base model is {link} at commit `{model.base_commit}`; its licence applies."
    if path == "embedded":
        return "The base model is the small one that ships with `tl_jax`."
    if path == "scratch":
        return "There is no base model: training began with random weights."
    return f"The base model is `{Path(path).name}` from a local disk; its licence applies."


def _use(renderer: Renderer, model: Exported) -> list[str]:
    load = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("DIRECTORY")\n'
    )
    if model.adapter:
        base = model.base_id or "BASE_MODEL"
        load = (
            f"from peft import PeftModel\n{load}"
            f'base = AutoModelForCausalLM.from_pretrained("{base}")\n'
            'model = PeftModel.from_pretrained(base, "DIRECTORY")'
        )
    else:
        load += 'model = AutoModelForCausalLM.from_pretrained("DIRECTORY")'
    if model.phase == "before":
        return [_code(load, "python")]
    if renderer.chat is None:
        query = Message("user", "What is the weather in Oslo?")
        prompt = renderer.render_prompt([_TOOL], [query]).text
        form = [
            "It was trained on plain text of this form, without a chat template (`tl-jax evaluate "
            "--model=DIRECTORY` asks in it); generation ends at the end-of-sequence token:",
            _code(prompt, "text"),
        ]
    else:
        form = [
            "It was trained with the chat template in this directory "
            f"(`data.template={_template(renderer)!r}`): "
            "`tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True)` "
            f"gives its prompts.{_fixed(renderer)}"
        ]
    call = renderer.render_calls([_CALL])
    return [_code(load, "python"), *form, "It writes a call like this:", _code(call, "text")]


def _template(renderer: Renderer) -> str:
    """Return the text form without the place of a file."""
    return Path(renderer.template).name


def _fixed(renderer: Renderer) -> str:
    """Say what stands fixed in the template."""
    fixed = renderer.chat.fixed if renderer.chat is not None else {}
    if not fixed:
        return ""
    values = ", ".join(f"`{name}` = `{json.dumps(value)}`" for name, value in fixed.items())
    return f" Fixed at the front of the template, as in training: {values}."


def _data(
    config: RunConfig, renderer: Renderer, report: Mapping[str, Any], fingerprint: Mapping[str, Any]
) -> list[str]:
    if not report:
        return ["This run directory holds no prepared data."]
    sources = report.get("sources")
    rows = [
        [f"`{Path(str(name)).name}`", _number(entry.get("rows")), _number(_train(entry))]
        for name, entry in (sources if isinstance(sources, Mapping) else {}).items()
        if isinstance(entry, Mapping)
    ]
    counts = [
        f"{_number(_side(report, name, 'train'))} {unit}"
        for name, unit in (
            ("trajectories", "trajectories"),
            ("examples", "examples"),
            ("trained_tokens", "trained tokens"),
        )
    ]
    canonical = json.dumps(fingerprint, sort_keys=True).encode()
    digest = hashlib.sha256(canonical).hexdigest() if fingerprint else "not recorded"
    checked = report.get("checked_against") or []
    names = ", ".join(f"`{Path(str(entry.get('path'))).name}`" for entry in checked)
    return [
        _table(["source", "rows", "trajectories trained on"], rows),
        f"{', '.join(counts)}; text form `{_template(renderer)}`, samples "
        f"`{config.data.samples}`, at most {config.data.max_length} tokens, seed {config.seed}.",
        f"SHA-256 of the data's `{FINGERPRINT}`: `{digest}`.",
        f"Checked for overlaps with: {names}."
        if names
        else "Not checked for overlaps with any evaluation set.",
    ]


def _train(entry: Mapping[str, Any]) -> Any:
    return _side(entry, "trajectories", "train")


def _side(report: Mapping[str, Any], name: str, side: str) -> Any:
    value = report.get(name)
    return value.get(side) if isinstance(value, Mapping) else None


def _mae(report: Mapping[str, Any]) -> list[str]:
    found = mae.counts(report)
    if not found:
        return ["No report of judged calls in this run directory."]
    calls = [
        [name, f"{count:,}", f"{share:.1f}"] for name, count, share in mae.category_rows(report)
    ]
    reasons = [
        [f"`{name}`", f"{count:,}", f"{share:.1f}"]
        for name, count, share in mae.reason_rows(report)
    ]
    return [
        f"{found['kept']:,} of {found['turns']:,} assistant turns were kept for training.",
        _table(["calls", "number", "%"], calls),
        _table(["turns left out: verdict and rule", "number", "%"], reasons),
    ]


def _reward(config: RunConfig, model: Exported) -> list[str]:
    if model.phase != "reward":
        return ["None."]
    return [_settings(config.reward), _settings(config.ppo)]


def _scores(run_dir: Path, model: Exported) -> list[str]:
    rows = []
    outdated: dict[str, None] = {}
    for phase, title in PHASE_TITLES.items():
        sets: dict[str, Any] = {}
        for result in phase_results(run_dir, phase):
            sets |= result["sets"]
            if phase == model.phase and result.get("step") != model.step:
                names = ", ".join(result["sets"])
                outdated[
                    f"The scores of the {phase} model on {names} are of its step "
                    f"{result.get('step')}, not of the exported step {model.step}."
                ] = None
        for name, entry in labelled_sets(sets).items():
            scores = [_score(entry, metric) for metric in METRICS]
            rows.append([name, title, _number(_entry(entry, "items")), *scores])
    if not rows:
        return ["Not evaluated."]
    exported = {title for _, title, *_ in rows}
    missing = (
        "" if PHASE_TITLES[model.phase] in exported else "The exported model was not evaluated."
    )
    rows.sort(key=lambda row: row[0])
    meanings = "; ".join(f"{metric.upper()}: {meaning}" for metric, meaning in METRICS.items())
    head = ["set", "model", "calls", *(f"{metric.upper()} %" for metric in METRICS)]
    notes = [f"{meanings}. Brackets: 95 % bootstrap interval.", *outdated, missing]
    return [_table(head, rows), *(note for note in notes if note)]


def _score(entry: Any, metric: str) -> str:
    score = _entry(entry, metric)
    percent, low, high = (number(_entry(score, part)) for part in ("percent", "low", "high"))
    return f"{percent:.1f} [{low:.1f}, {high:.1f}]"


def _entry(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _settings(section: Any) -> str:
    rows = [[f"`{name}`", f"`{value}`"] for name, value in dataclasses.asdict(section).items()]
    return _table(["setting", "value"], rows)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "not recorded"


def _section(title: str, parts: Iterable[str]) -> list[str]:
    return [f"## {title}", *(part for part in parts if part)]


def _code(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
