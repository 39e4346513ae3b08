"""The page of evaluation results: side by side, by noise, escaped, and readable on a phone."""

import json
import re
import shutil

import pytest
from browser import check_in_browser

from tl_jax.errors import ConfigError
from tl_jax.report.suites import read_results, write_suites

EVIL = "<script>alert(1)</script>"


def result(cf, **changes):
    return {
        "suite": "bfcl/executable",
        "scores": {"cf": cf, f"{EVIL}/cf": 10.0, "mean": 50.0},
        "intervals": {"cf": [cf - 5, cf + 5]},
        "counts": {"cf": [1, 240]},
        "version": EVIL,
        "style": "python",
        "noise": "clean",
        "note": "Not all is scored. " + EVIL,
    } | changes


@pytest.fixture
def page(tmp_path):
    """The page of a base, a model of two noise levels, and one of another suite."""
    (tmp_path / "ours").mkdir()
    files = {
        "base.json": result(60.0),
        "ours/clean.json": result(72.5),
        "ours/tools.json": result(90.0, suite="tooleyes"),
        "noisy.json": result(41.25, noise="union"),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    entries = [f"{tmp_path}/base.json", f"ours={tmp_path}/ours", f"ours={tmp_path}/noisy.json"]
    return write_suites(read_results(entries), tmp_path / "suites.html")


def rows(page, heading):
    text = page.read_text("utf-8")
    table = text[text.index(heading) :].partition("</table>")[0]
    return [re.sub(r"<[^>]*>", " ", row).split() for row in table.split("<tr>")[1:]]


def test_systems_stand_side_by_side_with_intervals_and_the_difference(page):
    head, cf, *_ = rows(page, ">bfcl/executable</h2>")
    assert head == ["score", "items", "base", "ours"]
    assert cf == "cf 240 60.0 55.0 to 65.0 72.5 67.5 to 77.5 (+12.5)".split()


def test_noise_levels_of_a_system_stand_side_by_side_the_clean_one_first(page):
    head, cf, *_ = rows(page, "<h3>ours, by noise")
    assert head == ["score", "items", "clean", "union"]
    assert cf[-1] == "(-31.2)" and cf[2] == "72.5"


def test_each_suite_has_its_section_its_note_and_what_scores_shift_with(page):
    text = page.read_text("utf-8")
    assert text.count("<section>") == 2
    assert "Not all is scored." in text and "What was scored" in text


def test_whatever_comes_from_results_is_escaped(page):
    text = page.read_text("utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no file"), ("{}", "no scores"), ('{"scores": {"cf": "high"}}', "no result")],
)
def test_what_is_no_result_is_refused_by_name(tmp_path, content, says):
    path = tmp_path / "broken.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=says) as error:
        read_results([str(path)])
    assert "broken.json" in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_errors_or_horizontal_scroll(page, width):
    check_in_browser(page, width)
