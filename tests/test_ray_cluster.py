"""What a command says of a cluster that is too small for it, and how long it waits for one that grows."""

import os
import signal

import pytest

from doodle_dist import ray_cluster
from doodle_dist.config.experiment import whole_workers
from doodle_dist.config.load import load_experiment
from doodle_dist.ray_cluster import Need, NotEnoughResourcesError, check_resources, need_of

DATA_ONLY = Need(workers=0, cpus_per_worker=0, gpus_per_worker=0)


class Autoscaler:
    """A cluster that has what it was last asked for, in one of its later answers; ``limit`` CPUs at most."""

    def __init__(self, limit: float) -> None:
        self.limit, self.have, self.asked = limit, 0.0, []

    def cluster_resources(self) -> dict[str, float]:
        answer = {"CPU": self.have} if self.have else {}
        if self.asked:
            self.have = min(sum(bundle["CPU"] for bundle in self.asked[-1]), self.limit)
        return answer

    def nodes(self) -> list[dict[str, object]]:
        return [{"Alive": True, "Resources": self.cluster_resources()}]

    def request_resources(self, bundles: list[dict[str, float]]) -> None:
        self.asked.append(bundles)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Autoscaler:
    cluster = Autoscaler(limit=4)
    monkeypatch.setattr(ray_cluster.ray, "cluster_resources", cluster.cluster_resources)
    monkeypatch.setattr(ray_cluster.ray, "nodes", cluster.nodes)
    monkeypatch.setattr(ray_cluster, "request_resources", cluster.request_resources)
    monkeypatch.setattr(ray_cluster.time, "sleep", lambda _: None)
    return cluster


@pytest.mark.parametrize("need", [DATA_ONLY, Need(3, 1, 0)])
def test_nodes_that_come_up_from_zero_are_asked_for_and_waited_for(cluster: Autoscaler, need: Need) -> None:
    check_resources(need, 60)
    *asked, last = cluster.asked
    assert asked
    assert all(bundles == need.bundles for bundles in asked)
    assert last == [], "not kept for ever"


def test_what_another_run_takes_back_is_asked_for_again(
    cluster: Autoscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced_at_first(bundles: list[dict[str, float]]) -> None:
        cluster.request_resources(bundles)
        if len(cluster.asked) == 1:
            cluster.request_resources([])

    monkeypatch.setattr(ray_cluster, "request_resources", replaced_at_first)
    check_resources(Need(3, 1, 0), 2)


def test_a_terminal_that_closes_takes_back_what_was_asked_for(
    cluster: Autoscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = Need(8, 1, 0)  # more than the cluster grows to
    monkeypatch.setattr(ray_cluster.time, "sleep", lambda _: signal.raise_signal(signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, deaf := lambda *_: None)
    try:
        with pytest.raises(KeyboardInterrupt):
            check_resources(need, 0.2)
        assert signal.getsignal(signal.SIGHUP) is deaf
    finally:
        signal.signal(signal.SIGHUP, before)
    assert cluster.asked == [need.bundles, []]


def test_without_waiting_nothing_is_asked_for(cluster: Autoscaler) -> None:
    with pytest.raises(NotEnoughResourcesError):
        check_resources(DATA_ONLY, 0)
    assert cluster.asked == []


def test_the_advice_is_what_the_command_has(cluster: Autoscaler) -> None:
    with pytest.raises(NotEnoughResourcesError) as error:
        check_resources(DATA_ONLY, 0)
    assert str(error.value) == (
        "Ray Data takes 1 CPU at least, and the cluster has 0 CPUs and 0 GPUs; "
        "add a node, or let it grow and give --wait SECONDS"
    )
    with pytest.raises(NotEnoughResourcesError, match=r"ask for fewer workers .*--wait SECONDS"):
        check_resources(Need(8, 1, 0), 0)


def test_a_worker_takes_what_it_takes_of_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}}] * 5
    nodes.append({"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}})
    monkeypatch.setattr(ray_cluster.ray, "cluster_resources", lambda: {"CPU": 10.0, "GPU": 5.0})
    monkeypatch.setattr(ray_cluster.ray, "nodes", lambda: nodes)
    check_resources(Need(4, 2, 1))
    with pytest.raises(NotEnoughResourcesError) as error:
        check_resources(Need(2, 4, 0))
    assert str(error.value) == (
        "--workers 2: a worker takes 4 CPUs of one node, and the cluster's nodes have no room for 2 such; "
        "ask for fewer workers or --cpus per worker, or let it grow and give --wait SECONDS"
    )
    with pytest.raises(NotEnoughResourcesError, match="a worker takes 1 CPUs and 2 GPUs of one node"):
        check_resources(Need(2, 1, 2))


def test_a_cluster_that_fits_to_the_last_cpu_is_not_refused_for_a_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need = Need(25, 2.2, 0)
    assert need.cpus > 56, "by a rounding"
    monkeypatch.setattr(ray_cluster.ray, "cluster_resources", lambda: {"CPU": 56.0})
    monkeypatch.setattr(ray_cluster.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 56.0}}])
    check_resources(need)


@pytest.mark.parametrize(
    ("gpus", "each", "fit"), [(2, 0.4, 4), (1, 0.1, 10), (8, 1, 8), (8, 3, 2), (0, 0.5, 0)]
)
def test_a_share_of_a_gpu_is_of_one_gpu(gpus: float, each: float, fit: int) -> None:
    assert whole_workers(100, gpus, 1, each) == fit


def test_ray_data_s_cpu_is_counted_where_its_tasks_ask_for_one() -> None:
    def asked(*settings: str) -> Need:
        return need_of(load_experiment("classifier-small", settings))

    one, several, headless = [{"CPU": 2.0}], [{"CPU": 2.0}, {"CPU": 2.0}], [{"GPU": 0.0}, {"CPU": 2.0}]

    def cpus(*settings: str) -> tuple[float, ...]:
        return tuple(
            asked("scaling.workers=2", *settings).on(nodes).cpus for nodes in (one, several, headless)
        )

    assert cpus() == (2, 3, 2), "the workers read where one node has all CPUs"
    assert cpus("data.read=tasks") == cpus("data.rasterize=tasks") == (3, 3, 3)
    assert cpus("data.read=worker") == (2, 2, 2)
    assert asked("scaling.workers=4", "scaling.workers_min=2").cpus == 2


def test_a_ray_that_is_started_here_keeps_idle_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a person has it otherwise."""
    name, seen = "RAY_idle_worker_killing_time_threshold_ms", []
    monkeypatch.setattr(ray_cluster.ray, "init", lambda **_: seen.append(os.environ[name]))
    monkeypatch.setenv(name, "5000")
    ray_cluster._join_or_start(DATA_ONLY, True, False, False)
    monkeypatch.delenv(name)
    ray_cluster._join_or_start(DATA_ONLY, True, False, False)
    assert seen == ["5000", "60000"]
