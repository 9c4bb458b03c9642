"""Prints the JobSet manifest of a run: `python -m launch.kubernetes … -- <flags> > job.yaml`."""

import re
from collections.abc import Sequence
from typing import Any

from launch import manifest, mounts, option_values, tpu
from launch.jobset import Accelerators, Options, make_jobset
from launch.option_values import not_negative, positive
from launch.train_flags import read_train_flags, split_flags
from research import command_line
from research.command_line import DONE, Parser
from research.errors import UserError
from research.suggestion import did_you_mean

_EXAMPLES = """examples:
  python -m launch.kubernetes --name lenet --image REGISTRY/research:1 \\
      --gpu nvidia-l4 --bucket gs://my-bucket/runs -- \\
      --config experiments/vision/lenet_mnist.py --workdir /runs/lenet > job.yaml
  kubectl apply -f job.yaml

  # 4 hosts with 8 GPUs each, in a queue of Kueue, on a shared volume
  python -m launch.kubernetes --name gpt --image REGISTRY/research:1 \\
      --gpu nvidia-h100-80gb --gpus_per_node 8 --nodes 4 --queue research \\
      --volume_claim runs:/runs --volume_claim data-sets:/data -- \\
      --config experiments/sequence/gpt_shakespeare.py:gpu --workdir /runs/gpt \\
      --data_dir /data --config.parallelism.mode=mesh > job.yaml

  # two spot slices of 16 chips
  python -m launch.kubernetes --name gpt --image REGISTRY/research:1 \\
      --tpu v6e --topology 4x4 --slices 2 --spot --bucket gs://my-bucket/runs -- \\
      --config experiments/sequence/gpt_shakespeare.py:gpu --workdir /runs/gpt \\
      --config.parallelism.mode=mesh > job.yaml

The config is read and checked here, and read again in the image, by the same relative path: the
image has this project, its packages and the config, and starts in the project's folder, or in
--project_dir.

The workdir must lie in a mounted bucket or volume, which all hosts write to. A bucket needs
GKE's Cloud Storage FUSE driver and a service account that may write to it; take one with a
hierarchical namespace, where folders are renamed at once. A volume claim that several hosts
mount must be ReadWriteMany.

What happens to a run, with JobSet 0.10 or newer:
  stopped by SIGTERM, evicted, or its node lost   all pods start again, go on from the newest
                                                  checkpoint
  a mistake (exit code 2), non-finite (3)         fails for good
  anything else                                   starts again, --max_restarts times in all
"""

# What GKE calls its GPUs, and the most that a machine has.
_GPUS = {
    "nvidia-a100-80gb": 8,
    "nvidia-b200": 8,
    "nvidia-gb200": 4,
    "nvidia-h100-80gb": 8,
    "nvidia-h100-mega-80gb": 8,
    "nvidia-h200-141gb": 8,
    "nvidia-l4": 8,
    "nvidia-rtx-pro-6000": 8,
    "nvidia-tesla-a100": 16,
    "nvidia-tesla-p100": 4,
    "nvidia-tesla-t4": 4,
    "nvidia-tesla-v100": 8,
}
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?")


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    own, flags = split_flags(arguments)
    parser = _make_parser()
    options = parser.parse_args(own)
    accelerators = _read_accelerators(parser, options)
    for name in ("cpu", "memory"):
        amount = getattr(options, name)
        if amount is not None and not _QUANTITY.fullmatch(amount):
            raise UserError(f"--{name} {amount}: write an amount such as 8, 500m or 64Gi")

    train = read_train_flags(parser, flags, accelerators.num_processes)
    buckets = [mounts.read_mount("--bucket", text, train.workdir) for text in options.bucket]
    for mount in buckets:
        mounts.split_bucket("--bucket", mount.source, ("gs",))
    claims = [
        mounts.read_mount("--volume_claim", text, train.workdir) for text in options.volume_claim
    ]
    for mount in claims:
        if not re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", mount.source):
            raise UserError(f"--volume_claim {mount.source}: write a claim's NAME or NAME:/PATH")
    mounts.check_mounts(
        train.workdir,
        [*buckets, *claims],
        "--bucket gs://BUCKET:/PATH or --volume_claim NAME:/PATH",
    )
    environment = option_values.read_pairs("--env", options.env)
    secrets = option_values.read_pairs("--secret_env", options.secret_env, "NAME=SECRET:KEY")
    option_values.check_variables("--env", list(environment))
    option_values.check_variables("--secret_env", list(secrets))
    jobset = make_jobset(
        Options(
            name=options.name,
            image=options.image,
            namespace=options.namespace,
            project_dir=options.project_dir,
            buckets=tuple(buckets),
            volume_claims=tuple(claims),
            cpu=options.cpu,
            memory=options.memory,
            max_restarts=options.max_restarts,
            grace_seconds=options.grace_seconds,
            spot=options.spot,
            queue=options.queue,
            priority_class=options.priority_class,
            service_account=options.service_account,
            node_selector=option_values.read_pairs("--node_selector", options.node_selector),
            environment=environment,
            secrets={name: _secret(name, text) for name, text in secrets.items()},
        ),
        accelerators,
        train.flags,
    )
    made_by = manifest.command_line_of("launch.kubernetes", arguments)
    print(manifest.to_yaml(jobset, [made_by]), end="")
    return DONE


def _make_parser() -> Parser:
    parser = command_line.make_parser(
        "launch.kubernetes",
        "Print the JobSet manifest of a run. What stands behind -- are flags of research.train.",
        _EXAMPLES,
    )
    parser.add_argument("--name", required=True, help="of the JobSet, and first in its pods' names")
    parser.add_argument("--image", required=True, help="container image with this project")
    parser.add_argument("--namespace", help="default: that of kubectl")

    group = parser.add_argument_group("accelerators, --gpu or --tpu")
    group.add_argument(
        "--gpu",
        metavar="MODEL",
        help="GKE's name, such as nvidia-h100-80gb, or any: whichever NVIDIA GPU --node_selector "
        f"leaves; names are {', '.join(_GPUS)}",
    )
    group.add_argument("--gpus_per_node", type=positive, help="default 1")
    group.add_argument("--nodes", type=positive, help="hosts with GPUs; default 1")
    group.add_argument("--tpu", metavar="GENERATION", help="v4, v5e, v5p or v6e")
    group.add_argument("--topology", help="of a slice: 4x4 (v5e, v6e) or 2x2x4 (v4, v5p)")
    group.add_argument(
        "--chips_per_host", type=positive, help="for v5e and v6e 2x4: 8, the default, or 4"
    )
    group.add_argument("--slices", type=positive, help="slices of that topology; default 1")
    group.add_argument("--spot", action="store_true", help="on GKE's spot machines")
    group.add_argument(
        "--node_selector", action="append", default=[], metavar="LABEL=VALUE", help="of the nodes"
    )

    group = parser.add_argument_group("files")
    group.add_argument(
        "--bucket",
        action="append",
        default=[],
        metavar="gs://BUCKET[/FOLDER][:/PATH]",
        help="mounts a bucket by GKE's Cloud Storage FUSE; default path: the workdir's parent",
    )
    group.add_argument(
        "--volume_claim",
        action="append",
        default=[],
        metavar="NAME[:/PATH]",
        help="mounts an existing PersistentVolumeClaim; default path: the workdir's parent",
    )
    group.add_argument(
        "--project_dir", metavar="DIR", help="the project in the image; default: where it starts"
    )

    group = parser.add_argument_group("pods")
    group.add_argument("--cpu", help="that a pod asks for, such as 16")
    group.add_argument("--memory", help="that a pod asks for, such as 64Gi")
    group.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="an environment variable"
    )
    group.add_argument(
        "--secret_env",
        action="append",
        default=[],
        metavar="NAME=SECRET:KEY",
        help="an environment variable from a Secret of the cluster",
    )
    group.add_argument("--service_account", metavar="NAME", help="of the cluster")
    group.add_argument("--priority_class", metavar="NAME", help="of the cluster")
    group.add_argument("--queue", metavar="NAME", help="a LocalQueue of Kueue")
    group.add_argument("--max_restarts", type=not_negative, default=10, help="default 10")
    group.add_argument(
        "--grace_seconds",
        type=positive,
        default=120,
        help="between SIGTERM and SIGKILL, for a step and a checkpoint; default 120",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="accepted; this command only ever prints"
    )
    return parser


def _read_accelerators(parser: Parser, options: Any) -> Accelerators:
    """The hosts that --gpu or --tpu means. Raises UserError."""
    if (options.gpu is None) == (options.tpu is None):
        parser.error("give either --gpu or --tpu")
    others = ("topology", "chips_per_host", "slices") if options.gpu else ("gpus_per_node", "nodes")
    for name in others:
        if getattr(options, name) is not None:
            parser.error(f"--{name}: goes with {'--tpu' if options.gpu else '--gpu'}")
    if options.gpu:
        return _read_gpus(options)

    generation = tpu.find_tpu(options.tpu)
    if options.topology is None:
        parser.error(f"--tpu {options.tpu}: give its --topology, too")
    found = tpu.find_slice(generation, options.topology, options.chips_per_host)
    slices = options.slices or 1
    if slices > 1 and found.hosts == 1:
        raise UserError(
            f"--slices {slices}: GKE joins slices of several hosts only, and {found.topology} "
            "has one; take a larger --topology"
        )
    return Accelerators(
        resource="google.com/tpu",
        per_host=found.chips_per_host,
        hosts=found.hosts,
        slices=slices,
        node_selector={
            "cloud.google.com/gke-tpu-accelerator": generation.gke_accelerator,
            "cloud.google.com/gke-tpu-topology": found.topology,
        },
        is_tpu=True,
    )


def _read_gpus(options: Any) -> Accelerators:
    per_host = options.gpus_per_node or 1
    if options.gpu != "any" and options.gpu not in _GPUS:
        raise UserError(
            f"--gpu {options.gpu}: GKE has no such GPU{did_you_mean(options.gpu, _GPUS)}\n"
            "On another cluster write --gpu any and the --node_selector of its nodes."
        )
    if per_host > _GPUS.get(options.gpu, per_host):
        raise UserError(
            f"--gpus_per_node {per_host}: no machine has more than {_GPUS[options.gpu]} "
            f"{options.gpu}; take more --nodes"
        )
    label = {"cloud.google.com/gke-accelerator": options.gpu} if options.gpu != "any" else {}
    return Accelerators("nvidia.com/gpu", per_host, options.nodes or 1, node_selector=label)


def _secret(name: str, text: str) -> tuple[str, str]:
    secret, colon, key = text.partition(":")
    if not (secret and colon and key):
        raise UserError(f"--secret_env {name}={text}: write NAME=SECRET:KEY")
    return secret, key


if __name__ == "__main__":
    command_line.main(run)
