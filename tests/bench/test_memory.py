"""The memory that a benchmark reports is what this process and its children take; a folder's bytes are its files'."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from doodle_dist.bench import memory
from doodle_dist.bench.memory import MemoryWatch, family, folder_bytes, kind_of, pss_mb

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells a process's PSS"
)

HOLDS_100_MB = "import sys; held = bytearray(b'x') * 100_000_000; print('held', flush=True); sys.stdin.read()"


def test_what_this_process_and_its_children_hold_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SAMPLE_S", 0.01)
    (tmp_path / "spilled").mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDS_100_MB], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    # Only now: what others map too counts for less here with each of them that starts meanwhile.
    before = sum(pss_mb(pid) for pid in family() if pid != child.pid)
    held = np.ones(12_500_000)  # 100 MB
    with MemoryWatch(spilled=tmp_path / "spilled", absent=tmp_path / "absent") as watch:
        assert child.pid in family()
        (tmp_path / "spilled" / "block").write_bytes(bytes(3_000_000))
    both = watch.pss_mb - before
    assert 190 < both < 300, "a hundred here and a hundred there"
    assert watch.process_mb["driver"] >= 100
    assert watch.process_mb["other"] >= 100
    assert watch.files_mb["absent"] == 0
    assert held.sum() == 12_500_000
    child.communicate()
    assert child.pid not in family()
    assert pss_mb(child.pid) == 0, "it has ended"


def test_a_folder_s_bytes_are_those_of_all_files_below(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one").write_bytes(bytes(10))
    (tmp_path / "a" / "b" / "two").write_bytes(bytes(100))
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert folder_bytes(tmp_path) == 110
    assert folder_bytes(tmp_path / "nowhere") == 0


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("ray::RayTrainWorker", "worker"),
        ("/opt/raylet", "raylet"),
        ("/opt/gcs_server", "gcs_server"),
        ("sh", "other"),
    ],
)
def test_kinds_of_processes_are_told_by_their_names(command: str, kind: str) -> None:
    says_it_is_there = "print('there', flush=True); input()"
    with subprocess.Popen(
        [command, "-c", says_it_is_there],
        executable=sys.executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        found = kind_of(process.pid)
        process.communicate(b"\n")
    assert found == kind
    assert kind_of(os.getpid()) == "other"
