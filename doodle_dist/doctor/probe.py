"""What one node says of itself. Shipped to every node by value, so that it also runs where doodle_dist is missing
or another version: the standard library only, and plain values as answers."""

import contextlib
import fcntl
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("ray", "torch", "doodle_dist", "numpy", "pyarrow")
_SIOCGIFADDR = 0x8915
_CHUNK = bytes(1 << 16)
_DRAINED_S = 60.0  # a cable of 1 Mbit/s takes that long for what lies in this side's buffers

_ASK_TORCH = """
import json, torch
n = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(json.dumps({"cuda": torch.version.cuda or "", "gpus": [torch.cuda.get_device_name(k) for k in range(n)]}))
"""


def describe_node() -> dict[str, Any]:
    """Versions, GPUs as torch sees them, interfaces, disks and memory (bytes) of the node this runs on."""
    name = socket.gethostname()
    return {
        "hostname": name,
        "python": platform.python_version(),
        "versions": {package: version_of(package) for package in PACKAGES},
        "torch": _ask_torch(),
        "interfaces": interfaces(),
        "hostname_address": _address_of(name),
        "gloo_ifname": os.environ.get("GLOO_SOCKET_IFNAME", ""),
        "nccl_ifname": os.environ.get("NCCL_SOCKET_IFNAME", ""),
        "memory_bytes": _memory_bytes(),
        "shm_bytes": _disk("/dev/shm")["total_bytes"],
        "disks": {place: _disk(place) for place in dict.fromkeys((_ray_folder(), tempfile.gettempdir()))},
    }


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _ask_torch() -> dict[str, Any]:
    """What torch sees in a process of its own: Ray hides the GPUs from tasks that ask for none."""
    environ = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    if (allowed := _of_parent("CUDA_VISIBLE_DEVICES")) is not None:
        environ["CUDA_VISIBLE_DEVICES"] = allowed
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH],
            capture_output=True,
            text=True,
            timeout=120,
            env=environ,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": "importing torch took more than 120 s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        return {"error": lines[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _of_parent(variable: str) -> str | None:
    """A variable as the raylet, which started this process, was given it."""
    try:
        pairs = Path(f"/proc/{os.getppid()}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    for pair in pairs:
        name, _, value = pair.decode(errors="replace").partition("=")
        if name == variable:
            return value
    return None


def interfaces() -> dict[str, str]:
    """IPv4 address of each network interface that has one, by name."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, request)
            except OSError:  # no IPv4 address
                continue
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def _address_of(name: str) -> str:
    try:
        return socket.gethostbyname(name)
    except OSError:
        return ""


def _memory_bytes() -> int:
    """The machine's memory, or the container's where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(file).read_text()))
        except (OSError, ValueError):  # none, or "max"
            continue
    return total


def _disk(place: str) -> dict[str, int]:
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return {"total_bytes": 0, "free_bytes": 0}
    return {"total_bytes": usage.total, "free_bytes": usage.free}


def _ray_folder() -> str:
    """Where Ray logs and spills on this node."""
    import ray

    return str(ray._private.worker._global_node.get_temp_dir_path())


# --- storage ---------------------------------------------------------------------------------------------


def try_storage(uri: str, marker: str, probe_bytes: int) -> dict[str, Any]:
    """Write, read and delete ``probe_bytes`` below ``uri``, and look for the driver's ``marker`` there.

    Seconds of each, or ``error``, one line. Nothing is left behind.
    """
    try:
        from doodle_dist.data import storage
        from doodle_dist.data.storage_errors import StorageError
    except ImportError as error:
        return {"error": f"doodle_dist can't be imported: {error}"}
    folder = marker.rpartition("/")[0]
    mine = f"{folder}/{socket.gethostname()}-{os.getpid()}"
    data = os.urandom(probe_bytes)
    try:
        write_s, _ = _timed(storage.write_atomic, mine, data)
        try:
            read_s, back = _timed(storage.read_bytes, mine)
        finally:
            storage.delete_prefix(mine)
        sees = storage.exists(marker)
        if not sees and "://" not in uri:  # a disk of this node's own: no trace of the probe is left there
            storage.delete_prefix(folder)
            with contextlib.suppress(OSError):
                os.rmdir(uri)
    except (StorageError, ValueError, OSError) as error:
        return {"error": " ".join(str(error).split())}
    if back != data:
        return {"error": f"{uri} gave back other bytes than were written"}
    return {"write_s": write_s, "read_s": read_s, "bytes": probe_bytes, "sees_marker": sees}


def try_data(uri: str, probe_bytes: int) -> dict[str, Any]:
    """Read a dataset's manifest and the beginning of a shard: what it holds, bytes read and seconds, or ``error``."""
    try:
        from doodle_dist.data import locations, storage
        from doodle_dist.data.manifest import load_manifest
        from doodle_dist.data.storage_errors import StorageError
    except ImportError as error:
        return {"error": f"doodle_dist can't be imported: {error}"}
    try:
        manifest = load_manifest(uri)
        shards = [shard.path for split in manifest.splits.values() for shard in split.shards]
        where = locations.join(uri, shards[os.getpid() % len(shards)])
        read_s, data = _timed(storage.read_bytes, where, 0, probe_bytes)
    except (StorageError, ValueError, OSError) as error:
        return {"error": " ".join(str(error).split())}
    return {
        "read_s": read_s,
        "bytes": len(data),
        "rows": manifest.rows,
        "shards": len(shards),
        "is_strokes": manifest.kind == "strokes",
        "pixels": manifest.side**2 * manifest.channels,
    }


def _timed(function: Any, *arguments: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    answer = function(*arguments)
    return time.perf_counter() - began, answer


# --- network ---------------------------------------------------------------------------------------------


class Listener:
    """Swallows what connections send, on a port that the system picks: what DDP's ranks do to each other."""

    def __init__(self, address: str) -> None:
        self.socket = socket.create_server((address, 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._drain, args=(connection,), daemon=True).start()

    @staticmethod
    def _drain(connection: socket.socket) -> None:
        """Read to the end, then answer with how much it was (u64): the sender knows that all of it arrived."""
        seen = 0
        with connection:
            while block := connection.recv(1 << 20):
                seen += len(block)
            connection.sendall(struct.pack("<Q", seen))

    def close(self) -> None:
        self.socket.close()


def try_link(address: str, port: int, seconds: float, timeout_s: float = 5.0) -> dict[str, Any]:
    """Connect and send for ``seconds``: connect_s and bytes_per_s, or ``error``."""
    try:
        began = time.perf_counter()
        with socket.create_connection((address, port), timeout=timeout_s) as sock:
            connect_s = time.perf_counter() - began
            sock.settimeout(_DRAINED_S)
            began, sent = time.perf_counter(), 0
            while time.perf_counter() - began < seconds:
                sock.sendall(_CHUNK)
                sent += len(_CHUNK)
            sock.shutdown(socket.SHUT_WR)
            arrived = struct.unpack("<Q", sock.recv(8, socket.MSG_WAITALL))[0]
            elapsed = time.perf_counter() - began
    except (OSError, struct.error) as error:
        return {"error": str(error) or type(error).__name__}
    if arrived != sent:
        return {"error": f"{arrived:,} of {sent:,} bytes arrived"}
    return {"connect_s": connect_s, "bytes_per_s": sent / elapsed}


class Probe:
    """The actor that stands on a node for as long as it is examined."""

    def __init__(self) -> None:
        self.listener: Listener | None = None

    def describe(self) -> dict[str, Any]:
        return describe_node()

    def now(self) -> float:
        return time.time()

    def try_storage(self, uri: str, marker: str, probe_bytes: int) -> dict[str, Any]:
        return try_storage(uri, marker, probe_bytes)

    def try_data(self, uri: str, probe_bytes: int) -> dict[str, Any]:
        return try_data(uri, probe_bytes)

    def listen(self, address: str) -> int:
        self.listener = Listener(address)
        return self.listener.port

    def try_link(self, address: str, port: int, seconds: float) -> dict[str, Any]:
        return try_link(address, port, seconds)
