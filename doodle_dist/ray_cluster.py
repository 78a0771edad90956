"""Finding a Ray cluster or starting one on this machine, and saying at once where one is too small."""

import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import FrameType

import ray
from ray.autoscaler.sdk import request_resources

from doodle_dist.config.experiment import ROUNDING, Experiment, whole_workers
from doodle_dist.log import say
from doodle_dist.reading import who_reads

# Ray Data's tasks need a CPU of their own beside the workers, or the workers wait for data for ever.
DATA_CPUS = 1.0


class NotEnoughResourcesError(ValueError):
    """The cluster can't run what was asked for."""


@dataclass(frozen=True)
class Need:
    """What a run takes of a cluster."""

    workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    data_cpus: float = DATA_CPUS  # 0 where Ray Data has no part in it
    data_nodes: int = 1  # it has a part in it where at least so many nodes have CPUs

    @property
    def cpus(self) -> float:
        return self.workers * self.cpus_per_worker + self.data_cpus

    @property
    def gpus(self) -> float:
        return self.workers * self.gpus_per_worker

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What has to fit on one node each: the workers, and Ray Data's tasks."""
        worker = {"CPU": self.cpus_per_worker} | (
            {"GPU": self.gpus_per_worker} if self.gpus_per_worker else {}
        )
        return [worker] * self.workers + ([{"CPU": self.data_cpus}] if self.data_cpus else [])

    def on(self, nodes: Iterable[Mapping[str, float]]) -> "Need":
        """What the run takes of a cluster of nodes of these resources."""
        with_cpus = sum(node.get("CPU", 0.0) > 0 for node in nodes)
        return self if max(with_cpus, 1) >= self.data_nodes else replace(self, data_cpus=0.0)

    def has_room(self, nodes: Iterable[Mapping[str, float]]) -> bool:
        """Whether nodes of these resources hold all workers, each whole on one node."""
        if not self.workers:
            return True
        each = self.cpus_per_worker, self.gpus_per_worker
        fit = sum(whole_workers(node.get("CPU", 0.0), node.get("GPU", 0.0), *each) for node in nodes)
        return fit >= self.workers

    def __str__(self) -> str:
        if not self.workers:
            return f"Ray Data takes {DATA_CPUS:g} CPU at least"
        gpus = f" and {self.gpus:g} GPUs" if self.gpus else ""
        data = f", and {self.data_cpus:g} for Ray Data," if self.data_cpus else ""
        return f"{self.workers} workers of {self.cpus_per_worker:g} CPUs{data} take {self.cpus:g} CPUs{gpus}"


def need_of(experiment: Experiment) -> Need:
    """What a run takes. Ray Data's tasks ask for no CPU where workers read, or take every CPU as a cluster grows."""
    scaling, data = experiment.scaling, experiment.data
    by_nodes = [who_reads(data.read, data.rasterize, nodes) == "tasks" for nodes in (1, 2)]
    return Need(
        scaling.least_workers,
        scaling.cpus_per_worker,
        scaling.gpus_per_worker,
        data_cpus=DATA_CPUS if any(by_nodes) and not scaling.is_elastic else 0.0,
        data_nodes=1 if all(by_nodes) else 2,
    )


def connect(need: Need, *, local: bool, debug: bool = False, dashboard: bool = False) -> bool:
    """Connect to the cluster of RAY_ADDRESS or on this machine; without one, or ``local``, start one.

    A Ray of our own has as many CPUs as the run needs of one node, at least as many as the machine: on a small
    laptop the workers share its cores. ``dashboard`` starts Ray's dashboard with it. True where it is our own.
    """
    is_ours = not ray.is_initialized() and _join_or_start(need, local, debug, dashboard)
    if not debug:
        quiet_ray_data()
    if is_ours:
        _start_autoscaling_coordinator()
    return is_ours


def _join_or_start(need: Need, local: bool, debug: bool, dashboard: bool) -> bool:
    """True where a Ray was started here."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    if not local and (address := _started_cluster()):
        _refuse_dead_address(address)
        try:
            ray.init(address=address, **_quiet(debug))
        except ConnectionError:
            raise ValueError(
                f"the Ray cluster at {address} does not let us in; is it up, and are RAY_AUTH_MODE and the "
                "token the same on both sides?"
            ) from None
        return False
    cores = os.cpu_count() or 1
    cpus = max(cores, math.ceil(need.on([{"CPU": cores}]).cpus - ROUNDING))
    # No node of it is about to be taken away: a process less, which would look out for that.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    # What is started here outlives the terminal: a run can be saved before it ends.
    with _on_hangup(signal.SIG_IGN):
        start_ray(cpus, debug=debug, dashboard=dashboard)
    return True


def _quiet(debug: bool) -> dict[str, bool | str]:
    return {"log_to_driver": debug, "logging_level": "INFO" if debug else "ERROR"}


def start_ray(cpus: int, *, debug: bool = False, dashboard: bool = False) -> None:
    """Start a Ray of this process's own, which keeps task processes that have nothing to do for a minute.

    Of those that had nothing to do for a second it would keep no more than it has free CPUs: few, where workers have
    the others. Ray Data's tasks come in bursts, and a process takes seconds of a core to start.
    """
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")
    ray.init(address="local", num_cpus=cpus, include_dashboard=dashboard, **_quiet(debug))


@contextmanager
def _on_hangup(do: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    """``do`` it where the terminal closes meanwhile; not under nohup, nor off the main thread, which alone may say."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGHUP, do)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _refuse_dead_address(address: str) -> None:
    """Raise ValueError at once where nothing listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "://" in address:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise ValueError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); RAY_ADDRESS names it"
        ) from None


def _started_cluster() -> str | None:
    """The cluster of RAY_ADDRESS, or the one that `ray start` made on this machine, while it runs.

    Not ray.init(address="auto"): that joins any Ray it finds, such as another person's `--local` run.
    """
    from ray._private import services

    if address := os.environ.get("RAY_ADDRESS"):
        return address
    noted = services.find_bootstrap_address(None)
    return noted if noted in services.find_gcs_addresses() else None


def _start_autoscaling_coordinator() -> None:
    """Start the actor that Ray Train and Ray Data both ask for room, while other things start.

    Ray Train's controller would start it, and wait for it, before it starts the workers: 3 s on two cores. Nothing is
    lost where a Ray keeps it elsewhere.
    """
    with suppress(ImportError, AttributeError):
        from ray.data._internal.cluster_autoscaler import get_or_create_autoscaling_coordinator

        get_or_create_autoscaling_coordinator()


def quiet_ray_data() -> None:
    """Keep Ray Data's progress bars and plans out of our own output; warnings stay.

    Errors of its tasks come to us as they were raised, and are said once, by whoever catches them.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    context.raise_original_map_exception = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # "Progress bars disabled. …"
    for name in ("ray.data.exceptions", "ray.data._internal.execution.streaming_executor_state"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def nodes_of_cluster() -> list[dict[str, float]]:
    """The resources of each node that is alive, taken or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def say_of_idle_gpus(how: str) -> None:
    """What is trained takes no GPU: say so where the cluster has some, and ``how`` they are taken."""
    if gpus := ray.cluster_resources().get("GPU"):
        say(f"training on CPUs: the cluster has {gpus:g} GPUs, and {how}")


@_on_hangup(signal.default_int_handler)  # as Ctrl-C: what was asked of an autoscaler is taken back
def check_resources(need: Need, wait_s: float = 0.0) -> None:
    """Raise NotEnoughResourcesError where the cluster can't hold ``need``, after ``wait_s`` for an autoscaler."""
    deadline = time.monotonic() + wait_s
    asked = False
    try:
        while True:
            have, nodes = ray.cluster_resources(), nodes_of_cluster()
            cpus, gpus = have.get("CPU", 0.0), have.get("GPU", 0.0)
            now = need.on(nodes)
            is_enough = cpus + ROUNDING >= now.cpus and gpus + ROUNDING >= now.gpus
            if is_enough and now.has_room(nodes):
                return
            if time.monotonic() >= deadline:
                break
            say(f"waiting for an autoscaler: {need}; the cluster has {cpus:g} CPUs and {gpus:g} GPUs")
            # An autoscaler adds nodes for what it is asked for, and for nothing else. A cluster holds one such request:
            # another run that waits replaces this one, and takes it back.
            asked = True
            request_resources(bundles=need.bundles)
            time.sleep(min(10.0, max(0.1, deadline - time.monotonic())))
    finally:
        if asked:
            request_resources(bundles=[])  # a standing request would keep the nodes after the run
    asked_for = f"--workers {need.workers}: " if need.workers else ""
    mend = "ask for fewer workers or --cpus per worker" if need.workers else "add a node"
    lacking = f"{now}, and the cluster has {cpus:g} CPUs and {gpus:g} GPUs"
    if is_enough:
        share = f" and {need.gpus_per_worker:g} GPUs" if need.gpus_per_worker else ""
        lacking = (
            f"a worker takes {need.cpus_per_worker:g} CPUs{share} of one node, and the cluster's nodes have no room "
            f"for {need.workers} such"
        )
    raise NotEnoughResourcesError(f"{asked_for}{lacking}; {mend}, or let it grow and give --wait SECONDS")
