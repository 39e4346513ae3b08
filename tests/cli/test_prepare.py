"""The counts of the prepared data are shown whatever words are in them."""

from tl_jax.cli import prepare
from tl_jax.cli.workspace import Workspace
from tl_jax.config import DataConfig, EvaluateConfig, PpoConfig, RunConfig


def test_reasons_from_the_data_are_shown_as_they_are(console):
    prepare._show({"rows": 1200, "reasons": {"error: [/error]": 3, "[bold]x": 1}}, console)
    shown = console.file.getvalue()
    assert "1,200" in shown and "error: [/error] 3, [bold]x 1" in " ".join(shown.split())


def test_only_the_commonest_entries_of_a_row_are_shown():
    counts = {str(number): number for number in range(1, 10)}
    assert prepare._commonest(counts) == "4 4, 5 5, 6 6, 7 7, 8 8, 9 9, and 3 more"
    assert prepare._commonest({"a": 1, "b": 5}) == "a 1, b 5"


def test_the_rows_of_every_source_are_shown(console):
    sources = {"a.jsonl": {"rows": 1200, "tokens": {"train": 9}}, "synthetic": {"rows": 7}}
    prepare._show({"sources": sources}, console)
    shown = " ".join(console.file.getvalue().split())
    assert "rows by source" in shown and "a.jsonl 1,200, synthetic 7" in shown


def test_the_context_of_a_model_from_scratch_holds_every_text_of_the_run():
    config = RunConfig(
        data=DataConfig(max_length=100),
        ppo=PpoConfig(max_prompt_length=300, max_new_tokens=5),
        evaluate=EvaluateConfig(max_prompt_length=200, max_new_tokens=50),
    )
    assert prepare.scratch_config(config, 300).max_position == 305


def test_other_processes_leave_the_files_to_the_first(tmp_path, console, monkeypatch):
    monkeypatch.setattr(prepare.processes, "is_first", lambda: False)
    prepare.main(Workspace(RunConfig(run_dir=str(tmp_path / "run"))), console)
    assert list(tmp_path.iterdir()) == [] and console.file.getvalue() == ""
