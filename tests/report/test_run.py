"""The report shows what the run directory holds, names what is missing, and trusts no text."""

import json
import random
import re
import shutil

import pytest

from tl_jax.data.examples.build import Example
from tl_jax.data.examples.shards import write_examples
from tl_jax.errors import ConfigError
from tl_jax.report import html, mae, read, run
from tl_jax.rewards import taxonomy

SETS = {"synthetic/seen": 200, "synthetic/unseen": 80, "rotbench/clean": 105}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def summary(items, base):
    entry = {"items": items}
    for metric, loss in (("ts", 0), ("pi", 6), ("cf", 15)):
        mean = max(base - loss, 1.0)
        entry[metric] = {"percent": mean, "low": max(mean - 5, 0), "high": min(mean + 4, 100)}
    return entry


def result(name, base):
    sets = {}
    for number, (key, count) in enumerate(SETS.items()):
        sets[key] = summary(count, base - 14 * number)
        if key.startswith("synthetic"):
            parts = {"finish": count // 4, "service": count // 2}
            sets[key]["groups"] = {n: summary(c, base - 14 * number - 2) for n, c in parts.items()}
    sets["rotbench/clean (released rule)"] = summary(105, base - 30)
    for entry in sets.values():
        entry |= {"tokens": 1625, "seconds": 2.0}
    return {"name": name, "sets": sets}


def write_results(folder, content):
    """Write one file a suite, in another order of names than that of tables."""
    for position, suite in enumerate(SETS):
        sets = {name: entry for name, entry in content["sets"].items() if name.startswith(suite)}
        write(
            folder / f"{suite.replace('/', '-')}.json",
            {**content, "position": position, "sets": sets},
        )


def make_run(path, word="call"):
    """Write a made-up run; ``word`` is put wherever a run may hold foreign text."""
    rng = random.Random(0)
    write(path / "config.json", {"seed": 0, "model": {"path": word}, "data": {"path": "synthetic"}})
    write(path / "versions.json", {"python": "3.11", "device_kind": word, "packages": {"jax": "1"}})
    for name, base in (("before", 3), ("supervised", 93), ("reward", 97)):
        write_results(path / "results" / name, result(name, base))
    rows = []
    for step in range(1, 201):
        loss = 0.25 + 4 / (1 + step / 12) + rng.gauss(0, 0.06)
        row = {"stage": "supervised", "step": step, "time_s": 1e9 + step, "loss": loss}
        row |= {"ce_loss": loss, "tokens_per_s": 9000 + rng.gauss(0, 200), "skipped": 0}
        if step % 40 == 0:
            row["validation_loss"] = loss + 0.05
        rows.append(row)
    for step in range(1, 31):
        wrong = 0.5 / (1 + step / 9)
        shares = [wrong * share for share in (0.05, 0.03, 0.02, 0.12, 0.2, 0.08, 0.1, 0.1, 0.3)]
        shares.append(1 - sum(shares))
        row = {"stage": "reward", "step": step, "time_s": 2e9 + 3 * step}
        row |= {"reward_mean": 1 - 1.6 * wrong + rng.gauss(0, 0.05), "kl_k3": step / 900}
        row |= {f"category/{n}": s for n, s in zip(taxonomy.CATEGORIES, shares, strict=True)}
        rows.append(row | {"tokens_per_s": 700.0, "entropy": None})
    write_rows(path / "metrics.jsonl", rows)
    samples = [
        {
            "stage": "reward",
            "step": step,
            "prompt_id": f"{word}-{step % 20}",
            "sampled": f" {word}(city='Paris', days={step})",
            "gold": f"{word}(city='Lyon', days={step})",
            "category": rng.choice(taxonomy.CATEGORIES),
            "reward": rng.choice([-2.0, -1.5, -0.5, -0.25, 1.0]),
            "advantage": rng.gauss(0, 1),
        }
        for step in range(1, 31)
        for _ in range(4)
    ]
    write_rows(path / "samples.jsonl", samples)
    counts = {"turns": 1000, "kept": 800, "rows": 260, "examples": {"train": 780, "validation": 20}}
    counts["verdicts"] = {"keep": 800, "error": 170, "no_feedback": 30}
    counts["reasons"] = {f"error: {word}": 120, "error: status given": 50, "no_feedback": 30}
    counts["categories"] = {"service": 60, "parameter_missing": 50, "content_filling": 40}
    counts["categories"] |= {"tool_hallucination": 20}
    counts["calls"] = {"all_right": 700, "nothing_found": 60, "no_feedback": 70}
    counts["calls"] |= counts["categories"]
    write(path / "data" / "mae_report.json", counts)
    example = Example("a", [1, 2, 3, 4], [0.0, 1.0, 1.0, rng.choice([3.5, 9.0])], {})
    write_examples(path / "data" / "examples", [example] * 50)


def test_the_report_shows_every_part_and_needs_no_network(tmp_path):
    make_run(tmp_path)
    path = run.write_report(tmp_path)
    assert path == tmp_path / "report.html"
    page = path.read_text()
    for shown in (
        "after reward training",
        "synthetic/unseen",
        "[92.0, 100.0]",
        "800 of 1,000 assistant turns",
        "parameter missing",
        "examples, validation",
        "call(city=&#x27;Paris&#x27;",
        "812",
        "device_kind",
    ):
        assert shown in page, shown
    assert page.count("<img ") == 5
    assert 'class="absent"' not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "http://" not in page
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_foreign_text_cannot_become_markup(tmp_path):
    make_run(tmp_path, word="<script>alert('x')</script><img src=x onerror=y>")
    page = run.write_report(tmp_path).read_text()
    assert "<script" not in page and "<img src=x" not in page
    assert "&lt;script&gt;" in page


def test_long_text_is_cut(tmp_path):
    make_run(tmp_path, word="w" * 100_000)
    page = run.write_report(tmp_path).read_text()
    assert "w" * 301 not in page


PARTS = [
    "config.json",
    "versions.json",
    "metrics.jsonl",
    "samples.jsonl",
    "data/mae_report.json",
    "data/examples",
    "results/before",
]


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named_and_the_rest_is_shown(tmp_path, part):
    make_run(tmp_path)
    shutil.rmtree(tmp_path / part) if "." not in part else (tmp_path / part).unlink()
    page = run.write_report(tmp_path).read_text()
    absent = re.findall(r'class="absent">([^<]*)', page)
    assert absent and any(part.split("/")[-1] in line for line in absent)
    assert page.count("<section>") == 7


GARBLED = [
    "",
    "{",
    "[]",
    '{"sets": {"a": 1}, "turns": 1, "step": 1, "stage": "reward", "reward": 0}',
]


@pytest.mark.parametrize("content", GARBLED)
def test_an_empty_or_garbled_run_still_gives_a_report(tmp_path, content):
    for part in PARTS:
        path = tmp_path / part if "." in part else tmp_path / part / "suite.json"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(content)
    page = run.write_report(tmp_path).read_text()
    assert page.count("<section>") == 7
    assert (tmp_path / "report.png").exists()


def test_no_run_directory_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no such run directory"):
        run.write_report(tmp_path / "none")


def test_service_calls_come_before_all_turns_of_their_set(tmp_path):
    write_results(tmp_path / "results" / "reward", result("reward", 97))
    found = {name: rest for name, *rest in run.results_rows(read.read_run(tmp_path))}
    assert list(found) == [
        "synthetic/seen: service calls",
        "synthetic/seen: all turns",
        "synthetic/unseen: service calls",
        "synthetic/unseen: all turns",
        "rotbench/clean",
        "rotbench/clean (released rule)",
    ]
    phase, items, scores = found["synthetic/seen: service calls"]
    assert (phase, items) == ("after reward training", 100)
    assert scores["ts"] == read.Score(95, 90, 99)
    assert found["synthetic/seen: all turns"][1:][0] == 200
    assert [name for name in found if read.is_headline(name)] == [
        "synthetic/seen: service calls",
        "synthetic/unseen: service calls",
        "rotbench/clean",
    ]


def test_results_that_an_earlier_version_wrote_into_one_file_are_read(tmp_path):
    write(tmp_path / "results" / "evaluate_reward.json", result("reward", 97))
    earlier = run.results_rows(read.read_run(tmp_path))
    write_results(tmp_path / "new" / "results" / "reward", result("reward", 97))
    assert earlier == run.results_rows(read.read_run(tmp_path / "new"))
    write_results(tmp_path / "results" / "reward", result("reward", 50))
    assert earlier != run.results_rows(read.read_run(tmp_path)), "new results take their place"


def test_the_speed_of_an_evaluation_is_that_of_all_its_sets(tmp_path):
    for name, tokens, seconds in (("a", 100, 1.0), ("b", 100, 3.0)):
        sets = {name: {**summary(4, 50), "tokens": tokens, "seconds": seconds}}
        write(tmp_path / "results" / "reward" / f"{name}.json", {"sets": sets})
    assert read.read_run(tmp_path).tokens_per_s == {"reward": 50.0}


def test_tasks_that_were_too_long_to_be_asked_are_told(tmp_path):
    content = result("reward", 97)
    content["sets"]["rotbench/clean"]["too_long"] = 83
    content["settings"] = {"max_prompt_length": 1024}
    write_results(tmp_path / "results" / "reward", content)
    page = run.write_report(tmp_path).read_text()
    assert "83 of 105 tasks of rotbench/clean are longer than config.evaluate" in page
    assert page.count("count as wrong; raise it.") == 1 and "(1024 tokens)" in page


def test_a_metric_that_is_missing_is_not_a_number(tmp_path):
    write(tmp_path / "results" / "reward" / "a.json", {"sets": {"a": {"items": 4}}})
    ((_, _, items, scores),) = run.results_rows(read.read_run(tmp_path))
    assert items == 4 and scores["cf"].percent != scores["cf"].percent


def test_samples_are_the_worst_of_each_prompt_and_the_latest_of_equals(tmp_path):
    rows = [
        {"step": 1, "prompt_id": "a", "reward": -2.0},
        {"step": 5, "prompt_id": "a", "reward": -2.0},
        {"step": 6, "prompt_id": "a", "reward": 1.0},
        {"step": 2, "prompt_id": "b", "reward": -0.5},
        {"step": 9, "prompt_id": "c", "reward": -2.0},
    ]
    write_rows(tmp_path / "samples.jsonl", rows)
    found = [(row["prompt_id"], row["step"]) for row in read.read_run(tmp_path).samples]
    assert found == [("c", 9), ("a", 5), ("b", 2)]


def test_error_table_adds_up_and_puts_errors_first(tmp_path):
    make_run(tmp_path)
    report = read.read_json(tmp_path / "data" / "mae_report.json")
    rows = mae.category_rows(report)
    assert sum(count for _, count, _ in rows) == 1000
    assert [name for name, _, _ in rows] == [
        "tool hallucination",
        "parameter missing",
        "content filling",
        "service failed",
        "nothing found",
        "no feedback recorded",
        "all right",
    ]
    assert rows[3] == ("service failed", 60, 6.0)
    assert mae.error_share(report) == pytest.approx(17)
    assert mae.category_rows({}) == [] and mae.error_share({}) == 0


def test_the_chart_of_errors_is_a_picture(tmp_path):
    make_run(tmp_path)
    report = read.read_json(tmp_path / "data" / "mae_report.json")
    mae.write_chart(report, tmp_path / "mae.png", "errors")
    assert (tmp_path / "mae.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_run_gives_the_same_bytes(tmp_path):
    make_run(tmp_path)
    first = run.write_report(tmp_path).read_bytes()
    assert run.write_report(tmp_path).read_bytes() == first


def test_cells_escape_quotes_and_cut_in_the_middle():
    assert html.text("\"'<&>") == "&quot;&#x27;&lt;&amp;&gt;"
    assert html.text("a" * 50 + "b" * 50, 20) == "a" * 8 + " … " + "b" * 8
    assert html.number(float("nan")) == "–"
