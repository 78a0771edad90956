"""What Ray itself is and offers: nodes, versions, resources, GPUs, token, dashboard."""

from collections.abc import Iterator

from doodle_dist.config.experiment import Experiment
from doodle_dist.doctor.facts import ClusterFacts, NodeFacts
from doodle_dist.doctor.findings import Finding


def check_nodes(facts: ClusterFacts) -> Iterator[Finding]:
    cpus = sum(node.ray_cpus for node in facts.nodes)
    gpus = sum(node.ray_gpus for node in facts.nodes)
    where = "a Ray of our own, on this machine" if facts.is_own else facts.address
    count = f"{len(facts.nodes)} node" + "s" * (len(facts.nodes) != 1)
    yield Finding("ok", "cluster", f"{where}: {count}, {cpus:g} CPUs, {gpus:g} GPUs")
    for address, reason in facts.silent_nodes.items():
        yield Finding(
            "error",
            "cluster",
            f"node {address} gives no answer: {reason}",
            "Ray counts it as alive and would put workers on it, which would never start",
            "look at its raylet.log and free memory; `ray stop` there, and start it again",
        )


def check_versions(facts: ClusterFacts) -> Iterator[Finding]:
    """Ray asks for one version of itself and of Python everywhere; pickled code for one of ours and of torch."""
    here = {"python": facts.python, **facts.versions}
    said = ", ".join(f"{name} {here[name]}" for name in ("python", "ray", "torch", "doodle_dist"))
    differing = False
    for node in facts.nodes:
        there = {"python": node.python, **node.versions}
        for name in ("python", "ray", "torch", "doodle_dist"):
            if there.get(name) == here[name]:
                continue
            differing = True
            yield _other_version(node, name, here[name], there.get(name, ""))
    if not differing:
        yield Finding("ok", "versions", f"{said}, here and on every node")


def _other_version(node: NodeFacts, name: str, here: str, there: str) -> Finding:
    said = f"{node.name} has {name} {there or 'not at all'}; here it is {here or 'not installed'}"
    install = "install the same on every node: pip install -c constraints.txt, or one image for all"
    if not there:
        return Finding("error", "versions", said, f"workers there can't import {name}", install)
    if name == "python":
        if here.split(".")[:2] == there.split(".")[:2]:
            return Finding("note", "versions", said, "a patch release apart: harmless")
        return Finding("error", "versions", said, "what one Python pickles the other can't read", install)
    if name == "torch":
        means = "ranks of two torch versions may not talk, and a checkpoint of one may not load in the other"
        return Finding("warning", "versions", said, means, install)
    return Finding("error", "versions", said, "driver and workers would run different code", install)


def check_resources(facts: ClusterFacts) -> Iterator[Finding]:
    if facts.shortage:
        yield Finding(
            "error",
            "resources",
            facts.shortage.partition(";")[0],
            "the run would be refused before it starts",
            "ask for fewer --workers or --cpus per worker, add nodes, or let an autoscaler add them: --wait SECONDS",
        )


def check_gpus(facts: ClusterFacts, experiment: Experiment) -> Iterator[Finding]:
    for node in facts.nodes:
        if node.torch_error and node.versions.get("torch"):
            yield Finding(
                "error",
                "GPU",
                f"{node.name}: torch can't be imported: {node.torch_error}",
                "no worker can start there",
                "install torch again there, for that machine's CUDA or for CPUs",
            )
        elif node.ray_gpus > len(node.torch_gpus):
            built = f"built for CUDA {node.torch_cuda}" if node.torch_cuda else "built for CPUs only"
            yield Finding(
                "error" if experiment.scaling.gpus_per_worker else "warning",
                "GPU",
                f"{node.name}: Ray counts {node.ray_gpus:g} GPUs and torch, {built}, sees {len(node.torch_gpus)}",
                "a worker that is given such a GPU fails at its first tensor",
                "install a torch built for the driver's CUDA (nvidia-smi shows it), or start Ray with the "
                "--num-gpus that there are",
            )
        elif len(node.torch_gpus) > node.ray_gpus:
            yield Finding(
                "warning",
                "GPU",
                f"{node.name}: torch sees {len(node.torch_gpus)} GPUs and Ray counts {node.ray_gpus:g}",
                "workers won't be given the others",
                "start Ray there without --num-gpus and CUDA_VISIBLE_DEVICES, or ask for the GPUs in the pod",
            )
        elif node.torch_gpus:
            kinds = ", ".join(sorted(set(node.torch_gpus)))
            yield Finding("ok", "GPU", f"{node.name}: {len(node.torch_gpus)} × {kinds}")
    if not any(node.ray_gpus or node.torch_gpus for node in facts.nodes):
        yield Finding("note", "GPU", "no node has one", "training runs on CPUs")
    elif not experiment.scaling.gpus_per_worker:
        yield Finding(
            "note", "GPU", "the run asks for none", "it would train on CPUs: --gpus 1 asks for one each"
        )


def check_token(facts: ClusterFacts) -> Iterator[Finding]:
    on = facts.auth_mode == "token"
    if facts.is_own:
        return
    if on and facts.has_token:
        yield Finding("ok", "token", "RAY_AUTH_MODE=token, and there is a token")
    elif on:
        yield Finding(
            "error",
            "token",
            "RAY_AUTH_MODE=token, and there is no token",
            "the cluster lets nobody in without one",
            "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or `ray get-auth-token --generate` before the cluster starts",
        )
    else:
        yield Finding(
            "warning",
            "token",
            "RAY_AUTH_MODE is not token",
            "whoever reaches the cluster's ports can run code on it",
            "export RAY_AUTH_MODE=token on every machine, and start the cluster again",
        )


def check_dashboard(facts: ClusterFacts) -> Iterator[Finding]:
    seen = facts.dashboard
    if facts.is_own:
        return
    if not seen.url:
        yield Finding(
            "warning",
            "dashboard",
            "the cluster has none",
            "`ray job submit` and the metrics need it, and trials that end early leak their placement groups",
            "pip install 'ray[default]' on the head, and start it without --include-dashboard=false",
        )
        return
    if not seen.status:
        yield Finding(
            "warning",
            "dashboard",
            f"{seen.url} does not answer: {seen.error}",
            "`ray job submit` won't work from here; training started here will",
            "start the head with --dashboard-host, or forward its port: ssh -L 8265:127.0.0.1:8265 head",
        )
        return
    if seen.status in (401, 403):
        yield Finding(
            "error",
            "dashboard",
            f"{seen.url} refuses the token",
            "`ray job submit` won't work from here",
            "use the token that the head was started with (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token)",
        )
        return
    if seen.status_without_token in (401, 403):
        yield Finding("ok", "dashboard", f"{seen.url}, and it asks for the token")
        return
    loopback = "//127." in seen.url or "//localhost" in seen.url
    yield Finding(
        "note" if loopback else "warning",
        "dashboard",
        f"{seen.url} asks nobody for a token",
        "whoever reaches it can run code on the cluster" + (": on this machine only" if loopback else ""),
        "start the cluster with RAY_AUTH_MODE=token, or let it listen on 127.0.0.1 only",
    )
