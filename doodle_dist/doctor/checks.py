"""The doctor's judgement: pure functions from facts (and the experiment that is to run) to findings."""

from doodle_dist.config.experiment import Experiment
from doodle_dist.doctor.check_files import check_data, check_storage
from doodle_dist.doctor.check_network import check_clocks, check_interfaces, check_links
from doodle_dist.doctor.check_ray import (
    check_dashboard,
    check_gpus,
    check_nodes,
    check_resources,
    check_token,
    check_versions,
)
from doodle_dist.doctor.check_room import check_disks, check_object_store, check_shared_memory, check_window
from doodle_dist.doctor.facts import ClusterFacts, DataFacts
from doodle_dist.doctor.findings import Finding
from doodle_dist.reading import who_reads


def check(facts: ClusterFacts, experiment: Experiment) -> list[Finding]:
    """Every finding about a cluster on which ``experiment`` is to run, in the order in which to mend them."""
    findings = [
        *check_nodes(facts),
        *check_versions(facts),
        *check_resources(facts),
        *check_gpus(facts, experiment),
        *check_token(facts),
        *check_dashboard(facts),
        *check_storage(facts),
        *check_data(facts),
        *check_interfaces(facts, experiment),
        *check_links(facts),
        *check_clocks(facts),
        *check_shared_memory(facts),
        *check_disks(facts),
    ]
    if _is_read_by_tasks(experiment, facts):
        findings += [*check_object_store(facts, experiment), *check_window(experiment, _seen(facts))]
    return findings


def _seen(facts: ClusterFacts) -> DataFacts:
    """The dataset, as the first node saw it that could read it."""
    read = (node.data for node in facts.nodes if node.data and not node.data.error)
    return next(read, DataFacts())


def _is_read_by_tasks(experiment: Experiment, facts: ClusterFacts) -> bool:
    """Whether the dataset goes through Ray Data; a worker that reads for itself needs no room for that."""
    nodes = sum(node.ray_cpus > 0 for node in facts.nodes)
    return who_reads(experiment.data.read, experiment.data.rasterize, nodes) == "tasks"
