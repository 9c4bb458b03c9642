"""JobSets that a cluster takes, with the hosts, the shell line and the restarts that were meant."""

import copy
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from launch import kubernetes, tpu
from launch.jobset import Accelerators, Options, escape, make_jobset
from launch.mounts import Mount
from research.errors import UserError
from tests.launch.jobset_schema import check_jobset

FLAGS = ["--config", "experiments/vision/lenet_mnist.py", "--workdir", "/runs/lenet"]
MESH = "--config.parallelism.mode=mesh"
BASE = ["--name", "lenet", "--image", "registry/research:1"]
BUCKET = ["--bucket", "gs://lab/runs"]


def emit(capsys: pytest.CaptureFixture[str], *own: str, flags: list[str] = FLAGS) -> dict[str, Any]:
    """The manifest that the command prints."""
    assert kubernetes.run([*BASE, *own, "--", *flags]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def host_job(jobset: dict[str, Any]) -> dict[str, Any]:
    (replicated,) = jobset["spec"]["replicatedJobs"]
    return replicated


def pod_of(jobset: dict[str, Any]) -> dict[str, Any]:
    return host_job(jobset)["template"]["spec"]["template"]["spec"]


def words_of(container: dict[str, Any]) -> list[str]:
    """The shell line of a container, for flags without special characters."""
    return shlex.split(container["command"][-1].replace("\\\n", ""))


def kubelet(text: str, variables: dict[str, str]) -> str:
    """What Kubernetes makes of $(NAME) and $$ in a command before it starts it."""

    def replace(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", replace, text)


def outcome(jobset: dict[str, Any], code: int, disrupted: bool = False) -> str:
    """What the cluster does when a pod ends so: Kubernetes' job controller, then JobSet's."""
    spec = host_job(jobset)["template"]["spec"]
    reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    for index, rule in enumerate(spec["podFailurePolicy"]["rules"]):
        by_code = code in rule.get("onExitCodes", {"values": []})["values"]
        by_condition = disrupted and "onPodConditions" in rule
        if by_code or by_condition:
            cause = f"failed with exit code {code}" if by_code else "has condition DisruptionTarget"
            reason = "PodFailurePolicy"
            message = f"Container train for pod a/b {cause} matching FailJob rule at index {index}"
            break
    for rule in jobset["spec"]["failurePolicy"]["rules"]:
        patterns = rule["onJobFailureMessagePatterns"]
        if reason in rule["onJobFailureReasons"] and any(re.search(p, message) for p in patterns):
            return rule["action"]
    return "RestartJobSet"


def test_gpu_hosts_join_by_the_first_ones_address(capsys):
    jobset = emit(
        capsys,
        *("--gpu", "nvidia-h100-80gb", "--gpus_per_node=8", "--nodes=4", "--namespace=lab"),
        *("--queue=research", "--priority_class=high", "--service_account=trainer"),
        *("--volume_claim=runs:/runs", "--volume_claim=sets:/data", "--cpu=32", "--memory=256Gi"),
        *("--env=A=b c", "--secret_env=KEY=secret:key", "--project_dir=/app"),
        flags=[*FLAGS, MESH, "--data_dir=/data"],
    )
    check_jobset(jobset)
    metadata, job, pod = jobset["metadata"], host_job(jobset), pod_of(jobset)
    assert metadata["name"] == "lenet" and metadata["namespace"] == "lab"
    assert metadata["labels"] == {"kueue.x-k8s.io/queue-name": "research"}
    assert job["replicas"] == 1
    spec = job["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (4, 4, 0)
    assert spec["completionMode"] == "Indexed" and pod["restartPolicy"] == "Never"
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
    assert (pod["priorityClassName"], pod["serviceAccountName"]) == ("high", "trainer")

    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert container["resources"]["requests"]["memory"] == "256Gi"
    assert container["workingDir"] == "/app"
    host = f"lenet-{job['name']}-0-0.{jobset['spec']['network']['subdomain']}"
    assert f"--coordinator {host}:8482 " in container["command"][-1]
    paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    claims = {
        volume["persistentVolumeClaim"]["claimName"]: paths[volume["name"]]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"runs": "/runs", "sets": "/data"}
    assert "/dev/shm" in paths.values()
    environment = {variable["name"]: variable for variable in container["env"]}
    assert environment["A"]["value"] == "b c"
    assert environment["KEY"]["valueFrom"]["secretKeyRef"] == {"name": "secret", "key": "key"}


def test_tpu_slices_find_each_other(capsys):
    own = ("--tpu=v6e", "--topology=4x4", "--slices=2", "--spot", *BUCKET)
    jobset = emit(capsys, *own, flags=[*FLAGS, MESH])
    check_jobset(jobset)
    job, pod = host_job(jobset), pod_of(jobset)
    assert job["replicas"] == 2 and job["template"]["spec"]["completions"] == 4
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
        "cloud.google.com/gke-tpu-topology": "4x4",
        "cloud.google.com/gke-spot": "true",
    }
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    words = words_of(container)
    assert words[-1] == "--distributed" and "--coordinator" not in words
    (bucket,) = [volume for volume in pod["volumes"] if "csi" in volume]
    attributes = bucket["csi"]["volumeAttributes"]
    assert attributes["bucketName"] == "lab" and "only-dir:runs" in attributes["mountOptions"]
    assert {"name": bucket["name"], "mountPath": "/runs"} in container["volumeMounts"]
    template = job["template"]["spec"]["template"]
    assert template["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}
    assert jobset["metadata"]["annotations"], "a slice's pods could be spread over two slices"


def test_one_host_joins_nobody(capsys):
    for own in (("--gpu=nvidia-l4",), ("--tpu=v5e", "--topology=2x4")):
        jobset = emit(capsys, *own, *BUCKET)
        check_jobset(jobset)
        words = words_of(pod_of(jobset)["containers"][0])
        assert words == ["exec", "python", "-m", "research.train", *FLAGS]
    assert emit(capsys, *own, *BUCKET, "--dry_run") == jobset


def test_every_slice_and_gpu_makes_a_valid_manifest():
    kinds = [Accelerators("nvidia.com/gpu", gpus, hosts) for gpus in (1, 8) for hosts in (1, 3)]
    totals = [kind.per_host * kind.hosts for kind in kinds]
    for generation in tpu.TPUS:
        shapes = tpu.topologies(generation)
        for topology in (*shapes[:12], *shapes[12::40], shapes[-1]):
            found = tpu.find_slice(generation, topology)
            kinds.append(Accelerators("google.com/tpu", found.chips_per_host, found.hosts, 2))
            totals.append(tpu.chips(topology))
    assert len(kinds) > 40
    options = Options(
        "a", "image", buckets=(Mount("gs://lab", PurePosixPath("/runs")),), spot=True, cpu="4"
    )
    for kind, total in zip(kinds, totals, strict=True):
        jobset = make_jobset(options, kind, FLAGS)
        check_jobset(jobset)
        job = host_job(jobset)
        hosts = job["template"]["spec"]["completions"]
        (asked,) = pod_of(jobset)["containers"][0]["resources"]["limits"].values()
        assert hosts * asked == total and job["replicas"] == kind.slices


def test_what_an_exit_code_leads_to(capsys):
    jobset = emit(capsys, "--gpu=nvidia-l4", *BUCKET, "--max_restarts=7", "--grace_seconds=300")
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 7
    assert pod_of(jobset)["terminationGracePeriodSeconds"] == 300
    found = {code: outcome(jobset, code) for code in (1, 2, 3, 75, 134, 137)}
    assert found == {
        1: "RestartJobSet",
        2: "FailJobSet",
        3: "FailJobSet",
        75: "RestartJobSetAndIgnoreMaxRestarts",
        134: "RestartJobSet",
        137: "RestartJobSet",
    }
    assert outcome(jobset, 137, disrupted=True) == "RestartJobSetAndIgnoreMaxRestarts"
    assert outcome(jobset, 2, disrupted=True) == "FailJobSet"


def rename(field: str, wrong: str) -> Callable[[dict[str, Any]], None]:
    def change(parent: dict[str, Any]) -> None:
        parent[wrong] = parent.pop(field)

    return change


def assign(field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(parent: dict[str, Any]) -> None:
        parent[field] = value

    return change


JOB = ("spec", "replicatedJobs", 0)
POD = (*JOB, "template", "spec", "template", "spec")


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (("spec",), rename("failurePolicy", "failPolicy")),
        (("spec", "network"), rename("subdomain", "subDomain")),
        (("spec", "failurePolicy"), assign("maxRestarts", "3")),
        (("spec", "failurePolicy", "rules", 0), rename("action", "acton")),
        (("spec", "failurePolicy", "rules", 1), rename("onJobFailureReasons", "onJobReasons")),
        (JOB, assign("replicas", 1.5)),
        ((*JOB, "template", "spec"), rename("backoffLimit", "backofLimit")),
        ((*JOB, "template", "spec"), assign("completions", "four")),
        ((*JOB, "template", "spec", "podFailurePolicy", "rules", 0), rename("action", "do")),
        (POD, rename("containers", "container")),
        (POD, assign("nodeSelector", {"spot": True})),
        ((*POD, "containers", 0), rename("image", "img")),
        ((*POD, "containers", 0), assign("command", "python")),
        ((*POD, "containers", 0, "volumeMounts", 1), rename("mountPath", "path")),
        ((*POD, "volumes", 1, "csi"), rename("driver", "drver")),
    ],
)
def test_the_schemas_refuse_what_is_wrong(path, change):
    options = Options("a", "image", buckets=(Mount("gs://lab", PurePosixPath("/runs")),))
    jobset = make_jobset(options, Accelerators("nvidia.com/gpu", 1, 2), FLAGS)
    wrong = copy.deepcopy(jobset)
    parent: Any = wrong
    for key in path:
        parent = parent[key]
    change(parent)
    check_jobset(jobset)
    with pytest.raises(Exception):  # noqa: B017, PT011 - each schema has errors of its own
        check_jobset(wrong)


def test_the_shell_line_runs_training_with_the_very_flags(capsys, tmp_path):
    workdir = """/runs/it's "a" $(HOSTNAME) $$ $HOME `date` \\ * 1"""
    flags = [*FLAGS[:3], workdir, MESH, "--config.seed", "3"]
    jobset = emit(capsys, "--gpu=any", "--nodes=2", "--bucket=gs://lab:/runs", flags=flags)
    stub = tmp_path / "python"
    shown = "print(json.dumps([os.getpid(), sys.argv[1:]]))"
    stub.write_text(f"#!{sys.executable}\nimport json, os, sys\n{shown}\n")
    stub.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.defpath}", "HOSTNAME": "pod", "HOME": "/root"}
    (container,) = pod_of(jobset)["containers"]
    for index in range(2):
        environment["JOB_COMPLETION_INDEX"] = str(index)
        command = [kubelet(word, environment) for word in container["command"]]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        pid, words = json.loads(process.communicate(timeout=60)[0])
        assert words == [
            *("-m", "research.train", *flags),
            *("--coordinator", "lenet-host-0-0.lenet:8482"),
            *("--num_processes", "2", "--process_id", str(index)),
        ]
        assert pid == process.pid, "SIGTERM would reach the shell, not training"


def test_escape_undoes_what_kubernetes_expands():
    for text in ("$(A)", "$$(A)", "$A", "$$", "$$$", "a$", "$$$(A)$", "${A}", "plain"):
        assert kubelet(escape(text), {"A": "wrong"}) == text


def test_comments_say_how_the_manifest_was_made(capsys):
    arguments = [*BASE, "--gpu=nvidia-l4", *BUCKET, "--env=A=two\nlines", "--", *FLAGS]
    assert kubernetes.run(arguments) == 0
    out = capsys.readouterr().out
    comment = "\n".join(line[2:] for line in out.splitlines() if line.startswith("# "))
    assert shlex.split(comment) == ["python", "-m", "launch.kubernetes", *arguments]


@pytest.mark.parametrize(
    ("own", "flags", "said"),
    [
        ([*BUCKET], FLAGS, "either --gpu or --tpu"),
        (["--gpu=nvidia-l4", "--tpu=v5e", *BUCKET], FLAGS, "either --gpu or --tpu"),
        (["--gpu=nvidia-h100-80g", *BUCKET], FLAGS, "did you mean 'nvidia-h100-80gb'"),
        (["--gpu=tpu", *BUCKET], FLAGS, "known are .*nvidia-l4.*\n.*--gpu any"),
        (["--gpu=nvidia-tesla-t4", "--gpus_per_node=8", *BUCKET], FLAGS, "no machine has more"),
        (["--gpu=nvidia-l4", "--nodes=0", *BUCKET], FLAGS, "0 is not positive"),
        (["--gpu=nvidia-l4", "--topology=4x4", *BUCKET], FLAGS, "--topology: goes with --tpu"),
        (["--tpu=v5e", "--topology=4x4", "--nodes=2", *BUCKET], FLAGS, "--nodes: goes with --gpu"),
        (["--tpu=v6", "--topology=4x4", *BUCKET], FLAGS, "did you mean 'v6e'"),
        (["--tpu=v5e", *BUCKET], FLAGS, "give its --topology"),
        (["--tpu=v5e", "--topology=4x5", *BUCKET], FLAGS, "There are 1x1, 2x2, 2x4, 4x4"),
        (["--tpu=v5e", "--topology=2x2", "--slices=2", *BUCKET], FLAGS, "take a larger --topology"),
        (["--gpu=nvidia-l4"], FLAGS, "not in a mounted path .none.*--volume_claim"),
        (["--gpu=nvidia-l4", "--bucket=gs://lab:/ckpt"], FLAGS, "not in a mounted path ./ckpt"),
        (["--gpu=nvidia-l4", "--bucket=s3://lab"], FLAGS, "write gs://BUCKET"),
        (["--gpu=nvidia-l4", "--volume_claim=gs://lab"], FLAGS, "write a claim's NAME"),
        (["--gpu=nvidia-l4", *BUCKET], [*FLAGS[:3], "runs/lenet"], "absolute path"),
        (["--gpu=nvidia-l4", *BUCKET, "--memory=lots"], FLAGS, "such as 8, 500m or 64Gi"),
        (["--gpu=nvidia-l4", *BUCKET, "--env=A"], FLAGS, "--env A: write KEY=VALUE"),
        (["--gpu=nvidia-l4", *BUCKET, "--env=A-B=1"], FLAGS, "letters, digits and underscores"),
        (["--gpu=nvidia-l4", *BUCKET, "--secret_env=A=b"], FLAGS, "write NAME=SECRET:KEY"),
        (["--gpu=nvidia-l4", *BUCKET, "--name=Lenet"], FLAGS, "small letters"),
        (["--gpu=nvidia-l4", *BUCKET, f"--name={'a' * 60}"], FLAGS, "at most 48 characters"),
        (["--gpu=nvidia-l4", *BUCKET, "--que=x"], FLAGS, "did you mean '--queue'"),
        (["--gpu=nvidia-l4", *BUCKET], [], "behind --"),
        (["--gpu=nvidia-l4", *BUCKET], [*FLAGS, "--config.sed=1"], "did you mean 'seed'"),
        (["--gpu=nvidia-l4", "--nodes=2", *BUCKET], FLAGS, "mesh or pmap"),
    ],
)
def test_refuses_before_anything_is_printed(own, flags, said, capsys):
    with pytest.raises(UserError, match=said):
        kubernetes.run([*BASE, *own, "--", *flags])
    assert capsys.readouterr().out == ""


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        kubernetes.run(["--help"])
    out = capsys.readouterr().out
    for word in ("--topology", "kubectl apply", "same relative path", "--max_restarts"):
        assert word in out


def test_examples_of_the_help_are_printed_by_it(capsys):
    examples = kubernetes._EXAMPLES.replace("\\\n", "")
    commands = re.findall(r"python -m launch.kubernetes (.*) > job.yaml", examples)
    assert len(commands) == 3
    for command in commands:
        assert kubernetes.run(shlex.split(command)) == 0
        check_jobset(yaml.safe_load(capsys.readouterr().out))
