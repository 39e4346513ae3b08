"""The model card says what the run directory knows, and what it does not know it says as well."""

import dataclasses
import json
import types

import pytest

from tl_jax.config import DataConfig, KeyTokenConfig, ModelSourceConfig, RunConfig
from tl_jax.data.render.paper_template import STYLES
from tl_jax.data.render.renderer import Renderer
from tl_jax.publish.model_card import Exported, conversion_card, model_card

MODEL = Exported("mine", "supervised", 60, "bfloat16")
COMMIT = "c" * 40


def card_of(config, model):
    """The card of a run whose tokenizer is not asked."""
    template = "released" if config.data.template == "auto" else config.data.template
    fixed = {"enable_thinking": False, "strftime_now": "2024-07-26"}
    chat = None
    if template not in STYLES:
        chat = types.SimpleNamespace(call_style="hermes", fixed=fixed)
    tokenizer = types.SimpleNamespace(eos_text="<|eos|>")
    return model_card(config, Renderer(tokenizer, template, config.data.samples, chat), model)


def score(percent):
    return {"percent": percent, "low": percent - 5, "high": percent + 5}


def scores(step, percent):
    world = {"items": 57, **{metric: score(percent) for metric in ("ts", "pi", "cf")}}
    return {"step": step, "sets": {"rotbench/clean": world}}


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        run_dir=str(tmp_path / "mine"),
        model=ModelSourceConfig(path="/home/someone/models/tiny"),
        key_tokens=KeyTokenConfig(w_max=7.5),
    )


@pytest.fixture
def prepared(config, tmp_path):
    files = {
        "data/mae_report.json": {
            "turns": 1000,
            "kept": 825,
            "verdicts": {},
            "reasons": {"wrong: status": 175},
            "calls": {"parameter_missing": 130, "all_right": 870},
            "trajectories": {"train": 331, "validation": 9},
            "examples": {"train": 825},
            "trained_tokens": {"train": 40_404},
            "sources": {"/home/someone/a.jsonl": {"rows": 340, "trajectories": {"train": 331}}},
            "checked_against": [{"path": "/home/someone/clean.json", "queries": 105}],
        },
        "data/fingerprint.json": {"version": 1, "sources": [["abc", 1.0]]},
        "results/before/rotbench-clean.json": scores(0, 10.0),
        "results/supervised/rotbench-clean.json": scores(60, 62.5),
    }
    for name, content in files.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return config


def test_the_card_of_adapters_says_what_they_go_with(config):
    card = card_of(config, dataclasses.replace(MODEL, adapter=True))
    assert "library_name: peft" in card and "LoRA adapters alone, for the base model." in card
    assert 'AutoModelForCausalLM.from_pretrained("BASE_MODEL")' in card
    known = dataclasses.replace(MODEL, adapter=True, base_id="org/tiny", base_commit=COMMIT)
    assert 'AutoModelForCausalLM.from_pretrained("org/tiny")' in card_of(config, known)
    assert "peft" not in card_of(config, MODEL).lower()


def test_an_empty_run_directory_is_no_secret(config):
    card = card_of(config, MODEL)
    for words in ("holds no prepared data", "No report of judged calls", "Not evaluated."):
        assert words in card
    assert "nan" not in card


def test_what_was_trained_and_scored_is_in_the_card(prepared):
    card = card_of(prepared, MODEL)
    assert card.startswith("---\nlibrary_name: transformers\n") and "\n# mine\n" in card
    assert "Steps trained: 60 supervised." in card and "are bfloat16" in card
    assert "`tiny` from a local disk" in card
    assert "| `a.jsonl` | 340 | 331 |" in card and "40,404 trained tokens" in card
    assert "Checked for overlaps with: `clean.json`" in card
    assert "825 of 1,000 assistant turns" in card
    assert (
        "| parameter missing | 130 | 13.0 |" in card and "| `wrong: status` | 175 | 17.5 |" in card
    )
    assert "| `w_max` | `7.5` |" in card and "| `rules` | `structured` |" in card
    assert "## Reward training (IRM)\n\nNone." in card
    assert "| rotbench/clean | before | 57 | 10.0 [5.0, 15.0] |" in card
    assert "| rotbench/clean | after supervised | 57 | 62.5 [57.5, 67.5] |" in card
    assert "/home/someone" not in card
    assert "was not evaluated" not in card and "not of the exported step" not in card


def test_a_model_that_was_not_trained_is_not_said_to_be(prepared):
    card = card_of(prepared, dataclasses.replace(MODEL, phase="before", step=0))
    assert "not trained" in card and "| rotbench/clean | before |" in card
    for words in ("tool-use", "MAE", "PKT", "IRM", "Training data", "trained on", "calls tools"):
        assert words not in card


def test_the_fingerprint_changes_with_the_data(prepared, tmp_path):
    before = card_of(prepared, MODEL)
    assert card_of(prepared, MODEL) == before
    file = tmp_path / "mine" / "data" / "fingerprint.json"
    file.write_text(json.dumps({"version": 1, "sources": [["abd", 1.0]]}))
    changed = set(before.splitlines()) ^ set(card_of(prepared, MODEL).splitlines())
    assert len(changed) == 2 and all(line.startswith("SHA-256") for line in changed)


def test_scores_of_another_step_or_none_are_said(prepared):
    later = dataclasses.replace(MODEL, step=80)
    assert "of its step 60, not of the exported step 80" in card_of(prepared, later)
    rewarded = dataclasses.replace(MODEL, phase="reward", step=10)
    card = card_of(prepared, rewarded)
    assert "The exported model was not evaluated." in card
    assert "| `kl_coef` | `0.1` |" in card and "None." not in card
    assert f"Steps trained: {prepared.train.steps} supervised, 10 with a reward." in card


def test_a_base_model_of_the_hub_is_linked_with_its_commit(prepared):
    model = dataclasses.replace(MODEL, base_id="someone/tiny", base_commit=COMMIT)
    card = card_of(prepared, model)
    assert "\nbase_model: someone/tiny\n" in card
    assert f"https://huggingface.co/someone/tiny) at commit `{COMMIT}`" in card
    card = conversion_card("tiny", "float32", base_id="someone/tiny", base_commit=COMMIT)
    assert COMMIT in card and "float32 safetensors, not trained" in card


@pytest.mark.parametrize("template", ["released", "script", "chat", "chatml_tools"])
def test_the_card_shows_how_to_ask(prepared, template):
    data = DataConfig(template=template)
    card = card_of(dataclasses.replace(prepared, data=data), MODEL)
    plain = template in STYLES
    assert ("User: What is the weather in Oslo?\nAssistant:\n```" in card) == plain
    assert ("apply_chat_template" in card) != plain
    assert ("<tool_call>" in card) != plain
    assert ('`enable_thinking` = `false`, `strftime_now` = `"2024-07-26"`' in card) != plain
    assert "Oslo" in card.rpartition("like this")[2].partition("##")[0]
