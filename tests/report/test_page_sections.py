"""The parts of a run's page: the verdict, marked differences, failures, tools, time and funnel."""

import math
import re

import pytest
from made_run import make_run, summary, write, write_rows

from tl_jax.report import figures, funnel, glance, read, replies, speed
from tl_jax.report.difference import marked
from tl_jax.report.run import write_report


def seen(tmp_path):
    return read.read_run(tmp_path)


def results(folder, phases):
    for phase, scores in phases.items():
        sets = {name: summary(50, base) for name, base in scores.items()}
        write(folder / "results" / phase / "a.json", {"suite": "a", "sets": sets})
    return read.read_run(folder)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({"a": 20, "b": 30}, {"a": 60, "b": 31}, "Training worked: right calls rose on 1 of 2"),
        ({"a": 60, "b": 30}, {"a": 20, "b": 31}, "Training did harm: right calls fell on 1 of 2"),
        ({"a": 60, "b": 30}, {"a": 20, "b": 70}, "Mixed: right calls rose on 1 of 2"),
        ({"a": 60}, {"a": 62}, "No difference seen on any of 1 evaluation set."),
        ({}, {"a": 60}, "Scored once"),
    ],
)
def test_the_verdict_is_that_of_the_intervals(tmp_path, before, after, says):
    run = results(tmp_path, {"before": before, "reward": after} if before else {"reward": after})
    assert glance.verdict(run).startswith(says)
    assert says in glance.section(run).replace("&#x27;", "'")


def test_without_evaluation_the_verdict_is_what_the_metrics_say(tmp_path):
    assert "Nothing is trained" in glance.verdict(seen(tmp_path))
    rows = [{"stage": "supervised", "step": s, "ce_loss": 4.0 / s} for s in (1, 2, 4)]
    write_rows(tmp_path / "metrics.jsonl", rows)
    assert glance.verdict(seen(tmp_path)).startswith("The loss went from 4 to 1;")
    rows = [{**row, "held_out_cf": 20.0 * row["step"]} for row in rows]
    write_rows(tmp_path / "metrics.jsonl", rows)
    assert "held-out calls went from 20.0 to 80.0 %" in glance.verdict(seen(tmp_path))


def test_steps_that_are_not_done_or_were_skipped_stand_out(tmp_path):
    write(tmp_path / "config.json", {"train": {"steps": 9}})
    rows = [{"stage": "supervised", "step": step, "skipped": step - 1} for step in (1, 3)]
    write_rows(tmp_path / "metrics.jsonl", rows)
    page = glance.section(seen(tmp_path))
    assert "<li class=wrong>supervised steps <b>3 of 9</b>" in page
    assert "<li class=wrong>supervised steps skipped, not finite <b>2</b>" in page


@pytest.mark.parametrize(
    ("done", "ended", "says"),
    [
        (7, None, "<li>supervised steps <b>7 of 7</b>"),
        (5, None, "<li class=wrong>supervised steps <b>5 of 7</b>"),
        (5, [5, 7], "<li>supervised steps <b>5 of 7, ended as its score got no better</b>"),
        (5, [5, 4], "<li class=wrong>supervised steps <b>5 of 7</b>"),
    ],
)
def test_a_phase_is_as_long_as_its_epochs_unless_it_was_ended(tmp_path, done, ended, says):
    train = {"steps": 200, "epochs": 2.0}
    write(tmp_path / "config.json", {"train": train, "data": {"batch_size": 8}})
    write(tmp_path / "data" / "loader_report.json", {"rows": 26, "complete": True})
    write_rows(tmp_path / "metrics.jsonl", [{"stage": "supervised", "step": done}])
    if ended:
        write(tmp_path / "checkpoints" / "supervised-ended.json", ended)
    assert says in glance.section(seen(tmp_path))


@pytest.mark.parametrize(
    ("reply", "golds", "said", "due"),
    [
        ("f(a = 1)", ["f(a=1)"], "f(a = 1)", "f(a=1)"),
        ("f(a = 1)", ["g(b = 2)", "f(a = 2)"], "f(a =<del> 1</del>)", "f(a =<ins> 2</ins>)"),
        ("f(a = 1)", ["f(a = 1, b = 2)"], "f(a = 1)", "f(a = 1<ins>, b = 2</ins>)"),
        ("", ["f()"], "", "<ins>f()</ins>"),
        ("Words.", [], "<del>Words.</del>", ""),
        ("<b>", ["&"], "<del>&lt;b&gt;</del>", "<ins>&amp;</ins>"),
    ],
)
def test_what_differs_from_the_nearest_answer_is_marked(reply, golds, said, due):
    assert marked(reply, golds) == (said, due)


def test_texts_without_end_are_compared_in_no_time():
    said, due = marked("a " * 50_000, ["b " * 50_000] * 3)
    assert len(said) < 2000 and "…" in due


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_run(folder)
    return read.read_run(folder)


def test_failures_are_of_each_kind_in_turn_with_request_reply_and_answer(whole):
    found = whole.failures
    assert (found.phase, found.replies, found.wrong) == ("reward", 28, 27)
    kinds = [record["category"] for record in found.records]
    assert kinds[:6] == ["content_filling", "wrong_tool", "call"] * 2
    page = replies.wrong(whole)
    assert "27 of 28 replies after reward training are wrong; here are 24" in page
    assert page.count('class="case"') == 24 and "<summary>18 more</summary>" in page
    assert "call(city = &#x27;<del>Paris</del>&#x27;" in page
    assert "call(city = &#x27;<ins>Oslo</ins>&#x27;" in page and "other()" not in page
    assert "call: weather in Oslo?" in page


@pytest.mark.parametrize(
    ("record", "right"),
    [
        ({"cf": True, "category": "custom"}, True),
        ({"cf": False, "category": "all_right"}, False),
        ({"no_call": True}, True),
        ({"accuracy": True, "category": "all_right"}, True),
        ({"accuracy": False, "category": "wrong value"}, False),
    ],
)
def test_a_reply_is_wrong_by_its_last_level_or_its_category(tmp_path, record, right):
    write_rows(tmp_path / "results" / "before" / "own.replies.jsonl", [{"set": "own", **record}])
    run = results(tmp_path, {"before": {"own": 50}})
    assert (run.failures.wrong, run.failures.replies) == (0 if right else 1, 1)
    assert ("All 1 replies before are right." in replies.wrong(run)) == right


def test_tools_are_listed_the_worst_first_with_intervals(whole):
    page = replies.by_tool(whole)
    assert re.findall("<code>(.*?)</code>", page) == ["worst", "few", "call"]
    assert "own: 3 tools" in page and "82.0" in page and 'class="span"' in page


def test_best_and_worst_samples_have_their_difference_marked(whole):
    page = replies.sampled(whole)
    worst, best = page.split("<h3>Best</h3>")
    assert "reward -2.00" in worst and "reward 1.00" not in worst
    assert "reward 1.00" in best and "<del>Paris</del>" in best


def test_where_the_time_went_is_what_the_newest_row_has_added_up():
    rows = [
        {"step": 1, "time_s": 10.0, "seconds/compile": 6.0, "seconds/step": 1.0, "goodput": 0.1},
        {"step": 2, "time_s": 13.0, "seconds/compile": 6.0, "seconds/step": 3.0, "seconds/lost": 0},
        {"step": 3, "time_s": 14.0, "host_slowest_s": 0.5, "seconds/step": math.nan},
    ]
    assert speed.wall_parts(rows) == {"compiling": 6.0, "steps": 3.0}
    assert speed.wall_parts([{"step": 1}]) == {}


def test_memory_is_the_most_of_each_kind(tmp_path):
    rows = [
        {"stage": "reward", "step": step, "device_peak_gib": gib, "host_peak_bytes": 2**30}
        for step, gib in ((1, 3.5), (2, 7.25), (3, 1.0))
    ]
    write_rows(tmp_path / "metrics.jsonl", rows)
    page = speed.section(seen(tmp_path))
    assert "7.25" in page and "device peak" in page and "3.50" not in page and "1.00" in page


def test_the_funnel_goes_from_rows_to_trained_tokens(tmp_path):
    report = {
        "rows": 100,
        "bad_rows": 7,
        "removed": {"duplicate": 5, "contamination": 3},
        "trajectories": {"train": 80, "validation": 5},
        "turns": 200,
        "kept": 150,
        "verdicts": {"keep": 150, "error": 50},
        "tokens": {"train": 4000},
        "trained_tokens": {"train": 1000},
        "schema_repairs": {"type": 4},
        "sources": {"a": {"repairs": {"quoted arguments": 6}, "not_drawn": 2}, "b": 1},
    }
    write(tmp_path / "data" / "mae_report.json", report)
    page = re.sub("<[^>]*>", " ", funnel.section(seen(tmp_path)))
    for said in (
        *("read    100 (100.0 %)", "quarantined)    7 (7.0 %)", "duplicate    5 (5.0 %)"),
        *("overlap with evaluation sets    3 (3.0 %)", "not drawn    2 (2.0 %)"),
        *("to train on    80 (80.0 %)", "held out    5 (5.0 %)", "read them    10"),
        *("error    50 (25.0 %)", "trained    150 (75.0 %)", "trained    1,000 (25.0 %)"),
    ):
        assert re.sub(" +", " ", said) in re.sub(" +", " ", page), said


def test_a_page_does_not_grow_with_every_step(tmp_path):
    pages = []
    for steps in (1_000, 10_000):
        rows = [
            {"stage": "reward", "step": n, "reward_mean": n % 7 + (n == 500) * 90, "kl_k3": n / 9}
            | {"category/all_right": n / steps, "category/format_error": 1 - n / steps}
            | {"held_out_ts": 3, "held_out_pi": 2, "held_out_cf": n % 5}
            for n in range(1, steps + 1)
        ]
        rows += [{"stage": "supervised", "step": row["step"], "ce_loss": 1.0} for row in rows]
        write_rows(tmp_path / "metrics.jsonl", rows)
        pages.append(len(write_report(tmp_path).read_text()))
    assert pages[1] < 1.3 * pages[0] < 1_500_000
    points, heights = figures._thinned(*seen(tmp_path).series("reward", "reward_mean"))
    assert len(points) <= 602 and heights[list(points).index(500)] == max(heights) == 93
