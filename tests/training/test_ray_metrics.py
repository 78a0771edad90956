"""A run's figures among Ray's metrics, as Prometheus would read them; and what the dashboard of cluster/ draws."""

import json
import logging
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import orjson
import pytest
import ray

from doodle_dist import log
from doodle_dist.training import ray_metrics
from doodle_dist.training.ray_metrics import DRAWINGS, GAUGES, LOSS, RayMetrics, telemetry

DASHBOARD = Path(__file__).parents[2] / "cluster" / "grafana" / "doodle-dist.json"


def served(run: str) -> list[str]:
    """The lines of a run at the endpoint of the Ray that is there, once it has them: it asks for them now and then."""
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    lines: list[str] = []
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            text = ""
        lines = [line for line in text.splitlines() if f'run="{run}"' in line]
        if all(any(f"ray_{name}{{" in line for line in lines) for name in (DRAWINGS, LOSS)):
            break
        time.sleep(0.2)
    return lines


class Recorder:
    """Stands in for a Ray metric: what was set, and with which tags."""

    made: ClassVar[dict[str, "Recorder"]] = {}

    def __init__(self, name: str, **_: object) -> None:
        self.values: list[tuple[float, dict[str, str]]] = []
        self.made[name] = self

    def set_default_tags(self, tags: dict[str, str]) -> None:
        self.tags = tags

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        self.values.append((value, self.tags | (tags or {})))

    inc = set


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Recorder]]:
    monkeypatch.setattr(Recorder, "made", {})
    monkeypatch.setattr(ray_metrics, "Gauge", Recorder)
    monkeypatch.setattr(ray_metrics, "Counter", Recorder)
    root, handlers, bound = logging.getLogger(), list(logging.getLogger().handlers), dict(log._bound)
    yield Recorder.made
    root.handlers = handlers
    log._bound.clear()
    log._bound.update(bound)


def test_figures_are_set_counted_from_where_this_start_began_and_nan_is_left_out(
    made: dict[str, Recorder],
) -> None:
    metrics = RayMetrics("judge")
    metrics({"drawings_seen": 5000, "loss/critic": 0.5, "loss/generator": float("nan"), "val/top1": 0.9})
    metrics({"drawings_seen": 5000, "total": 9000})
    metrics({"drawings_seen": 5640, "speed/drawings_per_s": 64.0})
    assert made[DRAWINGS].values == [(640, {"run": "judge"})]
    assert made[LOSS].values == [(0.5, {"run": "judge", "name": "critic"})]
    assert [value for value, _ in made["doodle_drawings_per_s"].values] == [64.0]
    assert [value for value, _ in made["doodle_drawings_wanted"].values] == [9000]


def test_only_rank_0_sets_metrics_and_every_rank_tells_its_step(
    made: dict[str, Recorder], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOODLE_LOG", "json")
    heard: list[dict[str, float]] = []
    figures = {"drawings_seen": 640.0, "step": 10.0, "loss/critic": 0.5}
    telemetry("judge", 1, heard.append)(figures)
    assert heard == [figures]
    assert made == {}
    said = orjson.loads(capsys.readouterr().err.splitlines()[-1])
    assert (said["run"], said["rank"], said["step"], said["loss/critic"]) == ("judge", 1, 10, 0.5)
    telemetry("judge", 0, heard.append)(figures)
    assert made[LOSS].values


@pytest.mark.cluster
@pytest.mark.usefixtures("local_ray")
def test_prometheus_reads_them_from_rays_own_endpoint() -> None:
    metrics = RayMetrics("served")  # as no other run on this Ray is named
    for seen in (100, 350, 1000):
        metrics(
            {
                "drawings_seen": seen,
                "total": 4000,
                "speed/drawings_per_s": 250.0,
                "loss/critic": 0.5,
                "loss/generator": float("nan"),
            }
        )
    lines, values = served("served"), {}
    for line in lines:
        if found := re.match(r"(ray_\w+)\{.*\} (\S+)$", line):
            values[found[1]] = float(found[2])
    assert values["ray_doodle_drawings_per_s"] == 250.0
    assert values["ray_doodle_drawings_seen"] == 1000.0
    assert values["ray_doodle_drawings_wanted"] == 4000.0
    assert values["ray_doodle_drawings_total"] == 900.0
    assert values["ray_doodle_loss"] == 0.5
    assert any('name="critic"' in line for line in lines)
    assert not any('name="generator"' in line for line in lines)


def test_the_dashboard_draws_what_is_served_and_nothing_else() -> None:
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    asked = {name for query in queries for name in re.findall(r"ray_doodle_\w+", query)}
    assert asked == {f"ray_{name}" for name in (*GAUGES, LOSS, DRAWINGS)}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "run"]
