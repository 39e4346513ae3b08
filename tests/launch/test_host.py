"""What a TPU VM does for itself: install, start the training as a service, note how it ended."""

import configparser
import shlex
import subprocess

import pytest
from launchers import ARGUMENTS, LAUNCH, ROOT, read_flags

METADATA = {
    "tl-jax-name": "first",
    "tl-jax-bucket": "my-bucket",
    "tl-jax-code": "gs://my-bucket/code/0123456789ab.tar.gz",
    "tl-jax-chip": "v5e",
    "tl-jax-restarts": "2",
    "tl-jax-arguments": "\n".join([*ARGUMENTS, "--config.data.path=/a b/$(c)'d'.jsonl"]),
}


@pytest.fixture
def vm(bench):
    """A TPU VM with the archive of the code in the bucket and everything installed already."""
    metadata = bench.place / "metadata"
    metadata.mkdir()
    for name, value in METADATA.items():
        (metadata / name).write_text(value)
    (bench.place / "etc/systemd/system").mkdir(parents=True)
    python = bench.place / "opt/tl_jax/venv/bin/python"
    python.parent.mkdir(parents=True)
    archive = bench.place / "code.tar.gz"
    subprocess.run(
        ["tar", "-czf", archive, "-C", ROOT, "launch", "tools/constraints.txt"], check=True
    )
    # The metadata server answers with the attribute that the address ends with.
    bench.replace("curl", 'for word; do :; done; cat "$DESTDIR/metadata/${word##*/}"')
    bench.replace("gcloud", f'cp {archive} "${{@: -1}}"')
    bench.replace("mountpoint")
    bench.replace("gcsfuse")
    bench.replace("journalctl", "echo the log")
    bench.replace("hostname", "echo host-0")
    bench.replace("systemctl", '[ "$1" != is-active ]')
    bench.replace("python")
    (bench.programs / "python").rename(python)
    return bench


def boot(vm):
    return vm.run("startup.sh", settings={"DESTDIR": str(vm.place)})


def host(vm, *words, **settings):
    """Call the copy of host.sh that a boot has fetched."""
    return subprocess.run(
        ["bash", str(vm.place / "opt/tl_jax/code/launch/host.sh"), *words],
        env=vm.environment(DESTDIR=str(vm.place), **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_boot_fetches_the_code_installs_it_and_starts_the_training(vm):
    place = vm.place / "opt/tl_jax"
    (place / "code").mkdir()
    (place / "code/of_an_earlier_run").touch()
    done = boot(vm)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (place / "code/of_an_earlier_run").exists()
    assert ["gcloud", "storage", "cp", METADATA["tl-jax-code"], f"{place}/code.tar.gz"] in vm.calls
    constraints = f"{place}/code/tools/constraints.txt"
    assert [
        *["python", "-m", "pip", "install", "--quiet", "--constraint", constraints],
        *["--editable", f"{place}/code[tpu]"],
    ] in vm.calls
    # Mounted already, so not mounted again.
    assert not [call for call in vm.calls if call[0] == "gcsfuse"]
    assert vm.calls[-2:] == [["systemctl", "daemon-reload"], ["systemctl", "start", "tl-jax"]]
    unit = vm.place / "etc/systemd/system/tl-jax.service"
    assert unit.read_text() == (LAUNCH / "tl-jax.service").read_text()


def test_the_service_runs_the_stages_with_the_arguments_and_flags(vm):
    assert boot(vm).returncode == 0
    vm.replace("tl-jax", 'env >"$CALLS.environment"')
    bash = ["bash", str(vm.place / "opt/tl_jax/run.sh")]
    done = subprocess.run(bash, env=vm.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    arguments = METADATA["tl-jax-arguments"].splitlines()
    assert vm.calls[-2:] == [["tl-jax", stage, *arguments] for stage in ("prepare", "train")]
    lines = (vm.place / "calls.environment").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    assert environment["TL_JAX_DISTRIBUTED"] == "1"
    assert environment["LIBTPU_INIT_ARGS"].split() == read_flags("v5e")
    assert environment["PATH"].startswith(f"{vm.place}/opt/tl_jax/venv/bin:")


def test_a_second_start_beside_a_running_training_is_refused(vm):
    assert boot(vm).returncode == 0
    vm.replace("systemctl")
    done = host(vm, "start", "first", "v5e", "2", *ARGUMENTS)
    assert done.returncode == 2 and "a training is running here" in done.stderr


# pip brings uv, and uv makes an environment; each is a copy of the program that brings it.
PIP = """\
if [ "${5:-}" = --target ]; then
    mkdir -p "$6/bin"
    cp "$0" "$6/bin/uv"
elif [ "$1" = venv ]; then
    mkdir -p "${@: -1}/bin"
    cp "$0" "${@: -1}/bin/python"
fi
"""


@pytest.mark.parametrize("left", ["nothing", "an environment without pip"])
def test_a_new_host_mounts_the_bucket_and_gets_its_own_python(vm, left):
    assert boot(vm).returncode == 0
    place = vm.place / "opt/tl_jax"
    (place / "venv/bin/python").unlink()
    if left != "nothing":
        vm.replace("python", "exit 1")
        (vm.programs / "python").rename(place / "venv/bin/python")
    vm.replace("mountpoint", "false")
    vm.replace("python3", PIP)
    hugepages = vm.place / "sys/kernel/mm/transparent_hugepage/enabled"
    hugepages.parent.mkdir(parents=True)
    hugepages.write_text("madvise\n")
    done = host(vm, "setup", "my-bucket")
    assert (done.returncode, done.stderr) == (0, "")
    assert hugepages.read_text() == "always\n"
    config = f"{place}/code/launch/gcsfuse.yaml"
    assert ["gcsfuse", "--config-file", config, "my-bucket", f"{vm.place}/mnt/tl_jax"] in vm.calls
    uv = next(call for call in vm.calls if call[0] == "uv")
    assert uv[1] == "venv" and "--clear" in uv and uv[-3:] == ["--python", "3.11", f"{place}/venv"]
    assert "--editable" in vm.calls[-1] and vm.calls[-1][0] == "python"


# Each program, and each copy under another name, fails two times before it does its work.
FAILING = """\
echo >>"$CALLS.tries.${0##*/}"
[ "$(wc -l <"$CALLS.tries.${0##*/}")" -gt 2 ] || exit 7
"""


def test_a_boot_tries_again_until_the_program_is_installed(vm):
    (vm.place / "opt/tl_jax/venv/bin/python").unlink()
    gcsfuse = (vm.programs / "gcsfuse").rename(vm.place / "gcsfuse")
    for directory in ("usr/share/keyrings", "etc/apt/sources.list.d"):
        (vm.place / directory).mkdir(parents=True)
    (vm.place / "metadata/cloud.google.asc").touch()
    vm.replace("apt-get", f'{FAILING}[ "$3" != install ] || cp {gcsfuse} {vm.programs}/gcsfuse')
    vm.replace("gcloud", f'{FAILING}cp {vm.place}/code.tar.gz "${{@: -1}}"')
    vm.replace("python3", FAILING + PIP)
    vm.replace("sleep")
    done = boot(vm)
    assert done.returncode == 0
    tries = {path.name.removeprefix("calls.tries.") for path in vm.place.glob("calls.tries.*")}
    assert tries == {"apt-get", "gcloud", "python3", "uv", "python"}
    sleeps = [call for call in vm.calls if call[0] == "sleep"]
    assert len(sleeps) >= 2 * 4 and all(call == ["sleep", "30"] for call in sleeps)
    failed = "the installation failed with status 7; trying again in 30 s"
    assert done.stderr.count(failed) == len(sleeps)
    assert vm.calls[-1] == ["systemctl", "start", "tl-jax"]


def test_an_installation_that_never_works_ends_and_says_so_in_the_bucket(vm):
    vm.replace("gcloud", '[[ "$3" != gs://*code* ]] || exit 9\ncp "$3" "$DESTDIR/${4##*/}"')
    vm.replace("sleep")
    done = boot(vm)
    assert done.returncode == 9
    assert "failed 60 times, at last with status 9" in done.stderr
    assert len([call for call in vm.calls if call[0] == "sleep"]) == 59
    sent = [call[-1] for call in vm.calls if call[0] == "gcloud"][-2:]
    name, bucket = METADATA["tl-jax-name"], METADATA["tl-jax-bucket"]
    assert sent == [f"gs://{bucket}/finished/{name}.host-0.log", f"gs://{bucket}/finished/{name}"]
    assert (vm.place / name).read_text() == "9\n"
    assert not [call for call in vm.calls if call[0] == "systemctl"]


@pytest.mark.parametrize(
    ("status", "final"), [("0", True), ("2", True), ("3", False), ("1", False)]
)
def test_a_final_status_is_noted_in_the_bucket_with_the_log(vm, status, final):
    assert boot(vm).returncode == 0
    assert host(vm, "record", EXIT_STATUS=status).returncode == 0
    finished = vm.place / "mnt/tl_jax/finished"
    if status not in ("0", "2"):
        assert not finished.exists()
        return
    assert (finished / "first").read_text() == f"{status}\n"
    assert (finished / "first.host-0.log").read_text() == "the log\n"


def test_a_training_that_fails_too_often_in_a_row_is_ended(vm):
    assert boot(vm).returncode == 0
    finished = vm.place / "mnt/tl_jax/finished"
    stop = ["systemctl", "stop", "--no-block", "tl-jax"]
    for status in ("1", "134", "3", "1", "ABRT"):
        assert host(vm, "record", EXIT_STATUS=status).returncode == 0
    assert not finished.exists() and stop not in vm.calls
    # A start by hand or at a boot counts anew.
    assert host(vm, "start", "first", "v5e", "2", *ARGUMENTS).returncode == 0
    for _ in range(2):
        assert host(vm, "record", EXIT_STATUS="1").returncode == 0
    assert not finished.exists() and stop not in vm.calls
    done = host(vm, "record", EXIT_STATUS="1")
    assert done.returncode == 0 and "failed 3 times in a row (MAX_RESTARTS=2)" in done.stdout
    assert (finished / "first").read_text() == "1\n"
    assert (finished / "first.host-0.log").read_text() == "the log\n"
    # Last, as the host may be gone afterwards.
    assert vm.calls[-1] == stop


def test_the_service_restarts_all_but_wrong_settings_and_lets_the_training_save():
    unit = configparser.ConfigParser(strict=True)
    unit.optionxform = str
    unit.read(LAUNCH / "tl-jax.service", encoding="utf-8")
    service = dict(unit["Service"])
    assert service["Restart"] == "on-failure" and service["RestartPreventExitStatus"] == "2"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    # A second SIGTERM would end the training without a checkpoint.
    assert service["KillMode"] == "mixed" and int(service["TimeoutStopSec"]) >= 120
    assert shlex.split(service["ExecStart"]) == ["/bin/bash", "/opt/tl_jax/run.sh"]
    assert service["ExecStopPost"].endswith("launch/host.sh record")


@pytest.mark.parametrize("words", [(), ("install",), ("setup",), ("start", "first", "v5e", "2")])
def test_half_a_command_is_refused(bench, words):
    done = bench.run("host.sh", *words, settings={"DESTDIR": str(bench.place)})
    assert done.returncode == 2 and "host.sh" in done.stderr and not bench.calls
