"""The installed command shows an example of the embedded world, its data prepared on the way."""

import re

from tl_jax.data.examples.shards import open_shards

from .test_run import settings, tl_jax


def test_inspect_prepares_and_shows_an_example(tmp_path):
    run, page = tmp_path / "run", tmp_path / "page.html"
    chosen = settings(run, data__synthetic_trajectories=20, key_tokens__mode="extended")
    shown = tl_jax("inspect", *chosen, "--example=2", f"--html={page}").stdout
    assert "prepared data" in shown and "\x1b" not in shown
    row = open_shards(run / "data" / "examples").example(1)
    trained = sum(weight > 0 for weight in row.weights)
    assert f"Example 2: {row.id}" in shown
    assert f"tokens: {len(row.ids):,}\n" in shown and f"trained tokens: {trained:,} (" in shown
    keys = sum(map(int, row.tags["key_tokens"].split(",")))
    assert shown.count("‹") == keys + 1  # one in the legend
    assert f"key tokens: {keys:,} (" in shown
    text = page.read_text(encoding="utf-8")
    assert text.count('class="key level') == keys + 5  # five in the legend
    assert not re.search(r"<script|src=|href=", text)
