"""A model is asked the items of a data file once, also where it was interrupted."""

import dataclasses
import json

import pytest

from tl_jax.calls.render import render_calls
from tl_jax.config import DataConfig, EvaluateConfig, ModelSourceConfig, RunConfig
from tl_jax.evaluate import model_file
from tl_jax.evaluate.results import NOT_ENDED, Reply
from tl_jax.evaluate.suites import SUITES
from tl_jax.evaluate.suites.choose import Chosen
from tl_jax.run.directory import Run

SEEN = Chosen(SUITES["synthetic/seen"], "7")


@pytest.fixture
def run(tmp_path, model_dir, monkeypatch):
    monkeypatch.setattr(Run, "params", lambda self, phase: None)
    monkeypatch.setattr(Run, "sampler", lambda self, *_, **__: None)
    return Run(
        RunConfig(
            run_dir=str(tmp_path / "run"),
            seed=5,
            model=ModelSourceConfig(path=str(model_dir)),
            data=DataConfig(template="released"),
            evaluate=EvaluateConfig(batch_size=1, max_prompt_length=1 << 20),
        )
    )


class Model:
    """Answers right, but for the third item, which it does not end; counts what it is asked."""

    def __init__(self, monkeypatch):
        self.asked = []
        self.stop_after = None
        monkeypatch.setattr(model_file, "ask", self.ask)

    def ask(self, tasks, params, *, on_done, **_):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        replies = []
        for item in tasks.items:
            self.asked.append(item.id)
            text = render_calls(item.gold[0])
            replies.append(Reply(text, NOT_ENDED if len(self.asked) == 3 else ""))
        on_done(len(replies))
        return replies, 0


@pytest.fixture
def model(monkeypatch):
    return Model(monkeypatch)


def test_what_was_asked_before_a_stop_is_not_asked_again(run, model, tmp_path):
    path = tmp_path / "out" / "found.json"
    model.stop_after = 8
    with pytest.raises(KeyboardInterrupt):
        model_file.evaluate_files(run, "before", [SEEN], [path])
    assert len(model.asked) == 8 and not path.exists()
    draft = path.with_suffix(".in_progress.jsonl")
    with draft.open("a") as stream:
        stream.write('{"id": "cut')  # as a kill would leave it
    model.stop_after = None
    (found,) = model_file.evaluate_files(run, "before", [SEEN], [path])
    assert len(set(model.asked)) == len(model.asked) == found["items"] > 8
    assert found["counts"]["cf"] == [found["items"] - 1, found["items"]]
    assert found["problems"] == {"not ended": 1}
    assert json.loads(path.read_text()) == found and not draft.exists()
    facts = {"replies": "model", "phase": "before", "style": "python", "run_seed": 5}
    assert {name: found[name] for name in facts} == facts
    assert "released" in found["prompt"]


def test_other_settings_begin_anew(run, model, tmp_path):
    path = tmp_path / "found.json"
    model.stop_after = 8
    with pytest.raises(KeyboardInterrupt):
        model_file.evaluate_files(run, "before", [SEEN], [path])
    model.stop_after, model.asked = None, []
    limits = dataclasses.replace(run.config.evaluate, max_new_tokens=7)
    other = Run(dataclasses.replace(run.config, evaluate=limits))
    (found,) = model_file.evaluate_files(other, "before", [SEEN], [path])
    assert len(model.asked) == found["items"]


def test_prompts_under_noise_are_asked_and_judged_as_they_were_meant(run, model, tmp_path):
    path = tmp_path / "found.json"
    limits = dataclasses.replace(run.config.evaluate, max_tasks=4, max_prompt_length=700)
    shorter = Run(dataclasses.replace(run.config, evaluate=limits))
    (found,) = model_file.evaluate_files(
        shorter, "before", [SEEN], [path], noise="medium_tools", seed=3
    )
    long = found["problems"].get("the prompt is too long", 0)
    assert found["items"] == 4 and len(model.asked) == 4 - long
    assert found["counts"]["ts"][0] == len(model.asked) - found["problems"].get("not ended", 0)
    assert (found["noise"], found["seed"]) == ("medium_tools", 3)
