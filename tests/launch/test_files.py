"""Flag files, the example environment and the image hold what the launchers take from them."""

import importlib.metadata
import re
import subprocess
import tomllib

import pytest
from launchers import LAUNCH, ROOT, SETTINGS, read_flags

CHIPS = ("v5e", "v5p", "v6e", "tpu7x")


def test_there_is_a_flag_file_for_every_chip():
    assert {path.stem for path in (LAUNCH / "xla_flags").glob("*.txt")} == set(CHIPS)


@pytest.mark.parametrize("chip", CHIPS)
def test_every_flag_is_well_formed_set_once_and_has_its_source(chip):
    text = (LAUNCH / "xla_flags" / f"{chip}.txt").read_text(encoding="utf-8")
    names = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        flags = [line for line in lines if not line.startswith("#")]
        if not flags:
            continue
        # One flag, under a comment that says what it does and where it comes from.
        assert lines[-1:] == flags and len(lines) >= 3
        found = re.fullmatch(r"--(xla_[a-z0-9_]+)=(true|false|[0-9]+|[A-Z_]+)", flags[0])
        assert found, flags
        source = " ".join(line.removeprefix("# ") for line in lines[:-1]).split("Source: ")
        assert len(source) == 2 and len(source[0]) > 20, flags
        assert re.match(r"(MaxText, [A-Z_]+|recipe|github\.com/\S+)", source[1]), source[1]
        names.append(found[1])
    assert names and len(names) == len(set(names))
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("chip", CHIPS)
def test_the_shell_reads_the_same_flags(chip):
    shell = f'. {LAUNCH}/common.sh; read_flags "$LAUNCH_DIR/xla_flags/{chip}.txt"'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip("\n") == " ".join(read_flags(chip))


def variables():
    text = (LAUNCH / "env.example").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))


def test_the_example_environment_has_every_variable_that_a_launcher_names():
    named = set()
    for path in [*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")]:
        text = path.read_text(encoding="utf-8")
        for line in re.findall(r"\brequire(?:_label)? ([A-Z_ ]+)$", text, re.MULTILINE):
            named |= set(line.split())
        head = text.split("set -euo")[0]
        for sentence in re.findall(r"# Reads ([^(]*)\(", head):
            named |= set(re.findall(r"[A-Z_]{2,}", sentence))
    assert len(named) > 15
    assert named <= variables().keys() and SETTINGS.keys() <= variables().keys()


def test_the_example_environment_is_a_shell_file_without_values_of_somebody(tmp_path):
    shell = f"set -euo pipefail; set -a; . {LAUNCH}/env.example; env"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert "MAX_RESTARTS=100" in done.stdout.splitlines()
    filled = {name for name, value in variables().items() if value}
    defaults = {"SLICES", "POLL_SECONDS", "MAX_RESTARTS", "NAMESPACE", "CHIPS_PER_HOST"}
    assert filled == defaults | {"QUEUE", "VENV"}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked():
    text = (ROOT / "tools/constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {normal(line.split("==")[0]): line.split("==")[1] for line in lines}


def test_everything_that_the_image_installs_by_name_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["tpu"]]
    names = {normal(re.match(r"[\w.-]+", line)[0]) for line in wanted}
    assert names <= locked().keys()
    assert locked()["jax"] == locked()["jaxlib"]


def test_the_compiler_for_tpus_is_locked_to_the_series_that_the_locked_jax_asks_for():
    if importlib.metadata.version("jax") != locked()["jax"]:
        pytest.skip("another jax is installed, which asks for a compiler of its own")
    pins = [line for line in importlib.metadata.requires("jax") if line.startswith("libtpu")]
    (series,) = {re.match(r"libtpu==([\d.]+)\.\*", line)[1] for line in pins}
    assert locked()["libtpu"].startswith(f"{series}.")


def test_the_image_copies_files_that_exist_and_are_not_ignored():
    text = (LAUNCH / "Dockerfile").read_text(encoding="utf-8")
    copied = {
        word
        for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE)
        for word in line.split()[:-1]
    }
    kept = (LAUNCH / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert kept[0] == "*"
    for name in copied:
        assert (ROOT / name).exists(), name
        assert any(name == k[1:] or name.startswith(f"{k[1:]}/") for k in kept if k[0] == "!")
    # Manifests and XPK start launch/run_stages.sh in the working directory of the image.
    assert "WORKDIR /opt/tl_jax/code" in text and "COPY launch launch" in text
    assert "--constraint tools/constraints.txt" in text
