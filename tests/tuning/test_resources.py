"""How many trials fit on which nodes."""

import pytest

from doodle_dist.ray_cluster import NotEnoughResourcesError
from doodle_dist.tuning.resources import TrialResources, places

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
