"""The report shows what the run directory holds, names what is missing, and trusts no text."""

import re
import shutil

import pytest
from browser import check_in_browser
from made_run import Words, make_run, result, summary, write, write_results, write_rows

from tl_jax.errors import ConfigError
from tl_jax.report import html, mae, read, run

EVIL = "<script>alert('x')</script><img src=x onerror=y>"


def test_the_report_shows_every_part_and_needs_no_network(tmp_path):
    make_run(tmp_path)
    path = run.write_report(tmp_path, Words("call"))
    assert path == tmp_path / "report.html"
    page = path.read_text()
    for shown in (
        "Training worked: right calls rose on 3 of 3 evaluation sets",
        "after reward training",
        "synthetic/unseen",
        "[92.0, 100.0]",
        "41.2",
        "800 of 1,000 assistant turns",
        "parameter missing",
        "examples, validation",
        "call(city=&#x27;<del>Paris</del>&#x27;",
        "call: weather in Oslo?",
        '<span class="key level4"',
        "812",
        "device_kind",
    ):
        assert shown in page, shown
    assert page.count("<img ") == 4
    assert 'class="absent"' not in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and "http://" not in page
    assert set(re.findall('href="#([^"]*)"', page)) == set(re.findall(' id="([^"]*)"', page))
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_foreign_text_cannot_become_markup(tmp_path):
    make_run(tmp_path, word=EVIL)
    page = run.write_report(tmp_path, Words(EVIL)).read_text()
    assert "<script" not in page and "<img src=x" not in page
    assert page.count("&lt;script&gt;") > 80
    assert "\x1b" not in page


def test_long_text_is_cut(tmp_path):
    make_run(tmp_path, word="w" * 100_000)
    page = run.write_report(tmp_path, Words("w" * 100_000)).read_text()
    assert "w" * 701 not in page and len(page) < 1_000_000


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
    page = run.write_report(tmp_path, Words("call")).read_text()
    absent = re.findall(r'class="absent">([^<]*)', page)
    assert absent and any(part.split("/")[-1] in line for line in absent)
    assert page.count("<section>") == 12


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
    assert page.count("<section>") == 11
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
    content["sets"]["rotbench/clean"] |= {"too_long": 83}
    content["sets"]["synthetic/seen"] |= {"too_long": 4, "tasks": 290}
    content["settings"] = {"max_prompt_length": 1024}
    write_results(tmp_path / "results" / "reward", content)
    page = run.write_report(tmp_path).read_text()
    assert "83 of 105 tasks of rotbench/clean are longer than config.evaluate" in page
    assert "4 of 290 tasks of synthetic/seen are longer" in page
    assert page.count("count as wrong; raise it.") == 2 and "(1024 tokens)" in page


def test_a_metric_that_is_missing_is_not_a_number(tmp_path):
    write(tmp_path / "results" / "reward" / "a.json", {"sets": {"a": {"items": 4}}})
    ((_, _, items, scores),) = run.results_rows(read.read_run(tmp_path))
    assert items == 4 and scores["cf"].percent != scores["cf"].percent


def test_scores_of_another_kind_than_ts_pi_and_cf_have_a_table(tmp_path):
    for phase, percent in (("before", 12.5), ("reward", 87.5)):
        content = {
            "suite": "bfcl",
            "sets": {"bfcl": {"items": 8, "tokens": 9, "seconds": 3.0}},
            "scores": {"multiple": percent, "non_live": 40.0, "ts": 1.0},
            "intervals": {"multiple": [10.0, 90.0]},
            "counts": {"multiple": [1, 8]},
        }
        write(tmp_path / "results" / phase / "bfcl.json", content)
    page = run.write_report(tmp_path).read_text()
    row = re.search("<td>bfcl: multiple</td>.*?</tr>", page)
    assert row and all(shown in row[0] for shown in (">8<", "12.5<", "87.5<", "10.0 to 90.0"))
    assert "<td>bfcl: non_live</td>" in page and "bfcl: ts" not in page
    assert run.results_rows(read.read_run(tmp_path)) == []


HUGE = ["1" + "0" * 400, "1e308", "-1e308", "NaN", "Infinity", "true"]


@pytest.mark.parametrize("value", HUGE)
def test_numbers_beyond_measure_are_shown_or_left_out(tmp_path, value):
    make_run(tmp_path)
    for name in ("metrics.jsonl", "samples.jsonl", "data/mae_report.json"):
        path = tmp_path / name
        text = re.sub(r'("(?!step")\w+": )-?\d[\d.e+-]*', rf"\g<1>{value}", path.read_text())
        path.write_text(text + ("[" * 100_000 if name.endswith("jsonl") else ""))
    page = run.write_report(tmp_path).read_text()
    assert page.count("<section>") == 12


def test_a_name_with_dollar_signs_is_no_formula(tmp_path):
    folder = tmp_path / "costs $a^$ and $"
    make_run(folder, word="$x_$ \ud83d")
    for path in (folder / "results").glob("*/*.json"):
        path.write_text(path.read_text().replace("synthetic/unseen", "synthetic/$_$"))
    page = run.write_report(folder).read_text()
    assert "costs $a^$ and $" in page and "$x_$ ?" in page


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


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_errors_or_horizontal_scroll(tmp_path, width):
    make_run(tmp_path, word="a_long_name_of_a_tool_in_a_long_catalogue_of_services")
    page = run.write_report(tmp_path, Words("call"))
    check_in_browser(page, width)
