"""The JobSet of a run: one pod per host, restarted together."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launch.mounts import Mount, split_bucket
from launch.run_script import joining_flags, train_script
from research.command_line import MISTAKE, NON_FINITE, STOPPED
from research.errors import UserError

_CONTAINER, _HOSTS = "train", "host"
_GCS_FUSE_OPTIONS = (
    "implicit-dirs",
    # A process must see at once what another has written.
    "metadata-cache:negative-ttl-secs:0",
    # A checkpoint is complete when its folder gets its name.
    "file-system:rename-dir-limit:200000",
)


@dataclass(frozen=True)
class Accelerators:
    """What a run's hosts have, and where the cluster finds such hosts."""

    resource: str
    per_host: int
    hosts: int
    slices: int = 1
    node_selector: Mapping[str, str] = field(default_factory=dict)
    is_tpu: bool = False

    @property
    def num_processes(self) -> int:
        return self.hosts * self.slices


@dataclass(frozen=True)
class Options:
    """What a run's pods are and how the cluster treats them."""

    name: str
    image: str
    namespace: str | None = None
    project_dir: str | None = None
    buckets: tuple[Mount, ...] = ()
    volume_claims: tuple[Mount, ...] = ()
    cpu: str | None = None
    memory: str | None = None
    max_restarts: int = 10
    grace_seconds: int = 120
    spot: bool = False
    queue: str | None = None
    priority_class: str | None = None
    service_account: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def make_jobset(
    options: Options, accelerators: Accelerators, flags: Sequence[str]
) -> dict[str, Any]:
    """The manifest; raises UserError for a name that its pods can't have."""
    _check_name(options.name, accelerators)
    metadata: dict[str, Any] = {"name": options.name}
    if options.namespace:
        metadata["namespace"] = options.namespace
    if options.queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": options.queue}
    if accelerators.is_tpu and accelerators.hosts > 1:
        # The pods of one slice must not be spread over two.
        metadata["annotations"] = {
            "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
        }
    hosts = {
        "name": _HOSTS,
        "replicas": accelerators.slices,
        "template": {
            "spec": {
                "completionMode": "Indexed",
                "completions": accelerators.hosts,
                "parallelism": accelerators.hosts,
                "backoffLimit": 0,
                "podFailurePolicy": _pod_failure_policy(),
                "template": _pod(options, accelerators, flags),
            }
        },
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "network": {
                "enableDNSHostnames": True,
                # Processes look for each other before they are ready.
                "publishNotReadyAddresses": True,
                "subdomain": options.name,
            },
            "failurePolicy": _failure_policy(options.max_restarts),
            "replicatedJobs": [hosts],
        },
    }


def _pod_failure_policy() -> dict[str, Any]:
    """Pods whose end means something end their job, whose message says what it was."""
    codes = [MISTAKE, NON_FINITE, STOPPED]
    on_codes = {"containerName": _CONTAINER, "operator": "In", "values": codes}
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    return {
        "rules": [
            {"action": "FailJob", "onExitCodes": on_codes},
            {"action": "FailJob", "onPodConditions": [disrupted]},
        ]
    }


def _failure_policy(max_restarts: int) -> dict[str, Any]:
    """What starts again: whatever was stopped or lost its node, any number of times; what failed
    without a clear reason, `max_restarts` times; a mistake or a diverged run, never."""
    return {
        "maxRestarts": max_restarts,
        "rules": [
            {
                "name": "mistakeOrNonFinite",
                "action": "FailJobSet",
                "onJobFailureReasons": ["PodFailurePolicy"],
                "onJobFailureMessagePatterns": [f"exit code ({MISTAKE}|{NON_FINITE}) matching"],
            },
            {
                "name": "stoppedOrDisrupted",
                "action": "RestartJobSetAndIgnoreMaxRestarts",
                "onJobFailureReasons": ["PodFailurePolicy"],
                "onJobFailureMessagePatterns": [
                    f"exit code {STOPPED} matching",
                    "condition DisruptionTarget matching",
                ],
            },
        ],
    }


def _pod(options: Options, accelerators: Accelerators, flags: Sequence[str]) -> dict[str, Any]:
    """The template of a pod."""
    volumes, mounts = _volumes(options, accelerators)
    resource = {accelerators.resource: accelerators.per_host}
    requests = {"cpu": options.cpu, "memory": options.memory}
    asked = {name: amount for name, amount in requests.items() if amount}
    container: dict[str, Any] = {
        "name": _CONTAINER,
        "image": options.image,
        "command": ["sh", "-c", escape(_script(options, accelerators, flags))],
        "env": _environment(options),
        "resources": {"requests": asked | resource, "limits": resource},
        "volumeMounts": mounts,
    }
    if options.project_dir:
        container["workingDir"] = options.project_dir

    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": options.grace_seconds,
        "nodeSelector": _node_selector(options, accelerators),
        "tolerations": _tolerations(options, accelerators),
    }
    if options.priority_class:
        spec["priorityClassName"] = options.priority_class
    if options.service_account:
        spec["serviceAccountName"] = options.service_account
    if _on_host_network(accelerators):
        spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    spec |= {"containers": [container], "volumes": volumes}
    pod: dict[str, Any] = {"spec": {name: value for name, value in spec.items() if value != {}}}
    if options.buckets:
        pod = {"metadata": {"annotations": {"gke-gcsfuse/volumes": "true"}}, **pod}
    return pod


def _script(options: Options, accelerators: Accelerators, flags: Sequence[str]) -> str:
    """What the container's shell runs; `exec`, so that SIGTERM reaches training."""
    joining: list[str] = []
    if accelerators.num_processes > 1 and accelerators.is_tpu:
        joining = ["--distributed"]
    elif accelerators.num_processes > 1:
        first = f"{options.name}-{_HOSTS}-0-0.{options.name}"
        joining = joining_flags(first, str(accelerators.hosts), '"$JOB_COMPLETION_INDEX"')
    return f"exec {train_script(flags, joining)}"


def escape(text: str) -> str:
    """Text that comes through Kubernetes' own $(VARIABLE) unchanged."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def _environment(options: Options) -> list[dict[str, Any]]:
    # Not held back when the output is no terminal.
    environment = {"PYTHONUNBUFFERED": "1", **options.environment}
    variables: list[dict[str, Any]] = [
        {"name": name, "value": escape(value)} for name, value in environment.items()
    ]
    for name, (secret, key) in options.secrets.items():
        reference = {"name": secret, "key": key}
        variables.append({"name": name, "valueFrom": {"secretKeyRef": reference}})
    return variables


def _node_selector(options: Options, accelerators: Accelerators) -> dict[str, str]:
    spot = {"cloud.google.com/gke-spot": "true"} if options.spot else {}
    return {**accelerators.node_selector, **spot, **options.node_selector}


def _tolerations(options: Options, accelerators: Accelerators) -> list[dict[str, str]]:
    taints = [{"key": accelerators.resource, "operator": "Exists", "effect": "NoSchedule"}]
    if options.spot:
        spot = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true"}
        taints.append({**spot, "effect": "NoSchedule"})
    return taints


def _on_host_network(accelerators: Accelerators) -> bool:
    """Slices speak over the data centre's network, which is slower through the pods' own."""
    return accelerators.slices > 1


def _volumes(
    options: Options, accelerators: Accelerators
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes of a pod and where they are mounted, shared memory first: 64 MB are the default,
    too few for data workers and NCCL."""
    volumes: list[dict[str, Any]] = [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}]
    mounts = [{"name": "shared-memory", "mountPath": "/dev/shm"}]
    for index, mount in enumerate(options.buckets):
        attributes = _bucket_attributes(mount)
        if _on_host_network(accelerators):
            attributes["hostNetworkPodKSA"] = "true"
        name = f"bucket-{index}"
        csi = {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}
        volumes.append({"name": name, "csi": csi})
        mounts.append({"name": name, "mountPath": str(mount.path)})
    for index, mount in enumerate(options.volume_claims):
        name = f"volume-{index}"
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": mount.source}})
        mounts.append({"name": name, "mountPath": str(mount.path)})
    return volumes, mounts


def _bucket_attributes(mount: Mount) -> dict[str, str]:
    bucket, folder = split_bucket("--bucket", mount.source, ("gs",))
    only = (f"only-dir:{folder}",) if folder else ()
    return {"bucketName": bucket, "mountOptions": ",".join((*_GCS_FUSE_OPTIONS, *only))}


def _check_name(name: str, accelerators: Accelerators) -> None:
    """Raises UserError where the name of the last pod would not be a DNS label."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        raise UserError(
            f"--name {name}: write small letters, digits and hyphens, first a letter, last no "
            "hyphen"
        )
    longest = f"-{_HOSTS}-{accelerators.slices - 1}-{accelerators.hosts - 1}-abcde"
    if len(name) + len(longest) > 63:
        raise UserError(f"--name {name}: write at most {63 - len(longest)} characters")
