"""What a command says of a cluster that is too small for it, and how long it waits for one that grows."""

import pytest

from doodle_dist import ray_cluster
from doodle_dist.ray_cluster import Need, NotEnoughResourcesError, check_resources

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

    def request_resources(self, bundles: list[dict[str, float]]) -> None:
        self.asked.append(bundles)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Autoscaler:
    cluster = Autoscaler(limit=4)
    monkeypatch.setattr(ray_cluster.ray, "cluster_resources", cluster.cluster_resources)
    monkeypatch.setattr(ray_cluster, "request_resources", cluster.request_resources)
    monkeypatch.setattr(ray_cluster.time, "sleep", lambda _: None)
    return cluster


@pytest.mark.parametrize("need", [DATA_ONLY, Need(3, 1, 0)])
def test_nodes_that_come_up_from_zero_are_asked_for_and_waited_for(cluster: Autoscaler, need: Need) -> None:
    check_resources(need, 60)
    assert cluster.asked == [need.bundles, []], "asked for once, and not kept for ever"


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
