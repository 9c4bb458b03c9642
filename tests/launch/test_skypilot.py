"""SkyPilot tasks with the machines, files, shell lines and recovery that were meant."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch import skypilot, tpu
from launch.manifest import to_yaml
from launch.mounts import read_mount
from launch.sky_task import Machines, Options, make_task
from research.errors import UserError

FLAGS = ["--config", "experiments/vision/lenet_mnist.py", "--workdir", "/runs/lenet"]
MESH = "--config.parallelism.mode=mesh"
BASE = ["--name", "lenet"]
BUCKET = "--bucket=gs://lab/runs"


def emit(capsys: pytest.CaptureFixture[str], *own: str, flags: list[str] = FLAGS) -> dict[str, Any]:
    """The task that the command prints."""
    assert skypilot.run([*BASE, *own, "--", *flags]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_gpu_task(capsys):
    task = emit(
        capsys,
        *("--gpu=h100:8", "--nodes=2", "--spot", BUCKET, "--bucket=gs://sets:/data"),
        *("--infra=aws", "--infra=gcp/us-east5", "--strategy=FAILOVER", "--max_restarts=3"),
        *("--env=A=b c", "--secret_env=KEY", "--disk_size=500", "--cpus=32+", "--memory=200"),
        flags=[*FLAGS, MESH, "--data_dir=/data"],
    )
    assert (task["name"], task["num_nodes"], task["workdir"]) == ("lenet", 2, ".")
    assert task["resources"] == {
        "accelerators": "H100:8",
        "any_of": [{"infra": "aws"}, {"infra": "gcp/us-east5"}],
        "use_spot": True,
        "cpus": "32+",
        "memory": "200",
        "disk_size": 500,
        "job_recovery": {
            "strategy": "FAILOVER",
            "max_restarts_on_errors": 3,
            "recover_on_exit_codes": [75],
        },
    }
    # Several hosts share the files, so none may keep them to itself for a while.
    assert task["file_mounts"] == {
        "/runs": {"source": "gs://lab/runs", "mode": "MOUNT"},
        "/data": {"source": "gs://sets", "mode": "MOUNT"},
    }
    assert task["envs"]["A"] == "b c" and task["secrets"] == {"KEY": None}
    assert "-e '.[cuda13]'" in task["setup"]


def test_tpu_task(capsys):
    task = emit(capsys, "--tpu=v5e-16", "--infra=gcp/us-west4", BUCKET, flags=[*FLAGS, MESH])
    assert task["num_nodes"] == 1, "SkyPilot takes a slice for one node"
    assert task["resources"]["accelerators"] == "tpu-v5litepod-16"
    assert task["resources"]["accelerator_args"] == {"runtime_version": "v2-alpha-tpuv5-lite"}
    assert task["resources"]["infra"] == "gcp/us-west4" and not task["resources"]["use_spot"]
    assert task["run"].rstrip().endswith("--distributed") and "-e '.[tpu]'" in task["setup"]
    assert emit(capsys, "--tpu=tpu-v5litepod-16", "--infra=gcp/us-west4", BUCKET, "--dry_run",
                flags=[*FLAGS, MESH]) == task  # fmt: skip
    other = emit(capsys, "--tpu=v6e-1", "--runtime_version=mine", BUCKET)
    assert other["resources"]["accelerator_args"] == {"runtime_version": "mine"}


def test_one_host_joins_nobody_and_may_cache(capsys):
    for own in (["--gpu=A100-80GB", "--bucket=s3://lab/runs"], ["--tpu=v6e-8", BUCKET]):
        task = emit(capsys, *own)
        assert task["run"].replace("\\\n", "").split()[2:] == [
            "python",
            "-m",
            "research.train",
            *FLAGS,
        ]
        assert task["file_mounts"]["/runs"]["mode"] == "MOUNT_CACHED"


def test_old_gpus_get_the_cuda_that_knows_them(capsys):
    assert ".[cuda12]" in emit(capsys, "--gpu=V100:4", BUCKET)["setup"]
    assert ".[cuda12]" in emit(capsys, "--gpu=H100", "--extra=cuda12", BUCKET)["setup"]


@pytest.mark.parametrize("generation", ["v5e", "v6e"])
def test_every_slice_has_all_its_chips(generation, capsys):
    for size in (1, 4, 8, 16, 32, 64, 128, 256):
        flags = [*FLAGS, MESH, "--config.data.batch_size=256"]
        task = emit(capsys, f"--tpu={generation}-{size}", BUCKET, flags=flags)
        found = tpu.find_slice_by_chips(tpu.find_tpu(generation), size)
        assert found.hosts * found.chips_per_host == size
        assert task["resources"]["accelerators"].endswith(f"-{size}")
        assert ("--distributed" in task["run"]) == (found.hosts > 1)


def test_the_shell_line_runs_training_with_the_very_flags(capsys, tmp_path):
    workdir = """/runs/it's "a" $(HOSTNAME) $$ $HOME `date` \\ * 1"""
    flags = [*FLAGS[:3], workdir, MESH]
    task = emit(capsys, "--gpu=L4", "--nodes=2", "--bucket=gs://lab:/runs", flags=flags)
    # Stands for the environment that setup makes.
    programs = tmp_path / "research_environment" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f"PATH={shlex.quote(str(programs))}:$PATH\n")
    stub = programs / "python"
    stub.write_text(
        f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(75)"
    )
    stub.chmod(0o755)
    for rank in range(2):
        environment = {
            "PATH": os.defpath,
            "HOME": str(tmp_path),
            "SKYPILOT_NODE_IPS": "10.0.0.7\n10.0.0.8",
            "SKYPILOT_NUM_NODES": "2",
            "SKYPILOT_NODE_RANK": str(rank),
        }
        # SkyPilot adds lines of its own, which must run and see the exit code.
        script = task["run"] + "code=$?; echo after; exit $code"
        done = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60
        )
        words, after = done.stdout.splitlines()
        assert (done.returncode, after) == (75, "after"), done.stderr
        assert json.loads(words) == [
            *("-m", "research.train", *flags),
            *("--coordinator", "10.0.0.7:8482"),
            *("--num_processes", "2", "--process_id", str(rank)),
        ]


def test_setup_is_a_script(capsys):
    setup = emit(capsys, "--gpu=L4", BUCKET)["setup"]
    subprocess.run(["bash", "-n", "-c", setup], check=True, timeout=60)


@pytest.mark.parametrize(
    ("own", "flags", "said"),
    [
        ([BUCKET], FLAGS, "either --gpu or --tpu"),
        (["--tpu=v6e-12", BUCKET], FLAGS, "did you mean 'v6e-16'. There are 1, 4, 8, 16, 32"),
        (["--tpu=v5e-512", BUCKET], FLAGS, "did you mean 'v5e-256'"),
        (["--tpu=v6-8", BUCKET], FLAGS, "did you mean 'v6e'"),
        (["--tpu=v6e", BUCKET], FLAGS, "write v6e-CHIPS"),
        (["--tpu=v6e-8", "--nodes=2", BUCKET], FLAGS, "--nodes: goes with --gpu"),
        (["--tpu=v6e-8", "--infra=aws", BUCKET], FLAGS, "TPUs are at gcp"),
        (["--gpu=H10", BUCKET], FLAGS, "did you mean 'H100'"),
        (["--gpu=H100:some", BUCKET], FLAGS, "write H100:COUNT"),
        (["--gpu=H100", "--infra=gcp/a/b/c", BUCKET], FLAGS, "CLOUD/REGION"),
        (["--gpu=H100", "--name=a b", BUCKET], FLAGS, "--name a b: write letters and digits"),
        (["--gpu=H100", "--strategy=EAGER", BUCKET], FLAGS, "EAGER_NEXT_REGION"),
        (["--gpu=H100", "--cpus=many", BUCKET], FLAGS, "8 or 8"),
        (["--gpu=H100"], FLAGS, "not in a mounted path"),
        (["--gpu=H100", "--bucket=azure://lab"], FLAGS, "gs://BUCKET or s3://BUCKET"),
        (["--gpu=H100", "--nodes=2", "--bucket=s3://lab"], [*FLAGS, MESH], "gs:// only"),
        (["--gpu=H100", "--nodes=2", BUCKET], FLAGS, "mesh or pmap"),
        (["--gpu=H100", BUCKET], [*FLAGS, "--distributed"], "leave it out"),
        (["--gpu=H100", BUCKET], [*FLAGS, "--config.sed=1"], "did you mean 'seed'"),
    ],
)
def test_refuses_before_anything_is_printed(own, flags, said, capsys):
    with pytest.raises(UserError, match=said):
        skypilot.run([*BASE, *own, "--", *flags])
    assert capsys.readouterr().out == ""


def test_a_config_that_would_not_be_copied_is_refused(tmp_path):
    config = tmp_path / "config.py"
    with open(FLAGS[1]) as file:
        config.write_text(file.read())
    with pytest.raises(UserError, match="below this folder"):
        skypilot.run([*BASE, "--gpu=L4", BUCKET, "--", f"--config={config}", *FLAGS[2:]])


def test_examples_of_the_help_are_printed_by_it(capsys):
    examples = skypilot._EXAMPLES.replace("\\\n", "")
    commands = re.findall(r"python -m launch.skypilot (.*) > task.yaml", examples)
    assert len(commands) == 2
    for command in commands:
        assert skypilot.run(shlex.split(command)) == 0
        assert yaml.safe_load(capsys.readouterr().out)["name"] == "gpt"


_READ = """
import json, sys
import sky
task = sky.Task.from_yaml(sys.argv[1])
(resources,) = task.resources
print(json.dumps([resources.accelerators, resources.use_spot, resources.job_recovery, task.run]))
"""


@pytest.mark.skipif(not find_spec("sky"), reason="SkyPilot is missing: pip install skypilot")
@pytest.mark.parametrize("size", [1, 16, 256])
def test_skypilot_itself_reads_the_tasks(size, tmp_path):
    bucket = read_mount("--bucket", "gs://lab/runs", Path(FLAGS[3]))
    machines = Machines(f"tpu-v6e-{size}", 1, 4, "tpu", "v2-alpha-tpuv6e")
    task = make_task(Options("a", (bucket,), spot=True, secrets=("KEY",)), machines, FLAGS)
    file = tmp_path / "task.yaml"
    file.write_text(to_yaml(task))
    # It writes to its user's folder.
    environment = {**os.environ, "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _READ, file],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    accelerators, spot, recovery, script = json.loads(done.stdout.splitlines()[-1])
    assert accelerators == {f"tpu-v6e-{size}": 1} and spot and script == task["run"]
    assert recovery["recover_on_exit_codes"] == [75]
