"""Buckets and volumes in which a run's folder outlives the machine that writes it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from research.errors import UserError

_BUCKET = re.compile(r"(?P<store>[a-z0-9]+)://(?P<bucket>[a-z0-9][a-z0-9._-]+)(/(?P<folder>.*))?")


@dataclass(frozen=True)
class Mount:
    """A bucket's folder, such as "gs://bucket/folder", or a volume, and where it is seen."""

    source: str
    path: PurePosixPath


def read_mount(option: str, text: str, workdir: Path) -> Mount:
    """`SOURCE:/PATH`, or a source alone, which is mounted where the workdir's parent is.

    Raises UserError for a path that is not absolute.
    """
    match = re.fullmatch(r"(?P<source>(?:[a-z0-9]+://)?[^:]*)(?::(?P<path>.*))?", text)
    if match is None or not match["source"]:
        raise UserError(f"{option} {text}: write SOURCE or SOURCE:/PATH")
    path = PurePosixPath(workdir.parent if match["path"] is None else match["path"])
    if not path.is_absolute() or path == PurePosixPath("/") or ".." in path.parts:
        raise UserError(
            f"{option} {text}: cannot be mounted at {path}; write {option} {match['source']}:/PATH "
            "with an absolute path, and a --workdir below it"
        )
    return Mount(match["source"], path)


def split_bucket(option: str, source: str, stores: Sequence[str]) -> tuple[str, str]:
    """Bucket and folder of "gs://bucket/folder"; the folder may be "".

    Raises UserError for anything else, and for a store that is not one of these.
    """
    match = _BUCKET.fullmatch(source)
    if match is None or match["store"] not in stores:
        forms = " or ".join(f"{store}://BUCKET" for store in stores)
        raise UserError(f"{option} {source}: write {forms}, or such with /FOLDER")
    folder = (match["folder"] or "").strip("/")
    if "," in folder or any(part in ("", ".", "..") for part in folder.split("/") if folder):
        raise UserError(f"{option} {source}: {folder!r} is no folder of a bucket")
    return match["bucket"], folder


def check_mounts(workdir: Path, mounts: Sequence[Mount], options: str) -> None:
    """Raises UserError where checkpoints would be lost with the machine that wrote them, or two
    mounts hide each other."""
    paths = [mount.path for mount in mounts]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"{path}: two volumes are mounted there; give each its own :/PATH")
    if not workdir.is_absolute() or ".." in workdir.parts:
        raise UserError(
            f"--workdir {workdir}: write an absolute path below a mounted bucket or volume; what "
            "is written elsewhere is lost with the machine"
        )
    below = PurePosixPath(workdir)
    if not any(path == below or path in below.parents for path in paths):
        listed = ", ".join(map(str, paths)) or "none"
        raise UserError(
            f"--workdir {workdir}: not in a mounted path ({listed}), so its checkpoints would be "
            f"lost with the machine; mount one there by {options}"
        )
