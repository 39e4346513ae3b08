"""The launchers of the cloud call exactly these commands, and --dry-run prints exactly them."""

import shlex
import subprocess

import pytest
from launchers import ARGUMENTS, REVISION, ROOT, SETTINGS, printed

PLACE = ["--project=my-project", "--zone=us-west4-a"]
CODE = f"gs://my-bucket/code/{REVISION}.tar.gz"
ARCHIVE = f"build/launch/{REVISION}.tar.gz"
UPLOAD = ["gcloud", "storage", "cp", ARCHIVE, CODE, "--project=my-project"]
TPUS = ["gcloud", "compute", "tpus"]
SSH = [*TPUS, "tpu-vm", "ssh", "first", *PLACE]
DELETE_VM = [*TPUS, "tpu-vm", "delete", "first", *PLACE]
DELETE_REQUEST = [*TPUS, "queued-resources", "delete", "first", *PLACE, "--force", "--quiet"]
METADATA = [
    f"--metadata=tl-jax-name=first,tl-jax-bucket=my-bucket,tl-jax-code={CODE},tl-jax-chip=v5e,"
    "tl-jax-restarts=100",
    "--metadata-from-file=startup-script=launch/startup.sh,"
    "tl-jax-arguments=build/launch/first.arguments",
]
REQUEST = [
    *[*TPUS, "queued-resources", "create", "first", *PLACE],
    *["--accelerator-type=v5litepod-256", "--runtime-version=v2-alpha-tpuv5-lite"],
]
FORGET = ["gcloud", "storage", "rm", "gs://my-bucket/finished/first", "--project=my-project"]
STATE = [*TPUS, "queued-resources", "describe", "first", *PLACE, "--format=value(state.state)"]
DELETE_WORKLOAD = ["xpk", "workload", "delete", "--workload=first", "--cluster=my-cluster", *PLACE]
FIRST_POD = (
    "--selector=jobset.sigs.k8s.io/jobset-name=first,jobset.sigs.k8s.io/job-index=0,"
    "batch.kubernetes.io/job-completion-index=0"
)
DELETE_JOBSET = [
    *["kubectl", "delete", "jobset", "first", "--namespace=default", "--ignore-not-found"]
]
XPK = [
    *["xpk", "workload", "create", "--workload=first", "--cluster=my-cluster", *PLACE],
    *["--tpu-type=v5litepod-256", "--num-slices=1", f"--docker-image={SETTINGS['IMAGE']}"],
    *["--storage=my-storage", "--env=CHIP=v5e", "--max-restarts=100"],
    *["--restart-on-exit-codes=1,3", "--termination-grace-period-seconds=300"],
    f"--command=exec bash launch/run_stages.sh {' '.join(ARGUMENTS)}",
]
SETUP = (
    'set -e; case "$(systemctl is-active tl-jax)" in active | *ing) '
    "echo 'a training is running here; stop it first (tpu_vm.sh stop)' >&2; exit 2 ;; esac; "
    "sudo rm -rf /opt/tl_jax/code; sudo mkdir -p /opt/tl_jax/code; "
    f"gcloud storage cp {CODE} /tmp/tl_jax.tar.gz; "
    "sudo tar -xzf /tmp/tl_jax.tar.gz -C /opt/tl_jax/code; "
    "sudo bash /opt/tl_jax/code/launch/host.sh setup my-bucket"
)

# Script, action, changed settings, commands, clean-up.
GOLDEN = {
    "tpu_vm create": (
        {},
        [
            [*TPUS, "tpu-vm", "create", "first", *PLACE]
            + ["--accelerator-type=v5litepod-256", "--version=v2-alpha-tpuv5-lite"]
        ],
        DELETE_VM,
    ),
    "tpu_vm create, spot": (
        {"SPOT": "1"},
        [
            [*TPUS, "tpu-vm", "create", "first", *PLACE]
            + ["--accelerator-type=v5litepod-256", "--version=v2-alpha-tpuv5-lite", "--spot"]
        ],
        DELETE_VM,
    ),
    "tpu_vm setup": ({}, [UPLOAD, [*SSH, "--worker=all", f"--command={SETUP}"]], DELETE_VM),
    "tpu_vm run": (
        {"MAX_RESTARTS": "7"},
        [
            [*SSH, "--worker=all"]
            + [
                "--command=sudo bash /opt/tl_jax/code/launch/host.sh start first v5e 7 "
                + " ".join(ARGUMENTS)
            ]
        ],
        DELETE_VM,
    ),
    "tpu_vm status": (
        {},
        [
            [*TPUS, "tpu-vm", "describe", "first", *PLACE, "--format=value(state)"],
            [*SSH, "--worker=all", "--command=systemctl is-active tl-jax || true"],
        ],
        DELETE_VM,
    ),
    "tpu_vm logs": (
        {},
        [[*SSH, "--worker=0"] + ["--command=sudo journalctl --unit=tl-jax --lines=100 --follow"]],
        DELETE_VM,
    ),
    "tpu_vm stop": (
        {},
        [[*SSH, "--worker=all", "--command=sudo systemctl stop tl-jax"]],
        DELETE_VM,
    ),
    "tpu_vm delete": ({}, [DELETE_VM], DELETE_VM),
    "queued_resource create": (
        {},
        [UPLOAD, FORGET, [*REQUEST, "--node-id=first", *METADATA]],
        DELETE_REQUEST,
    ),
    "queued_resource create, two spot slices": (
        {"SLICES": "2", "SPOT": "1", "VALID_UNTIL": "24h"},
        [
            *[UPLOAD, FORGET],
            [*REQUEST, "--node-count=2", "--node-prefix=first", *METADATA, "--spot"]
            + ["--valid-until-duration=24h"],
        ],
        DELETE_REQUEST,
    ),
    "queued_resource create, reserved": (
        {"RESERVED": "1"},
        [UPLOAD, FORGET, [*REQUEST, "--node-id=first", *METADATA, "--reserved"]],
        DELETE_REQUEST,
    ),
    "queued_resource status": ({}, [STATE], DELETE_REQUEST),
    "queued_resource logs": (
        {"SLICES": "2"},
        [
            [*TPUS, "tpu-vm", "ssh", "first-0", *PLACE, "--worker=0"]
            + [
                "--command=sudo journalctl --unit=tl-jax --unit=google-startup-scripts "
                "--lines=100 --follow"
            ]
        ],
        DELETE_REQUEST,
    ),
    "queued_resource delete": ({}, [DELETE_REQUEST], DELETE_REQUEST),
    "xpk create": ({}, [XPK], DELETE_WORKLOAD),
    "xpk create, two spot slices of v6e": (
        {"SLICES": "2", "SPOT": "1", "ACCELERATOR": "v6e-256", "MAX_RESTARTS": "3"},
        [
            [
                word.replace("v5litepod-256", "v6e-256")
                .replace("CHIP=v5e", "CHIP=v6e")
                .replace("--num-slices=1", "--num-slices=2")
                .replace("--max-restarts=100", "--max-restarts=3")
                for word in XPK
            ]
            + ["--spot"]
        ],
        DELETE_WORKLOAD,
    ),
    "xpk status": (
        {},
        [["xpk", "workload", "list", "--cluster=my-cluster", *PLACE] + ["--filter-by-job=^first$"]],
        DELETE_WORKLOAD,
    ),
    "xpk logs": (
        {},
        [["kubectl", "logs", "--follow", "--container=jax-tpu", FIRST_POD]],
        DELETE_WORKLOAD,
    ),
    "xpk delete": ({}, [DELETE_WORKLOAD], DELETE_WORKLOAD),
    "gke queue": (
        {},
        [["kubectl", "apply", "--filename=build/launch/first.kueue.yaml"]],
        ["kubectl", "delete", "--filename=build/launch/first.kueue.yaml"],
    ),
    "gke apply": (
        {},
        [["kubectl", "apply", "--filename=build/launch/first.jobset.yaml"]],
        DELETE_JOBSET,
    ),
    "gke status": (
        {},
        [
            ["kubectl", "get", "jobset", "first", "--namespace=default"],
            ["kubectl", "get", "pods", "--namespace=default"]
            + ["--selector=jobset.sigs.k8s.io/jobset-name=first"],
        ],
        DELETE_JOBSET,
    ),
    "gke logs": (
        {},
        [
            ["kubectl", "logs", "--namespace=default", "--follow", "--container=tl-jax"]
            + [FIRST_POD]
        ],
        DELETE_JOBSET,
    ),
    "gke delete": ({}, [DELETE_JOBSET], DELETE_JOBSET),
}
BEGINS = ("run", "create", "apply")
# Local preparations that are printed as well.
LOCAL = ("mkdir", "git")


def words_of(case, arguments=ARGUMENTS):
    script, action = case.partition(",")[0].split()
    return f"{script}.sh", [action, *(["--", *arguments] if action in BEGINS else [])]


@pytest.fixture
def checkout(cloud):
    """The launchers in a directory of their own, so that what they leave is not in the checkout."""
    root = cloud.place / "checkout"
    (root / "tools").mkdir(parents=True)
    (root / "launch").symlink_to(ROOT / "launch")
    return root


def run(cloud, checkout, case, words, settings):
    script, _ = words_of(case)
    return cloud.run(checkout / "launch" / script, *words, settings=settings, cwd=checkout)


@pytest.mark.parametrize("case", GOLDEN)
def test_the_commands_are_these_and_a_dry_run_prints_them_and_calls_nothing(cloud, checkout, case):
    changed, commands, clean_up = GOLDEN[case]
    _, words = words_of(case)
    settings = {**SETTINGS, **changed}
    dry = run(cloud, checkout, case, ["--dry-run", *words], settings)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert [call for call in printed(dry.stdout) if call[0] not in LOCAL] == commands
    assert not cloud.calls and not (checkout / "build").exists()

    done = run(cloud, checkout, case, words, settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert cloud.calls == commands
    assert [call for call in printed(done.stdout) if call[0] not in LOCAL] == commands
    for output in (dry.stdout, done.stdout):
        assert output.splitlines()[-1] == f"clean up: {shlex.join(clean_up)}"


def test_the_arguments_of_a_queued_run_go_into_a_file_line_by_line(cloud, checkout):
    odd = (*ARGUMENTS, "--config.data.path=/mnt/tl_jax/a, b $(c) 'd' \"e\".jsonl")
    case = "queued_resource create"
    assert run(cloud, checkout, case, ["create", "--", *odd], SETTINGS).returncode == 0
    lines = (checkout / "build/launch/first.arguments").read_text(encoding="utf-8")
    assert lines.splitlines() == list(odd)


@pytest.mark.parametrize(
    ("case", "before"),
    [
        (
            "tpu_vm run",
            ["sudo", "bash", "/opt/tl_jax/code/launch/host.sh", "start", "first", "v5e", "100"],
        ),
        ("xpk create", ["exec", "bash", "launch/run_stages.sh"]),
    ],
)
def test_a_shell_on_the_host_reads_back_the_same_arguments(cloud, checkout, case, before):
    odd = (*ARGUMENTS, "--config.data.path=/mnt/tl_jax/a, b $(c) `d` 'e' \"f\" \\g; h.jsonl")
    _, words = words_of(case, odd)
    assert run(cloud, checkout, case, words, SETTINGS).returncode == 0
    line = next(word for word in cloud.calls[-1] if word.startswith("--command="))
    assert shlex.split(line.removeprefix("--command=")) == [*before, *odd]


@pytest.mark.parametrize(
    ("case", "missing"),
    [
        *[("tpu_vm create", name) for name in ("PROJECT", "ZONE", "NAME", "ACCELERATOR")],
        ("tpu_vm create", "RUNTIME_VERSION"),
        ("tpu_vm setup", "BUCKET"),
        *[("queued_resource create", n) for n in ("PROJECT", "NAME", "BUCKET", "ACCELERATOR")],
        *[("xpk create", name) for name in ("CLUSTER", "IMAGE", "STORAGE", "ACCELERATOR")],
        *[("gke apply", n) for n in ("NAME", "IMAGE", "BUCKET", "GKE_ACCELERATOR", "TOPOLOGY")],
        ("gke apply", "SERVICE_ACCOUNT"),
        ("gke queue", "QUOTA_CHIPS"),
    ],
)
def test_a_missing_value_is_named_and_nothing_is_called(cloud, checkout, case, missing):
    _, words = words_of(case)
    settings = {name: value for name, value in SETTINGS.items() if name != missing}
    done = run(cloud, checkout, case, words, settings)
    assert done.returncode == 2 and not cloud.calls
    assert f"set {missing}" in done.stderr and "launch/env.example" in done.stderr


@pytest.mark.parametrize(
    ("case", "words", "changed", "message"),
    [
        ("tpu_vm run", ["run"], {}, "give the configuration"),
        ("xpk create", ["create", "--", ARGUMENTS[0]], {}, "a directory that all hosts see"),
        (
            "queued_resource create",
            ["create", "--", ARGUMENTS[0], "--config.run_dir=runs/first"],
            {},
            "--config.run_dir=/mnt/tl_jax/",
        ),
        ("gke apply", ["apply", "--", *ARGUMENTS, "--a=b\nc"], {}, "line break"),
        (
            "queued_resource create",
            ["create", "--", "--stages=prepare,trian", *ARGUMENTS],
            {},
            "--stages=prepare,trian: no stage trian; there are prepare",
        ),
        ("tpu_vm create", ["create"], {"NAME": "My_Run"}, "NAME=My_Run must be lower-case"),
        ("xpk status", ["status"], {"NAME": "a" * 29}, "longer than the 28 characters"),
        ("tpu_vm run", ["run", "--", *ARGUMENTS], {"ACCELERATOR": "h100-8"}, "no TPU known"),
        ("queued_resource status", ["status"], {"SLICES": "two"}, "SLICES=two must be"),
        ("tpu_vm run", ["run", "--", *ARGUMENTS], {"MAX_RESTARTS": "-1"}, "MAX_RESTARTS=-1 must"),
        (
            "queued_resource watch",
            ["watch", "--", *ARGUMENTS],
            {"MAX_RESTARTS": "no"},
            "MAX_RESTARTS=no must be a whole number",
        ),
        ("tpu_vm create", ["create", "--spot"], {}, "unknown option --spot"),
        ("tpu_vm create", ["create", "run"], {}, "one action at a time"),
        ("gke status", ["restart"], {}, "unknown action restart"),
        ("gke apply", ["apply", "--", *ARGUMENTS], {"SLICES": "a"}, "SLICES=a must be a whole"),
        (
            "gke apply",
            ["apply", "--", *ARGUMENTS],
            {"TOPOLOGY": "3x3"},
            "9 chips, which CHIPS_PER_HOST=4",
        ),
    ],
)
def test_a_wrong_value_is_refused_at_the_door(cloud, checkout, case, words, changed, message):
    done = run(cloud, checkout, case, words, {**SETTINGS, **changed})
    assert done.returncode == 2 and message in done.stderr
    assert not cloud.calls


# Answers of gcloud in turn: states of the request; the training has ended when they run out.
WATCHED = """\
case "$*" in
    *"storage cat"*)
        [ -s "$CALLS.states" ] && exit 1
        cat "$CALLS.ended"
        ;;
    *describe*)
        head -n 1 "$CALLS.states"
        sed -i 1d "$CALLS.states"
        ;;
esac
"""


@pytest.mark.parametrize(("ended", "status"), [("0", 0), ("2", 2)])
def test_watch_asks_again_after_a_preemption_and_deletes_at_the_end(cloud, checkout, ended, status):
    cloud.replace("gcloud", WATCHED)
    (cloud.place / "calls.states").write_text("WAITING_FOR_RESOURCES\nACTIVE\nSUSPENDED\nACTIVE\n")
    (cloud.place / "calls.ended").write_text(f"{ended}\n")
    done = run(
        cloud,
        checkout,
        "queued_resource watch",
        ["watch", "--", *ARGUMENTS],
        {**SETTINGS, "POLL_SECONDS": "0"},
    )
    assert done.returncode == status
    if status:
        assert "ended with status 2; see gs://my-bucket/finished/first.*.log" in done.stderr
    request = [*REQUEST, "--node-id=first", *METADATA]
    look = ["gcloud", "storage", "cat", "gs://my-bucket/finished/first", "--project=my-project"]
    assert cloud.calls == [
        UPLOAD,
        *[look, STATE, look, STATE],
        *[look, STATE, DELETE_REQUEST, request],
        *[look, STATE, look, DELETE_REQUEST],
    ]


# As above, but every command that changes something fails the first time; a deletion may do so
# after it was done.
FAILING = """\
case "$*" in
    *"storage cat"* | *describe* | *"storage cp"*) ;;
    *)
        if [ ! -e "$CALLS.$4" ]; then
            touch "$CALLS.$4"
            exit 1
        fi
        ;;
esac
case "$*" in
    *describe*)
        [ "$(head -n 1 "$CALLS.states")" != GONE ] || { sed -i 1d "$CALLS.states"; exit 1; }
        ;;
esac
"""


@pytest.mark.parametrize("after", ["SUSPENDED", "GONE"])
def test_watch_goes_on_after_a_command_that_failed(cloud, checkout, after):
    cloud.replace("gcloud", FAILING + WATCHED)
    (cloud.place / "calls.states").write_text(f"FAILED\n{after}\nGONE\nACTIVE\nSUSPENDED\n")
    (cloud.place / "calls.ended").write_text("0\n")
    done = run(
        cloud,
        checkout,
        "queued_resource watch",
        ["watch", "--", *ARGUMENTS],
        {**SETTINGS, "POLL_SECONDS": "0"},
    )
    assert done.returncode == 0 and "the training is done" in done.stdout
    assert done.stderr.count("that failed with status 1; trying again") == 2
    request = [*REQUEST, "--node-id=first", *METADATA]
    changes = [call for call in cloud.calls if "delete" in call or "create" in call]
    # The deletion and the request fail once each; both are made again when the slices are lost.
    first = (
        [DELETE_REQUEST, request] if after == "GONE" else [DELETE_REQUEST, DELETE_REQUEST, request]
    )
    assert changes == [*first, request, DELETE_REQUEST, request, DELETE_REQUEST]


def test_watch_says_when_the_slices_cannot_be_deleted(cloud, checkout):
    cloud.replace("gcloud", '[ "$4" != delete ] || exit 1\n' + WATCHED)
    (cloud.place / "calls.states").write_text("")
    (cloud.place / "calls.ended").write_text("0\n")
    words, settings = ["watch", "--", *ARGUMENTS], {**SETTINGS, "POLL_SECONDS": "0"}
    done = run(cloud, checkout, "queued_resource watch", words, settings)
    assert done.returncode == 2 and "not deleted and cost money" in done.stderr
    assert cloud.calls.count(DELETE_REQUEST) == 10


@pytest.mark.parametrize("state", ["active", "activating", "deactivating", "inactive", "failed"])
def test_setup_leaves_the_code_of_a_running_training_alone(cloud, checkout, state):
    assert run(cloud, checkout, "tpu_vm setup", ["setup"], SETTINGS).returncode == 0
    line = cloud.calls[-1][-1].removeprefix("--command=")
    cloud.replace("systemctl", f"echo {state}\n[ {state} = active ]")
    cloud.replace("sudo")
    done = subprocess.run(
        ["bash", "-c", line], env=cloud.environment(), capture_output=True, text=True, check=False
    )
    running = state in ("active", "activating", "deactivating")
    assert done.returncode == (2 if running else 0), done.stderr
    assert ("a training is running here" in done.stderr) == running
    assert any(call[0] == "sudo" for call in cloud.calls) != running


@pytest.mark.parametrize("name", ["configs/mine.py", "mine", "configs/mine.yaml:preset"])
def test_a_configuration_that_the_hosts_would_not_get_is_refused(cloud, checkout, name):
    git = cloud.programs / "git"
    git.write_text(git.read_text() + 'case "$*" in *cat-file*mine*) exit 128 ;; esac\n')
    words = ("create", "--", f"--config={name}", ARGUMENTS[1])
    done = run(cloud, checkout, "queued_resource create", words, SETTINGS)
    assert done.returncode == 2 and "is not in the last commit" in done.stderr
    assert not cloud.calls
    in_bucket = ("create", "--", "--config=/mnt/tl_jax/mine.py", ARGUMENTS[1])
    done = run(cloud, checkout, "queued_resource create", in_bucket, SETTINGS)
    assert done.returncode == 0
