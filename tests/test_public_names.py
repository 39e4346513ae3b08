"""The public names: quick to import, each with an example that runs as printed."""

import contextlib
import doctest
import inspect
import io
import subprocess
import sys
from pathlib import Path

import pytest

import tl_jax as tl

ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for name in tl.__all__ if name != "__version__"]


def program(text):
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_is_imported_without_jax_in_a_moment():
    began = (
        "import sys, time; began = time.perf_counter(); import tl_jax;"
        "print(time.perf_counter() - began); "
        "assert not {'jax', 'numpy', 'transformers'} & set(sys.modules)"
    )
    # The best of three: other programs may be running.
    assert min(float(program(began)) for _ in range(3)) < 0.3


def test_names_without_a_model_need_no_jax():
    names = ["RunConfig", "ToolCall", "Trajectory", "parse_calls", "render_calls", "score"]
    names += ["classify_feedback", "key_token_weights", "Reward", "ToolSpec"]
    program(
        f"import sys, tl_jax\nfor name in {names}: getattr(tl_jax, name)\n"
        "assert 'jax' not in sys.modules"
    )


def test_every_name_is_listed_and_found():
    assert dir(tl) == sorted(tl.__all__)
    assert set(tl._HOMES) == set(NAMES)
    assert all(callable(getattr(tl, name)) for name in NAMES if name != "config")
    with pytest.raises(AttributeError, match="no attribute 'trains'"):
        _ = tl.trains


def test_the_function_and_the_room_of_evaluation_have_one_name():
    import tl_jax.evaluate.suites

    assert tl.evaluate is sys.modules["tl_jax.evaluate"]
    assert list(inspect.signature(tl.evaluate).parameters) == ["run", "phase"]
    assert tl.evaluate.suites.Suite is tl_jax.evaluate.suites.Suite


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_name_runs_as_printed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = inspect.getdoc(getattr(tl, name))
    assert ">>> import tl_jax as tl" in text, f"{name} has no example"
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        result = doctest.DocTestRunner(verbose=False).run(example)
    assert result.attempted > 1 and not result.failed, shown.getvalue()
