"""Hosts run the stages in order with the right place in the cluster, and stop in good order."""

import re
import shlex
import signal
import subprocess
import time

import pytest
from launchers import ARGUMENTS, LAUNCH, printed, read_flags

from tl_jax.cli.options import COMMANDS

# Record what a process of a cluster is told, by stage; do what the test wants.
TL_JAX = """\
env >"$CALLS.$1.${JAX_PROCESS_ID:-alone}"
"""


@pytest.fixture
def tl_jax(bench):
    bench.replace("tl-jax", TL_JAX)
    return bench


def environment_of(bench, stage, process="alone"):
    lines = (bench.place / f"calls.{stage}.{process}").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def wait_for(path, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def begin(bench, script, *words, **settings):
    return subprocess.Popen(
        # What a shell starts in the background ignores SIGINT, and so would all that this starts.
        ["env", "--default-signal=INT", "bash", str(LAUNCH / script), *words],
        env=bench.environment(**settings),
        cwd=bench.place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_stages_run_in_order_each_at_a_port_of_its_own(tl_jax):
    settings = {"JAX_COORDINATOR_ADDRESS": "host-0:4000"}
    assert tl_jax.run("run_stages.sh", *ARGUMENTS, settings=settings).returncode == 0
    assert tl_jax.calls == [["tl-jax", stage, *ARGUMENTS] for stage in ("prepare", "train")]
    for stage, port in (("prepare", 4000), ("train", 4001)):
        told = environment_of(tl_jax, stage)
        assert told["JAX_COORDINATOR_ADDRESS"] == f"host-0:{port}"
        assert "JAX_COORDINATOR_PORT" not in told


@pytest.mark.parametrize(
    "settings",
    [
        {"JAX_COORDINATOR_ADDRESS": "host-0"},
        {"JAX_COORDINATOR_ADDRESS": "host-0:"},
        {"JAX_COORDINATOR_ADDRESS": ":4000"},
        {"JAX_COORDINATOR_ADDRESS": "host-0:http"},
        {"JAX_COORDINATOR_PORT": "http"},
    ],
)
def test_a_coordinator_without_a_port_is_refused(tl_jax, settings):
    done = tl_jax.run("run_stages.sh", *ARGUMENTS, settings=settings)
    ((name, value),) = settings.items()
    assert done.returncode == 2 and f"{name}={value} must be" in done.stderr
    assert not tl_jax.calls


def test_where_jax_finds_the_coordinator_only_the_port_is_given(tl_jax):
    assert tl_jax.run("run_stages.sh", *ARGUMENTS, settings={}).returncode == 0
    for stage, port in (("prepare", "8482"), ("train", "8483")):
        told = environment_of(tl_jax, stage)
        assert told["JAX_COORDINATOR_PORT"] == port
        assert "JAX_COORDINATOR_ADDRESS" not in told and "LIBTPU_INIT_ARGS" not in told


def test_the_flags_of_the_chip_come_before_those_of_the_caller(tl_jax):
    own = "--xla_tpu_scoped_vmem_limit_kib=1024"
    settings = {"CHIP": "v6e", "LIBTPU_INIT_ARGS": own}
    words = ("--stages=train", *ARGUMENTS)
    assert tl_jax.run("run_stages.sh", *words, settings=settings).returncode == 0
    assert tl_jax.calls == [["tl-jax", "train", *ARGUMENTS]]
    flags = environment_of(tl_jax, "train")["LIBTPU_INIT_ARGS"].split()
    assert flags == [*read_flags("v6e"), own]


def test_no_stage_is_refused(tl_jax):
    done = tl_jax.run("run_stages.sh", "--stages=", *ARGUMENTS, settings={})
    assert done.returncode == 2 and "names no stage" in done.stderr and not tl_jax.calls


def test_a_misspelt_stage_is_refused_before_the_first_begins(tl_jax):
    for names in ("prepare,trian", "prepare,,train", "generate", "prepare train"):
        done = tl_jax.run("run_stages.sh", f"--stages={names}", *ARGUMENTS, settings={})
        assert done.returncode == 2 and f"--stages={names}: no stage " in done.stderr
        assert not tl_jax.calls
    stages = [command for command in COMMANDS if command != "generate"]
    words = (f"--stages={','.join(stages)}", *ARGUMENTS)
    assert tl_jax.run("run_stages.sh", *words, settings={}).returncode == 0
    assert [call[1] for call in tl_jax.calls] == stages


def test_an_unknown_chip_is_refused(tl_jax):
    done = tl_jax.run("run_stages.sh", *ARGUMENTS, settings={"CHIP": "v9"})
    assert done.returncode == 2 and "no flag file" in done.stderr and not tl_jax.calls


@pytest.mark.parametrize("status", [1, 2, 3])
@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_the_status_of_a_stage_that_fails_is_the_status(tl_jax, stage, status):
    tl_jax.replace("tl-jax", f'[ "$1" != {stage} ] || exit {status}')
    assert tl_jax.run("run_stages.sh", *ARGUMENTS, settings={}).returncode == status
    stages = ["prepare"] if stage == "prepare" else ["prepare", "train"]
    assert [call[1] for call in tl_jax.calls] == stages


def test_a_stop_while_preparing_keeps_the_training_from_starting(tl_jax):
    tl_jax.replace("tl-jax", 'touch "$CALLS.began"; sleep 1')
    process = begin(tl_jax, "run_stages.sh", *ARGUMENTS)
    wait_for(tl_jax.place / "calls.began")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 3
    assert [call[1] for call in tl_jax.calls] == ["prepare"]


# Like tl-jax: the first SIGTERM saves and ends with 3, a second one kills.
SAVES = """\
trap 'echo x >>"$CALLS.terms.${JAX_PROCESS_ID:-alone}"; trap - TERM; sleep 0.5; exit 3' TERM
touch "$CALLS.began.$1.${JAX_PROCESS_ID:-alone}"
[ "$1" = prepare ] || while true; do sleep 0.05; done
"""


def test_a_stop_while_training_reaches_the_training_itself_once(tl_jax):
    tl_jax.replace("tl-jax", SAVES)
    process = begin(tl_jax, "run_stages.sh", *ARGUMENTS)
    wait_for(tl_jax.place / "calls.began.train.alone")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 3
    assert (tl_jax.place / "calls.terms.alone").read_text() == "x\n"


LOCAL = {"VIRTUAL_ENV": "set, so that the replaced tl-jax is taken"}


def test_a_pod_in_miniature_tells_every_process_its_place(tl_jax):
    words = ("--processes=3", "--devices=2", "--logs=logs", "--", *ARGUMENTS)
    done = tl_jax.run("local_multiprocess.sh", *words, settings=LOCAL)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(tl_jax.calls) == sorted(
        ["tl-jax", stage, *ARGUMENTS] for stage in ("prepare", "train") for _ in range(3)
    )
    addresses = set()
    for index in range(3):
        told = environment_of(tl_jax, "prepare", index)
        assert (told["JAX_PLATFORMS"], told["JAX_NUM_CPU_DEVICES"]) == ("cpu", "2")
        assert (told["JAX_NUM_PROCESSES"], told["JAX_PROCESS_ID"]) == ("3", str(index))
        addresses.add(told["JAX_COORDINATOR_ADDRESS"])
    (address,) = addresses
    assert re.fullmatch(r"127\.0\.0\.1:[0-9]{5}", address)
    assert done.stdout.splitlines()[-1] == ("clean up: rm -- logs/process_1.log logs/process_2.log")
    assert {path.name for path in (tl_jax.place / "logs").iterdir()} == {
        "process_1.log",
        "process_2.log",
    }


def test_the_clean_up_of_one_process_names_no_files_of_others(tl_jax):
    (tl_jax.place / "logs").mkdir()
    (tl_jax.place / "logs/process_1.log").write_text("of another run")
    words = ("--processes=1", "--logs=logs", "--", *ARGUMENTS)
    done = tl_jax.run("local_multiprocess.sh", *words, settings=LOCAL)
    assert (done.returncode, done.stderr) == (0, "")
    assert "clean up" not in done.stdout


def test_a_dry_run_prints_the_processes_and_starts_none(tl_jax):
    words = ("--dry-run", "--processes=2", "--", *ARGUMENTS, "--a=b c")
    done = tl_jax.run("local_multiprocess.sh", *words, settings={**LOCAL, "PORT": "4000"})
    assert (done.returncode, done.stderr) == (0, "")
    assert not tl_jax.calls and not (tl_jax.place / "runs").exists()
    stages = [str(LAUNCH / "run_stages.sh"), *ARGUMENTS, "--a=b c"]
    assert printed(done.stdout) == [
        [
            *["env", "JAX_PLATFORMS=cpu", "JAX_NUM_CPU_DEVICES=1"],
            *["JAX_COORDINATOR_ADDRESS=127.0.0.1:4000", "JAX_NUM_PROCESSES=2"],
            *[f"JAX_PROCESS_ID={index}", "bash", *stages],
        ]
        for index in range(2)
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_reaches_every_process_once(tl_jax, number):
    tl_jax.replace("tl-jax", SAVES)
    process = begin(tl_jax, "local_multiprocess.sh", "--processes=2", "--", *ARGUMENTS, **LOCAL)
    for index in range(2):
        wait_for(tl_jax.place / f"calls.began.train.{index}")
    process.send_signal(number)
    assert process.wait(60) == 3
    for index in range(2):
        assert (tl_jax.place / f"calls.terms.{index}").read_text() == "x\n"


def test_peers_of_a_process_that_failed_do_not_wait_for_it(tl_jax):
    tl_jax.replace("tl-jax", '[ "$JAX_PROCESS_ID" = 0 ] || exit 2\n' + SAVES)
    words = ("--processes=2", "--", "--stages=train", *ARGUMENTS)
    done = tl_jax.run("local_multiprocess.sh", *words, settings=LOCAL)
    assert done.returncode == 2
    assert "process 1 ended with status 2" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--processes=0", "--", *ARGUMENTS), "--processes=0 must be a positive number"),
        (("--devices=two", "--", *ARGUMENTS), "--devices=two must be a positive number"),
        (("--processes=2",), "give the configuration"),
        (("--procs=2", "--", *ARGUMENTS), "unknown option --procs=2"),
    ],
)
def test_a_wrong_request_starts_nothing(tl_jax, words, message):
    done = tl_jax.run("local_multiprocess.sh", *words, settings=LOCAL)
    assert done.returncode == 2 and message in done.stderr and not tl_jax.calls


@pytest.fixture
def slurm(bench):
    """A checkout on a Slurm cluster whose step ends with the status in ``calls.status``."""
    (bench.place / "launch").symlink_to(LAUNCH)
    (bench.place / "venv/bin").mkdir(parents=True)
    bench.replace("tl-jax")
    (bench.programs / "tl-jax").rename(bench.place / "venv/bin/tl-jax")
    bench.replace("srun", 'env >"$CALLS.step"; exit "$(cat "$CALLS.status")"')
    bench.replace("scontrol")
    return bench


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_a_slurm_job_queues_itself_again_only_when_its_state_was_saved(slurm, status):
    (slurm.place / "calls.status").write_text(str(status))
    settings = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(slurm.place), "VENV": "venv"}
    done = slurm.run("slurm_gpu.sbatch", "--", *ARGUMENTS, settings=settings, cwd="/")
    assert done.returncode == status
    step = ["srun", "--kill-on-bad-exit=0", "bash", "launch/run_stages.sh", *ARGUMENTS]
    again = [["scontrol", "requeue", "7"]] if status == 3 else []
    assert slurm.calls == [step, *again]
    assert "clean up: scancel 7" in done.stdout.splitlines()


def environment_of_a_step(slurm, **settings):
    (slurm.place / "calls.status").write_text("0")
    settings = {"SLURM_SUBMIT_DIR": str(slurm.place), "VENV": "venv", **settings}
    done = slurm.run("slurm_gpu.sbatch", "--", *ARGUMENTS, settings=settings)
    assert (done.returncode, done.stderr) == (0, "")
    lines = (slurm.place / "calls.step").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_slurm_jobs_that_share_a_node_have_no_port_in_common(slurm):
    taken = set()
    for job in ("4711", "4712", "4713", "5999"):
        first = int(environment_of_a_step(slurm, SLURM_JOB_ID=job)["JAX_COORDINATOR_PORT"])
        ports = set(range(first, first + len(COMMANDS)))
        assert not taken & ports
        taken |= ports
    # Neither ports of the system nor those that Linux gives to connections.
    assert min(taken) >= 1024 and max(taken) < 32768
    own = environment_of_a_step(slurm, SLURM_JOB_ID="4711", JAX_COORDINATOR_PORT="9000")
    assert own["JAX_COORDINATOR_PORT"] == "9000"


def test_the_step_of_a_slurm_job_gets_the_cpus_of_the_job(slurm):
    told = environment_of_a_step(slurm, SLURM_JOB_ID="7", SLURM_CPUS_PER_TASK="12")
    assert told["SRUN_CPUS_PER_TASK"] == "12"


def test_a_dry_run_of_a_slurm_job_prints_the_step(slurm):
    done = slurm.run("slurm_gpu.sbatch", "--dry-run", "--", *ARGUMENTS, settings={})
    assert (done.returncode, done.stderr) == (0, "")
    step = ["srun", "--kill-on-bad-exit=0", "bash", "launch/run_stages.sh", *ARGUMENTS]
    assert printed(done.stdout) == [step] and not slurm.calls


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (("--", *ARGUMENTS), {"VENV": "nowhere"}, "VENV=nowhere has no bin/tl-jax"),
        ((), {"VENV": "venv"}, "give the configuration"),
        (("--", *ARGUMENTS), {"SLURM_SUBMIT_DIR": "/"}, "submit from the root of the checkout"),
    ],
)
def test_a_slurm_job_that_cannot_run_says_why(slurm, words, settings, message):
    done = slurm.run("slurm_gpu.sbatch", *words, settings=settings)
    assert done.returncode == 2 and message in done.stderr and not slurm.calls


def test_slurm_warns_the_processes_and_may_requeue():
    text = (LAUNCH / "slurm_gpu.sbatch").read_text(encoding="utf-8")
    options = [shlex.split(line)[1] for line in text.splitlines() if line.startswith("#SBATCH ")]
    # Without "B:" the signal goes to the steps, where the training saves, not to the script.
    assert "--signal=TERM@120" in options and "--requeue" in options
    # Requeued jobs go on in the same log.
    assert "--open-mode=append" in options
