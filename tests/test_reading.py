"""Who reads where."""

import pytest

from doodle_dist.reading import Rasterize, Read, who_reads


@pytest.mark.parametrize(
    ("read", "rasterize", "nodes", "reader"),
    [
        *(("auto", "worker", nodes, reader) for nodes, reader in enumerate(("worker", "worker", "tasks"))),
        ("auto", "device", 1, "worker"),
        ("auto", "tasks", 1, "tasks"),
        ("tasks", "worker", 1, "tasks"),
        ("worker", "device", 9, "worker"),
    ],
)
def test_who_reads(read: Read, rasterize: Rasterize, nodes: int, reader: str) -> None:
    assert who_reads(read, rasterize, nodes) == reader
