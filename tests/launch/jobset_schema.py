"""Whether a cluster would take a JobSet, by the schemas of JobSet and of Kubernetes."""

from typing import Any

import kubernetes_validate
from kubeflow_trainer_api.models import JobsetV1alpha2JobSet

KUBERNETES = "1.34"


def check_jobset(jobset: dict[str, Any]) -> None:
    """Fails where a field is unknown, missing or of the wrong type."""
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    read = JobsetV1alpha2JobSet.from_dict(jobset)
    assert read is not None
    # What the schema does not know is left out of what was read.
    _assert_equal(jobset, read.to_dict(), "")
    for replicated in jobset["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}}
        kubernetes_validate.validate({**job, **replicated["template"]}, KUBERNETES, strict=True)


def _assert_equal(written: Any, read: Any, path: str) -> None:
    if isinstance(written, dict):
        assert isinstance(read, dict), f"{path}: {read!r}"
        assert written.keys() == read.keys(), f"{path}: unknown to the schema or left out"
        for key in written:
            _assert_equal(written[key], read[key], f"{path}.{key}")
    elif isinstance(written, list):
        assert len(written) == len(read), path
        for index, (one, other) in enumerate(zip(written, read, strict=True)):
            _assert_equal(one, other, f"{path}.{index}")
    else:
        assert written == read, f"{path}: {written!r}, {read!r}"
