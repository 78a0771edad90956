"""Hosts as network namespaces on one bridge: made, listed, cut off, slowed, killed, removed. Linux, root, iproute2.

A host has its own name, its own loopback, one interface (eth0) with one address, its own /tmp, and no way out of the
bridge. It shares the clock with this machine, which is on the bridge too, as BRIDGE_ADDRESS, and the disk, unless it is
given one of its own.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

BRIDGE, BRIDGE_ADDRESS, SUBNET_BITS = "doodle-br", "10.77.0.1", 24
INTERFACE = "eth0"
_PREFIX = "doodle-"


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout


def _namespace(host: str) -> str:
    return _PREFIX + host


def _link(host: str) -> str:
    """The end of a host's cable that is plugged into the bridge; a name may have 15 characters."""
    return f"dd-{host}"


def hosts() -> list[str]:
    """The hosts that there are, by name."""
    names = [line.split()[0] for line in _ip("netns", "list").splitlines() if line.strip()]
    return sorted(name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))


def make_bridge() -> None:
    """The bridge, with this machine's own address on it."""
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("addr", "add", f"{BRIDGE_ADDRESS}/{SUBNET_BITS}", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")


def make_host(host: str, address: str) -> None:
    """An empty host, plugged in."""
    inside = _namespace(host)
    _ip("netns", "add", inside)
    _ip("link", "add", _link(host), "type", "veth", "peer", "name", INTERFACE, "netns", inside)
    _ip("link", "set", _link(host), "master", BRIDGE, "up")
    _ip("-n", inside, "link", "set", "lo", "up")
    _ip("-n", inside, "addr", "add", f"{address}/{SUBNET_BITS}", "dev", INTERFACE)
    _ip("-n", inside, "link", "set", INTERFACE, "up")


def inside(host: str, tmp: Path, command: list[str]) -> list[str]:
    """``command`` as it is run on a host: in its network and under its name, with ``tmp`` as its /tmp."""
    # `ip netns exec` gives each process a mount namespace, so the bind mounts are this command's alone and
    # go when it ends. Ray keeps sockets, sessions and the address of "the" cluster under /tmp. A host knows its
    # own name, as gloo and others look it up.
    script = 'hostname "$1" && mount --bind "$0" /tmp && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"'
    names = tmp.with_name("hosts")
    names.write_text(f"127.0.0.1 localhost\n{address(host)} {host}\n")
    enter = ["ip", "netns", "exec", _namespace(host), "unshare", "--uts"]
    return [*enter, "sh", "-c", script, str(tmp), host, str(names), *command]


def processes(host: str) -> list[int]:
    """The ids of the processes on a host."""
    return [int(pid) for pid in _ip("netns", "pids", _namespace(host)).split()]


def kill(host: str) -> int:
    """SIGKILL to all that runs on a host, as if its power went; how many processes that were."""
    killed = set()
    while found := processes(host):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
    return len(killed)


def give_disk(folder: Path, size: str) -> None:
    """An empty disk of ``size`` (as mount writes it: "300m") at ``folder``, in memory."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "none", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ValueError(f"--disk {size}: {said[-1] if said else 'mount refused it'}; write it like 300m")


def take_disk(folder: Path) -> None:
    """Take away the disk at ``folder``, if there is one."""
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def cut(host: str) -> None:
    """Pull the cable: nothing in, nothing out, and nobody is told."""
    _ip("link", "set", _link(host), "down")


def slow(host: str, rate: str) -> None:
    """Limit a host's cable, in each direction, to ``rate`` as tc writes it ("1mbit")."""
    limit = ["root", "tbf", "rate", rate, "burst", "32k", "latency", "400ms"]
    for command in (
        ["tc", "qdisc", "replace", "dev", _link(host), *limit],
        ["ip", "netns", "exec", _namespace(host), "tc", "qdisc", "replace", "dev", INTERFACE, *limit],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise ValueError(
                f"--rate {rate}: tc refused it ({said[-1] if said else 'no reason'}); write it like 1mbit"
            )


def heal(host: str) -> None:
    """Plug the cable in again, at full speed."""
    _ip("link", "set", _link(host), "up")
    for command in (
        ["tc", "qdisc", "del", "dev", _link(host), "root"],
        ["ip", "netns", "exec", _namespace(host), "tc", "qdisc", "del", "dev", INTERFACE, "root"],
    ):
        subprocess.run(command, capture_output=True, check=False)  # fails where the cable was never slowed


def address(host: str) -> str:
    """A host's address."""
    (link,) = json.loads(_ip("-n", _namespace(host), "-json", "addr", "show", "dev", INTERFACE))
    return next(item["local"] for item in link["addr_info"] if item["family"] == "inet")


def state(host: str) -> str:
    """ "up", "cut" or "slow"."""
    (link,) = json.loads(_ip("-json", "link", "show", "dev", _link(host)))
    if "UP" not in link["flags"]:
        return "cut"
    return "slow" if link.get("qdisc") == "tbf" else "up"


def remove_host(host: str) -> None:
    """Kill a host and take it away, cable and all."""
    kill(host)
    _ip("netns", "delete", _namespace(host))
    # A namespace takes its end of the cable with it, but only once the kernel gets to it.
    subprocess.run(["ip", "link", "delete", _link(host)], capture_output=True, check=False)


def remove_bridge() -> None:
    """The bridge taken away; none there is no error."""
    subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)
