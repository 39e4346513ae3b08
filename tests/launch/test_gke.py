"""The manifests of GKE hold what the cluster needs, and no value can change their structure."""

import importlib.util
import json

import pytest
import yaml
from launchers import ARGUMENTS, LAUNCH, SETTINGS

SPEC = importlib.util.spec_from_file_location("render", LAUNCH / "gke" / "render.py")
render = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(render)
KNOWN = {
    **SETTINGS,
    "NAMESPACE": "default",
    "QUEUE": "tl-jax",
    "CHIPS_PER_HOST": "4",
    "SLICES": "2",
    "MAX_RESTARTS": "100",
    "MOUNT": "/mnt/tl_jax",
    "CHIP": "v5e",
}


def manifests(template, arguments=(), **changed):
    text = (LAUNCH / "gke" / f"{template}.yaml.tmpl").read_text(encoding="utf-8")
    rendered = render.render(text, render.values({**KNOWN, **changed}, arguments))
    return list(yaml.safe_load_all(rendered))


def require_keys(mapping, required, optional=()):
    """Hold the keys of a mapping against those that its API knows."""
    assert set(required) <= mapping.keys() <= {*required, *optional}


def test_the_jobset_has_the_fields_of_its_api():
    (jobset,) = manifests("jobset", ARGUMENTS)
    require_keys(jobset, ("apiVersion", "kind", "metadata", "spec"))
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    require_keys(jobset["metadata"], ("name", "namespace", "labels", "annotations"))
    assert jobset["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "tl-jax"}
    require_keys(jobset["spec"], ("failurePolicy", "replicatedJobs"))
    (replicated,) = jobset["spec"]["replicatedJobs"]
    require_keys(replicated, ("name", "replicas", "template"))
    assert replicated["replicas"] == 2
    job = replicated["template"]["spec"]
    require_keys(
        job,
        ("parallelism", "completions", "completionMode", "backoffLimit", "template"),
        ("podFailurePolicy",),
    )
    # 256 chips, 4 of them on a host; any pod that fails ends the job, which JobSet restarts.
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (64, 64, 0)
    assert job["completionMode"] == "Indexed"
    for annotations in (jobset["metadata"], job["template"]["metadata"]):
        assert all(isinstance(value, str) for value in annotations["annotations"].values())


def test_a_pod_runs_the_training_on_all_chips_of_its_host_with_the_bucket():
    (jobset,) = manifests("jobset", ARGUMENTS)
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert pod["metadata"]["annotations"]["gke-gcsfuse/volumes"] == "true"
    spec = pod["spec"]
    require_keys(
        spec,
        ("restartPolicy", "serviceAccountName", "nodeSelector", "containers", "volumes"),
        ("terminationGracePeriodSeconds", "tolerations"),
    )
    assert (spec["restartPolicy"], spec["serviceAccountName"]) == ("Never", "trainer")
    assert spec["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "16x16",
    }
    (container,) = spec["containers"]
    require_keys(
        container,
        ("name", "image", "command", "args", "resources", "volumeMounts", "env"),
        ("ports", "securityContext"),
    )
    assert container["image"] == SETTINGS["IMAGE"]
    assert [*container["command"], *container["args"]] == [
        *("bash", "launch/run_stages.sh"),
        *ARGUMENTS,
    ]
    assert container["env"] == [{"name": "CHIP", "value": "v5e"}]
    for kind in ("requests", "limits"):
        assert container["resources"][kind] == {"google.com/tpu": 4}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"bucket": "/mnt/tl_jax", "shared-memory": "/dev/shm"}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes.keys() == mounts.keys()
    csi = volumes["bucket"]["csi"]
    assert csi["driver"] == "gcsfuse.csi.storage.gke.io"
    assert csi["volumeAttributes"]["bucketName"] == "my-bucket"
    # Hosts read what another has just written.
    assert "metadata-cache:ttl-secs:0" in csi["volumeAttributes"]["mountOptions"].split(",")


def test_all_restart_together_unless_a_setting_is_wrong():
    (jobset,) = manifests("jobset", ARGUMENTS, MAX_RESTARTS="7")
    policy = jobset["spec"]["failurePolicy"]
    assert policy == {
        "maxRestarts": 7,
        "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
    }
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    # Status 2 of tl-jax; Kubernetes allows this rule only for pods that never restart themselves.
    assert rule["onExitCodes"]["values"] == [2] and rule["onExitCodes"]["operator"] == "In"
    assert rule["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]


def test_the_queue_hands_out_chips_of_the_kind_that_the_job_asks_for():
    flavor, cluster, local = manifests("kueue")
    kinds = ("ResourceFlavor", "ClusterQueue", "LocalQueue")
    assert tuple(part["kind"] for part in (flavor, cluster, local)) == kinds
    assert {part["apiVersion"] for part in (flavor, cluster, local)} == {"kueue.x-k8s.io/v1beta2"}
    (jobset,) = manifests("jobset", ARGUMENTS)
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert flavor["spec"]["nodeLabels"] == pod["nodeSelector"]
    (group,) = cluster["spec"]["resourceGroups"]
    # Kueue refuses workloads that request what no flavor covers.
    assert set(group["coveredResources"]) == pod["containers"][0]["resources"]["requests"].keys()
    (quota,) = group["flavors"]
    assert quota["name"] == flavor["metadata"]["name"]
    assert quota["resources"] == [{"name": "google.com/tpu", "nominalQuota": 512}]
    assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    assert local["metadata"] == {"name": "tl-jax", "namespace": "default"}
    assert jobset["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "tl-jax"


@pytest.mark.parametrize(
    ("topology", "chips_per_host", "hosts"),
    [("2x4", "8", 1), ("4x4", "4", 4), ("4x4x4", "4", 16), ("16x16", "4", 64)],
)
def test_the_hosts_of_a_slice_follow_from_its_topology(topology, chips_per_host, hosts):
    (jobset,) = manifests("jobset", ARGUMENTS, TOPOLOGY=topology, CHIPS_PER_HOST=chips_per_host)
    assert jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["completions"] == hosts


def test_no_value_can_change_the_structure():
    odd = "x\"\nkind: Secret\n- ${NAME} # \\ '{[: yes"
    (jobset,) = manifests("jobset", [*ARGUMENTS, odd], IMAGE=odd, NAME="yes", BUCKET="123")
    (plain,) = manifests("jobset", ARGUMENTS)
    assert jobset.keys() == plain.keys() and jobset["kind"] == "JobSet"
    assert jobset["metadata"]["name"] == "yes"
    spec = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == spec["containers"][0]["args"][-1] == odd
    assert spec["volumes"][0]["csi"]["volumeAttributes"]["bucketName"] == "123"


def test_every_missing_value_is_named(capsys, monkeypatch):
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NAME", "first")
    monkeypatch.setenv("SLICES", "")
    assert render.main([str(LAUNCH / "gke/jobset.yaml.tmpl")]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    missing = output.err.split("set ")[1].split(";")[0].split()
    elsewhere = {"PROJECT", "ZONE", "ACCELERATOR", "RUNTIME_VERSION", "CLUSTER", "STORAGE"}
    assert set(missing) == KNOWN.keys() - elsewhere - {"NAME", "QUOTA_CHIPS"}


def test_a_training_without_arguments_is_refused():
    with pytest.raises(render.RenderError, match="give the arguments of tl-jax"):
        manifests("jobset")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"SLICES": "-1"}, "SLICES=-1 must be a whole number"),
        ({"CHIPS_PER_HOST": "0"}, "CHIPS_PER_HOST=0 does not divide"),
        ({"TOPOLOGY": "256"}, "TOPOLOGY=256 must look like"),
    ],
)
def test_a_number_that_is_none_is_refused(changed, message):
    with pytest.raises(render.RenderError, match=message):
        render.values({**KNOWN, **changed}, ())


def test_a_stray_dollar_in_a_template_is_refused():
    with pytest.raises(render.RenderError, match="begins no"):
        render.render("a: $NAME", {"NAME": "x"})
    assert render.render("a: ${NAME}", {"NAME": "x"}) == f"a: {json.dumps('x')}"
