"""How many trials fit on which nodes."""

from types import SimpleNamespace

import pytest

from doodle_dist.ray_cluster import NotEnoughResourcesError
from doodle_dist.tuning import resources
from doodle_dist.tuning.resources import TrialResources, gpu_share, places

MANY = 1000


def trial(cpus: float = 1.0, gpus: float = 0.0, workers: int = 1, data_cpus: float = 0.0) -> TrialResources:
    return TrialResources(cpus, gpus, workers, data_cpus)


@pytest.mark.parametrize(
    ("resources", "nodes", "fit"),
    [
        (
            trial(cpus=3),
            [{"CPU": 4}, {"CPU": 4}],
            2,
        ),  # and not 8 // 3 of both together, which is the same here
        (trial(cpus=3), [{"CPU": 2}, {"CPU": 2}, {"CPU": 2}], 0),  # six CPUs in all, and no node with three
        (trial(cpus=2), [{"CPU": 3}, {"CPU": 3}], 2),  # not three
        (trial(gpus=0.4), [{"CPU": 16, "GPU": 2}], 4),  # not five: a share is of one GPU
        (trial(gpus=0.25), [{"CPU": 16, "GPU": 1}, {"CPU": 16}], 4),
        (trial(gpus=1), [{"CPU": 1, "GPU": 4}], 1),
        (trial(workers=2), [{"CPU": 1}, {"CPU": 1}, {"CPU": 1}], 1),  # a trial's workers may be on two nodes
        (trial(workers=4, cpus=2), [{"CPU": 3}, {"CPU": 3}], 0),
        # Ray Data's CPU is taken where it stands in nobody's way.
        (trial(cpus=2, data_cpus=1), [{"CPU": 3}, {"CPU": 2}], 2),
        (trial(data_cpus=1), [{"CPU": 1}, {"CPU": 1}], 1),
        (trial(data_cpus=1), [{"CPU": 0.5}], 0),
        (trial(cpus=0.1), [{"CPU": 1}], 10),
        (trial(), [{"GPU": 1}], 0),
        (trial(), [], 0),
    ],
)
def test_a_worker_is_on_one_node(resources: TrialResources, nodes: list[dict[str, float]], fit: int) -> None:
    assert resources.concurrent(nodes, MANY) == fit
    assert resources.concurrent(nodes, 1) == min(fit, 1)


@pytest.mark.parametrize(
    ("resources", "nodes", "said"),
    [
        (
            trial(cpus=8),
            [{"CPU": 4}, {"CPU": 4}, {"CPU": 6, "GPU": 1}],
            "one takes 8 CPUs, all on one node, and the cluster has 2 nodes of 4 CPUs and 1 node of 6 CPUs and 1 GPU",
        ),
        (
            trial(cpus=2, gpus=1, workers=3, data_cpus=1),
            [{"CPU": 4}],
            "3 workers of 2 CPUs and 1 GPU, each on one node, beside 1 CPU for Ray Data, and the cluster has 1 node",
        ),
    ],
)
def test_a_trial_that_fits_no_node_is_named(
    resources: TrialResources, nodes: list[dict[str, float]], said: str
) -> None:
    with pytest.raises(NotEnoughResourcesError) as error:
        places(resources, nodes, MANY)
    assert said in str(error.value)
    assert "--cpus" in str(error.value)


@pytest.mark.parametrize(
    ("needed_mb", "total_mb", "trials"),
    [
        (8_000, 10_000, 1),  # with the spare and CUDA's own context two don't fit
        (3_000, 80_000, 16),  # twenty would, and so many are enough
        (10_000, 80_000, 6),
        (90_000, 80_000, 1),  # it is tried all the same, on a whole GPU
    ],
)
def test_a_gpu_is_shared_in_equal_parts_that_hold_what_a_trial_needs(
    needed_mb: int, total_mb: int, trials: int
) -> None:
    assert gpu_share(needed_mb << 20, total_mb << 20) == pytest.approx(1 / trials)


def test_a_dataset_is_shared_in_memory_where_a_quarter_of_the_smallest_store_holds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def node(store: float, alive: bool = True) -> dict[str, object]:
        return {"Alive": alive, "Resources": {"object_store_memory": store}}

    plan = SimpleNamespace(rows=1000, bytes_of_drawing=784)
    quarter = 4 * 1000 * 784.0
    for nodes, fits in (
        ([node(quarter)], True),
        ([node(quarter - 4)], False),
        ([node(quarter), node(quarter - 4)], False),
        ([node(quarter), node(1.0, alive=False)], True),
        ([], False),
    ):
        monkeypatch.setattr(resources.ray, "nodes", lambda nodes=nodes: nodes)
        assert resources.fits_in_memory([plan]) is fits  # type: ignore[list-item]
    huge = SimpleNamespace(rows=3_000_000, bytes_of_drawing=784)
    monkeypatch.setattr(resources.ray, "nodes", lambda: [node(1e12)])
    assert not resources.fits_in_memory([huge]), "2 GiB at most"  # type: ignore[list-item]
