"""Slices of TPUs have the hosts and chips of their topology."""

import pytest

from launch import tpu
from research.errors import UserError

# From Google's tables of machines.
KNOWN = [
    ("v5e", "1x1", 1, 1),
    ("v5e", "2x2", 1, 4),
    ("v5e", "2x4", 1, 8),
    ("v5e", "4x4", 4, 4),
    ("v6e", "8x16", 32, 4),
    ("v6e", "16x16", 64, 4),
    ("v4", "2x2x1", 1, 4),
    ("v4", "2x2x2", 2, 4),
    ("v4", "4x4x8", 32, 4),
    ("v5p", "2x4x4", 8, 4),
    ("v5p", "16x16x24", 1536, 4),
]


@pytest.mark.parametrize(("name", "topology", "hosts", "chips_per_host"), KNOWN)
def test_hosts_and_chips(name, topology, hosts, chips_per_host):
    found = tpu.find_slice(tpu.find_tpu(name), topology)
    assert (found.hosts, found.chips_per_host) == (hosts, chips_per_host)


def test_every_topology_adds_up():
    for generation in tpu.TPUS:
        shapes = tpu.topologies(generation)
        assert len(set(shapes)) == len(shapes)
        sizes = [tpu.chips(topology) for topology in shapes]
        assert sizes == sorted(sizes) and sizes[-1] == generation.max_chips
        for topology, size in zip(shapes, sizes, strict=True):
            found = tpu.find_slice(generation, topology)
            assert found.hosts * found.chips_per_host == size
            assert topology.count("x") == generation.dimensions - 1


def test_eight_chips_are_one_machine_or_two():
    v6e = tpu.find_tpu("v6e")
    assert tpu.find_slice(v6e, "2x4", 4).hosts == 2
    assert tpu.find_slice_by_chips(v6e, 8).hosts == 1
    with pytest.raises(UserError, match="2x4 have 8 or 4 chips"):
        tpu.find_slice(v6e, "2x4", 2)


@pytest.mark.parametrize(
    ("name", "topology", "said"),
    [
        ("v5p", "8x4x4", "did you mean '4x4x8'"),
        ("v6e", "16x8", "did you mean '8x16'"),
        ("v5e", "3x3", "There are 1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16"),
        ("v5e", "4x4x4", "did you mean '4x4'"),
        ("v4", "4x4x6", "multiples of 4 in rising order, up to 4096 chips"),
        ("v4", "16x16x20", "v4 has no such slice"),
        ("v4", "", "v4 has no such slice"),
    ],
)
def test_shapes_that_do_not_exist(name, topology, said):
    with pytest.raises(UserError, match=said):
        tpu.find_slice(tpu.find_tpu(name), topology)


def test_generations_and_sizes_that_do_not_exist():
    with pytest.raises(UserError, match="did you mean 'v5p'"):
        tpu.find_tpu("v5")
    for size in (0, 2, 12, 512):
        with pytest.raises(UserError, match=r"There are 1, 4, 8, 16, 32, 64, 128, 256\."):
            tpu.find_slice_by_chips(tpu.find_tpu("v5e"), size)
