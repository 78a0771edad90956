"""How much memory this process and everything that Ray runs take, and how much disk a folder."""

import os
import threading
from pathlib import Path

SAMPLE_S = 1.0


class MemoryWatch(threading.Thread):
    """Samples, while it runs, the proportional set size (PSS) of this process and its descendants: a Ray of our own
    is among them. PSS counts a page that n processes map as an nth each, so the object store counts once in the sum.

    ``pss_mb`` is the highest sum, ``process_mb`` the highest of one process of each kind; ``files_mb`` the most bytes
    of files below each of ``folders``.
    """

    def __init__(self, **folders: Path) -> None:
        super().__init__(daemon=True)
        self.folders = folders
        self.over = threading.Event()
        self.pss_mb = 0.0
        self.process_mb: dict[str, float] = {}
        self.files_mb = dict.fromkeys(folders, 0.0)

    def __enter__(self) -> "MemoryWatch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    def run(self) -> None:
        while True:
            self._sample()
            if self.over.wait(SAMPLE_S):
                return

    def _sample(self) -> None:
        total = 0.0
        for pid in family():
            size = pss_mb(pid)
            kind = "driver" if pid == os.getpid() else kind_of(pid)
            total += size
            self.process_mb[kind] = max(self.process_mb.get(kind, 0.0), size)
        self.pss_mb = max(self.pss_mb, total)
        for name, folder in self.folders.items():
            self.files_mb[name] = max(self.files_mb[name], folder_bytes(folder) / 1e6)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is none."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:  # gone meanwhile
            continue
    return total


def family() -> list[int]:
    """This process and every descendant of it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it ended meanwhile
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [os.getpid()]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def pss_mb(pid: int) -> float:
    """Proportional set size of a process in MB; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:")), 0.0)


def kind_of(pid: int) -> str:
    """What a process of Ray's is: a worker, raylet, gcs_server, or another."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return "other"
    if command.startswith("ray::"):
        return "worker"
    name = Path(command).name
    return name if name in ("raylet", "gcs_server") else "other"
