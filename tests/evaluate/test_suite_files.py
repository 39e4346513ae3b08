"""A suite of the user's own is a file; every suite keeps results of its own."""

import dataclasses
import json

import pytest

from tl_jax.config import EvaluateConfig, ModelSourceConfig, RunConfig
from tl_jax.errors import ConfigError
from tl_jax.evaluate import run as scoring
from tl_jax.evaluate.suites import SUITES, choose
from tl_jax.report.read import phase_results
from tl_jax.run.directory import Run

FILE = """
from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.data.trajectory import Message
from tl_jax.evaluate.suites import Item, Suite, Verdict, answers

ADD = ToolSpec("add", "Add.", (Parameter("a", "integer"), Parameter("b", "integer")))

def read(path):
    for a in range(3):
        asked = Message("user", f"Add 1 to {a}.")
        yield Item(f"sum-{a}", (ADD,), (asked,), answers(ToolCall("add", {"a": a, "b": 1})))

def judge(item, reply, read):
    named = [call.name for call in read(reply).calls] == ["add"]
    return Verdict({"ts": named, "pi": False, "cf": False})

SUITE = Suite("mine/sums", read, judge)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_suite.py"
    path.write_text(FILE)
    return path


@pytest.fixture
def run(tmp_path, model_dir):
    return Run(
        RunConfig(
            run_dir=str(tmp_path / "run"),
            model=ModelSourceConfig(path=str(model_dir)),
            evaluate=EvaluateConfig(synthetic_trajectories=1, max_tasks=2, max_new_tokens=2),
        )
    )


def scored_on(run, *suites, **limits):
    limits = dataclasses.replace(run.config.evaluate, suites=tuple(map(str, suites)), **limits)
    return Run(dataclasses.replace(run.config, evaluate=limits))


@pytest.fixture
def asked(monkeypatch):
    """What is asked, in order; nothing is generated."""
    names = []

    def evaluate(tasks, params, **_):
        names.append(tasks.suite.name)
        return {tasks.suite.name: {"items": len(tasks.items)}}, {}, [{"set": tasks.suite.name}]

    monkeypatch.setattr(scoring, "evaluate", evaluate)
    monkeypatch.setattr(Run, "params", lambda self, phase: None)
    monkeypatch.setattr(Run, "sampler", lambda self, *_, **__: None)
    return names


def test_the_model_is_asked_and_scored_by_the_file(run, file):
    found = scoring.evaluate_phase(scored_on(run, file), "before")
    assert found["sets"].keys() == {"mine/sums"} and found["sets"]["mine/sums"]["items"] == 2
    folder = run.results_dir / "before"
    assert {path.name for path in folder.iterdir()} == {
        "mine-sums.json",
        "mine-sums.replies.jsonl",
    }
    replies = [json.loads(line) for line in (folder / "mine-sums.replies.jsonl").open()]
    assert [reply["id"] for reply in replies] == ["sum-0", "sum-1"]
    assert replies[1]["gold"] == ["add(a = 1, b = 1)"]


def test_one_more_suite_leaves_the_results_of_the_others(run, file, asked):
    scoring.evaluate_phase(run, "before")
    assert asked == list(SUITES)[:3]
    asked.clear()
    more = scored_on(run, "synthetic/seen", file)
    found = scoring.evaluate_phase(more, "before")
    assert asked == ["mine/sums"]
    assert list(found["sets"]) == ["synthetic/seen", "mine/sums"]
    kept = [list(content["sets"]) for content in phase_results(run.run_dir, "before")]
    assert kept == [*([name] for name in list(SUITES)[:3]), ["mine/sums"]]


def test_what_is_outdated_alone_is_scored_again(run, file, asked):
    both = scored_on(run, "synthetic/unseen", file)
    scoring.evaluate_phase(both, "before")
    assert scoring.is_current(both, "before")
    asked.clear()
    file.write_text(FILE + "# changed\n")
    assert [suite.name for suite in scoring.outdated(both, "before")] == ["mine/sums"]
    scoring.evaluate_phase(scored_on(both, "synthetic/unseen", file), "before")
    assert asked == ["mine/sums"]
    asked.clear()
    # Only the embedded world reads this setting; all read the next one.
    suites = both.config.evaluate.suites
    scoring.evaluate_phase(scored_on(both, *suites, synthetic_trajectories=2), "before")
    assert asked == ["synthetic/unseen"]
    asked.clear()
    scoring.evaluate_phase(scored_on(both, *suites, batch_size=1), "before")
    assert asked == ["synthetic/unseen", "mine/sums"]


def test_a_function_may_make_the_suite(run, file):
    file.write_text(FILE.replace("SUITE = Suite", "def suite(): return Suite"))
    (found,) = choose.chosen_suites(scored_on(run, file).config)
    assert found.name == "mine/sums"


def test_the_table_names_every_suite_of_the_package(run):
    assert list(SUITES)[:5] == [
        *(f"synthetic/{split}" for split in ("seen", "reworded", "unseen")),
        "rotbench/clean",
        "rotbench",
    ]
    assert {"toolalpaca", "own"} < SUITES.keys()
    (found,) = choose.chosen_suites(scored_on(run, "synthetic/unseen").config)
    assert found.suite is SUITES["synthetic/unseen"] and found.path == "1:0"
    (found,) = choose.chosen_suites(scored_on(run, "rotbench=some.json").config)
    assert (found.name, found.path) == ("rotbench", "some.json")


@pytest.mark.parametrize(
    ("changed", "suites", "message"),
    [
        ("", ("synthetic/unsen",), "unknown suite 'synthetic/unsen'; did you mean 'synthetic/unse"),
        ("", ("rotbench/clean",), "rotbench/clean needs config.evaluate.rotbench_path"),
        ("", ("rotbench",), "rotbench needs a file of its items; write rotbench=FILE"),
        ("", ("nowhere.py",), "no file nowhere.py"),
        ("", ("<file>", "<file>"), "two suites are called mine-sums"),
        ("SUITE", ("<file>",), r"my_suite\.py must define SUITE, or a function suite\(\)"),
        ("mine/sums", ("<file>",), "of letters, digits"),
    ],
)
def test_a_suite_that_cannot_be_scored_is_refused(run, file, changed, suites, message):
    if changed:
        file.write_text(FILE.replace(changed, {"SUITE": "SETS"}.get(changed, "../sums")))
    named = [suite.replace("<file>", str(file)) for suite in suites]
    with pytest.raises(ConfigError, match=rf"config\.evaluate\.suites: .*{message}"):
        choose.chosen_suites(scored_on(run, *named).config)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("range(3)", "range(0)", "suite mine/sums has no items"),
        ("sum-{a}", "sum", "two items of .* have the id 'sum'"),
        ("range(3)", "no_such_name", r"cannot be read \(NameError: name 'no_such_name'"),
    ],
)
def test_a_suite_whose_items_cannot_be_asked_is_refused(run, file, old, new, message):
    file.write_text(FILE.replace(old, new))
    with pytest.raises(ConfigError, match=rf"config\.evaluate\.suites: .*{message}"):
        scoring.evaluate_phase(scored_on(run, file), "before")
