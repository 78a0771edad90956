"""Compiled kernels: their machine code is kept, is never of files that have changed, and is no must."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numba.core.caching import CacheImpl

from doodle_dist.data.kernels.jit import compiled, jit

KERNEL = """
from doodle_dist.data.kernels.jit import jit
from helper import change

@jit
def kernel(x):
    return change(x)

print(kernel(5), sum(kernel.stats.cache_hits.values()))
"""
HELPER = """
from doodle_dist.data.kernels.jit import inline

@inline
def change(x):
    return x {change}
"""


@pytest.mark.slow
def test_machine_code_is_kept_until_a_file_of_its_folder_changes(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(KERNEL)

    def run(change: str) -> str:
        (tmp_path / "helper.py").write_text(HELPER.format(change=change))
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import kernel"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert run("+ 1") == "6 0"
    assert run("+ 1") == "6 1"
    assert run("* 2") == "10 0"


@pytest.mark.parametrize("compile_it", [jit, compiled])
def test_kernels_compile_where_no_folder_takes_a_cache(
    monkeypatch: pytest.MonkeyPatch, compile_it: Callable[..., Any]
) -> None:
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])

    def successor(n):
        return n + 1

    assert compile_it(successor)(1) == 2
