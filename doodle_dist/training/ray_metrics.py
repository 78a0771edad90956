"""A run's figures as Ray's own metrics: every node's agent gives them to Prometheus beside Ray's, at /metrics.

The port is 8080 on the clusters of cluster/kuberay, aws.yaml and gcp.yaml. Elsewhere Ray takes any, or the one that
`ray start --metrics-export-port` names.

Names there, with Ray's prefix: ``ray_doodle_drawings_per_s``, ``ray_doodle_data_wait_fraction``, ``ray_doodle_loss``
(a series each, by ``name``), ``ray_doodle_drawings_seen``, ``ray_doodle_drawings_total`` (a counter: what this start
of the run has seen) and ``ray_doodle_drawings_wanted``; all have the label ``run``.
cluster/grafana/doodle-dist.json draws them.
"""

import math
from collections.abc import Callable

from ray.util.metrics import Counter, Gauge

from doodle_dist import log

# Name -> the loop's figure, and what Prometheus says of it.
GAUGES = {
    "doodle_drawings_per_s": ("speed/drawings_per_s", "drawings a second, over all workers"),
    "doodle_data_wait_fraction": ("speed/data_wait_fraction", "share of the time spent waiting for data"),
    "doodle_drawings_seen": ("drawings_seen", "drawings seen since the run's first start"),
    "doodle_drawings_wanted": ("total", "the run's length in drawings"),
}
LOSS, DRAWINGS = "doodle_loss", "doodle_drawings_total"


class RayMetrics:
    """Rank 0's metrics of a run; called with the loop's figures, it sets what is among them."""

    def __init__(self, run: str) -> None:
        tags = {"run": run}
        self.gauges = {}
        for name, (figure, about) in GAUGES.items():
            self.gauges[figure] = Gauge(name, description=about, tag_keys=("run",))
            self.gauges[figure].set_default_tags(tags)
        self.loss = Gauge(LOSS, description="losses, by name", tag_keys=("run", "name"))
        self.loss.set_default_tags(tags)
        # Ray appends nothing to a counter's name, and Prometheus' own custom is this ending.
        self.drawings = Counter(DRAWINGS, description="drawings seen by this start", tag_keys=("run",))
        self.drawings.set_default_tags(tags)
        self.seen: float | None = None

    def __call__(self, figures: dict[str, float]) -> None:
        """Set the metrics. What is not finite is left out: a NaN would make sums of it NaN for ever."""
        for name, value in figures.items():
            if value is None or not math.isfinite(value):
                continue
            if name in self.gauges:
                self.gauges[name].set(value)
            elif name.startswith("loss/"):
                self.loss.set(value, tags={"name": name.removeprefix("loss/")})
        seen = figures.get("drawings_seen")
        if seen is not None:
            if self.seen is not None and seen > self.seen:
                self.drawings.inc(seen - self.seen)
            self.seen = seen


def telemetry(
    run: str, rank: int, then: Callable[[dict[str, float]], object]
) -> Callable[[dict[str, float]], None]:
    """The loop's ``progress`` for a worker: Ray's metrics on rank 0, structured logs where asked for, and ``then``."""
    metrics = RayMetrics(run) if rank == 0 else None
    log.bind(run=run, rank=rank)
    is_json = log.wants_json()
    if is_json:
        log.use_json()

    def progress(figures: dict[str, float]) -> None:
        if metrics:
            metrics(figures)
        if is_json:
            log.bind(step=int(figures.get("step", 0)))
            log.tell("progress", figures)
        then(figures)

    return progress
