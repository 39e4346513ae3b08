"""``report suites`` writes one page of the results of evaluations."""

import json

import pytest

from tl_jax.cli import report
from tl_jax.errors import ConfigError


def test_results_become_a_page_in_the_current_folder(console, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = {"suite": "tooleyes", "scores": {"format": 75.0}, "intervals": {}, "items": 4}
    (tmp_path / "a.json").write_text(json.dumps(result))
    report.show_plan(None, console, "suites", results=["ours=a.json"])
    assert not (tmp_path / "suites.html").exists()
    report.main(None, console, "suites", results=["ours=a.json"])
    assert "suites.html" in console.file.getvalue()
    page = (tmp_path / "suites.html").read_text("utf-8")
    assert "tooleyes" in page and "75.0" in page and "ours" in page


@pytest.mark.parametrize(("topic", "results"), [("suites", []), ("", ["a.json"]), ("gain", ["a"])])
def test_results_are_for_this_topic_and_needed_by_it(console, topic, results):
    runs = ["run"] if topic == "gain" else []
    with pytest.raises(ConfigError, match="--results=PATH,... is for `tl-jax report suites`"):
        report.main(None, console, topic, runs=runs, results=results)
