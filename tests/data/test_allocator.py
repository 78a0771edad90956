"""Blocks that are freed and asked for again are not taken from the system anew."""

import platform
import resource
import subprocess
import sys

import pytest

_BLOCKS = """
import resource
import numpy as np
{first}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    blocks = [np.ones(16 << 20, np.uint8) for _ in range(4)]
    del blocks
work()
before = faults()
for _ in range(8):
    work()
print(faults() - before)
"""
_KEEPING = "from doodle_dist.data.allocator import keep_freed_memory; keep_freed_memory()"


def faults_of(first: str) -> int:
    """Page faults of eight times four blocks of 16 MB, 131,072 pages, in a new process."""
    line = [sys.executable, "-c", _BLOCKS.format(first=first)]
    return int(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or resource.getpagesize() != 4096,
    reason="glibc's allocator, small pages",
)
def test_freed_blocks_are_kept() -> None:
    assert faults_of(_KEEPING) < 2_000
    assert faults_of("pass") > 10_000, (
        "by itself the allocator gives them back: if it keeps them, ours is not needed"
    )
