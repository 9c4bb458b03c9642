"""TPU slices: which there are, and how many hosts and chips a host they have."""

import math
from dataclasses import dataclass

from research.errors import UserError
from research.suggestion import did_you_mean

# Chips a host, by topology; where there are two kinds of machines, the default comes first.
_FLAT = {
    "1x1": (1,),
    "2x2": (4,),
    "2x4": (8, 4),
    "4x4": (4,),
    "4x8": (4,),
    "8x8": (4,),
    "8x16": (4,),
    "16x16": (4,),
}
# Larger ones are made of cubes of 4x4x4 chips.
_SMALL_CUBOIDS = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")


@dataclass(frozen=True)
class Tpu:
    """A generation: its name, what GKE calls it, and the most chips of a slice."""

    name: str
    gke_accelerator: str
    max_chips: int
    dimensions: int


@dataclass(frozen=True)
class Slice:
    """One slice of a generation."""

    tpu: Tpu
    topology: str
    hosts: int
    chips_per_host: int


TPUS = (
    Tpu("v4", "tpu-v4-podslice", 4096, 3),
    Tpu("v5e", "tpu-v5-lite-podslice", 256, 2),
    Tpu("v5p", "tpu-v5p-slice", 6144, 3),
    Tpu("v6e", "tpu-v6e-slice", 256, 2),
)


def find_tpu(name: str) -> Tpu:
    """The generation of this name. Raises UserError where there is none."""
    by_name = {tpu.name: tpu for tpu in TPUS}
    if name not in by_name:
        raise UserError(
            f"--tpu {name}: no such generation{did_you_mean(name, by_name, listed=True) or '.'} "
            f"There are {', '.join(by_name)}."
        )
    return by_name[name]


def topologies(tpu: Tpu) -> tuple[str, ...]:
    """The shapes of its slices, by number of chips."""
    if tpu.dimensions == 2:
        return tuple(_FLAT)
    cubes, edge = tpu.max_chips // 64, 256 // 4
    cuboids = [
        (4 * a, 4 * b, 4 * c)
        for a in range(1, edge + 1)
        for b in range(a, min(edge, cubes // a) + 1)
        for c in range(b, min(edge, cubes // (a * b)) + 1)
    ]
    large = ["x".join(map(str, shape)) for shape in sorted(cuboids, key=math.prod)]
    return (*_SMALL_CUBOIDS, *large)


def chips(topology: str) -> int:
    """How many chips a topology has."""
    return math.prod(int(edge) for edge in topology.split("x"))


def find_slice(tpu: Tpu, topology: str, chips_per_host: int | None = None) -> Slice:
    """The slice of this shape.

    Raises:
      UserError: where the generation has no such slice, or none of hosts with so many chips.
    """
    known = topologies(tpu)
    if topology not in known:
        raise UserError(
            f"--topology {topology}: {tpu.name} has no such slice{_meant(topology, known)} "
            f"There are {_listed(tpu, known)}."
        )
    choices = _FLAT.get(topology, (4,))
    if chips_per_host is None:
        chips_per_host = choices[0]
    if chips_per_host not in choices:
        raise UserError(
            f"--chips_per_host {chips_per_host}: hosts of {tpu.name} {topology} have "
            f"{' or '.join(map(str, choices))} chips"
        )
    return Slice(tpu, topology, chips(topology) // chips_per_host, chips_per_host)


def find_slice_by_chips(tpu: Tpu, size: int) -> Slice:
    """The slice of so many chips, of a generation with one topology for each size.

    Raises UserError where there is none.
    """
    by_size = {chips(topology): topology for topology in topologies(tpu)}
    if size not in by_size:
        closest = min(by_size, key=lambda known: abs(math.log(known / max(size, 1))))
        raise UserError(
            f"--tpu {tpu.name}-{size}: {tpu.name} has no slice of {size} chips; did you mean "
            f"'{tpu.name}-{closest}'? There are {', '.join(map(str, by_size))}."
        )
    return find_slice(tpu, by_size[size])


def _meant(topology: str, known: tuple[str, ...]) -> str:
    """A suggestion that also finds a shape whose edges are in another order."""
    edges = topology.split("x")
    ordered = "x".join(sorted(edges, key=lambda edge: (len(edge), edge)))
    found = ordered if ordered in known else topology
    return did_you_mean(found, known, listed=True) or "."


def _listed(tpu: Tpu, known: tuple[str, ...]) -> str:
    if tpu.dimensions == 2:
        return ", ".join(known)
    return (
        f"{', '.join(known[:10])} and so on: multiples of 4 in rising order, up to "
        f"{tpu.max_chips} chips"
    )
