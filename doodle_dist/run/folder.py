"""What a run's folder says, on a disk or in an object store. Without torch.

A run's folder explains itself: `config.toml`, every setting; `metrics.jsonl`, its figures against drawings seen;
`events.jsonl`, its starts, checkpoints, warnings and ends; `checkpoint_*/`, each with a snapshot; `samples/`, the
grids of its way; `tensorboard/`; `stopped.json`, why it stopped itself; `report.html`, where one was made.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import ConfigError, from_toml
from doodle_dist.data import locations, storage
from doodle_dist.data.jsonl import read_lines
from doodle_dist.run.checkpoints import complete_checkpoints, saved_experiment, standing
from doodle_dist.run.files import CONFIG, EVENTS, META, METRICS_LOG, STOPPED, AboutData
from doodle_dist.run.stopped import noted_reason

_MARKS = (CONFIG, METRICS_LOG, STOPPED)


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint of a run: where it is, and the metrics that it was made with."""

    uri: str
    drawings_seen: int
    score: float | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class RunInfo:
    """A run as its folder describes it. ``drawings`` is its length; 0 for what is not known yet."""

    uri: str
    name: str
    task: str
    preset: str
    drawings_seen: int
    drawings: int
    categories: tuple[str, ...]
    data: str
    data_sha256: str
    stopped: str
    checkpoints: tuple[CheckpointInfo, ...]
    figures: dict[str, float] = field(default_factory=dict)  # the newest of each name
    files: dict[str, int] = field(default_factory=dict)  # how many lie in each folder, and at the top

    @property
    def best(self) -> CheckpointInfo | None:
        """The checkpoint that commands take by default: the best by score, else the latest."""
        return max(self.checkpoints, key=lambda one: standing(one.score, one.drawings_seen), default=None)


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, read once: what it says, the experiment (None where it says none), the newest checkpoint's META
    and the lines of its metrics.jsonl."""

    info: RunInfo
    experiment: Experiment | None
    meta: dict[str, Any]
    log: list[dict[str, float]]


def read_metrics_log(run: str) -> list[dict[str, float]]:
    """The lines of a run's metrics.jsonl in order; none where there is none.

    A line cut short by a crash is left out.
    """
    return [line for line in read_lines(locations.join(run, METRICS_LOG)) if "drawings_seen" in line]


def read_events(run: str) -> list[dict[str, Any]]:
    """The lines of a run's events.jsonl in order, of all its starts; none where there is none.

    Each has ``event``, ``at`` (seconds since 1970) and ``drawings_seen``; what lacks one of them is left out.
    """
    kinds = {"event": str, "at": int | float, "drawings_seen": int | float}
    return [
        line
        for line in read_lines(locations.join(run, EVENTS))
        if all(isinstance(line.get(name), kind) for name, kind in kinds.items())
    ]


def find_runs(where: str) -> list[str]:
    """The runs at ``where`` or below it, sorted: folders with a checkpoint or another file of a run.

    Raises ValueError where there is none.
    """
    suffixes = (META, *_MARKS)
    files = storage.list_files(where, suffixes, recursive=True, missing_ok=True)
    found = set()
    for folder, name in ((file.uri.rpartition("/")[0], locations.basename(file.uri)) for file in files):
        if name == META:
            found.add(folder.rpartition("/")[0])
        elif name in _MARKS:
            found.add(folder)
    if not found:
        raise ValueError(
            f"{locations.public(where)} holds no runs; `doodle-dist train --storage` puts them there"
        )
    return sorted(found)


def read_run(uri: str) -> RunInfo:
    """What the folder of a run says. Raises ValueError where it is none, or is damaged."""
    return read_folder(uri).info


def read_folder(uri: str) -> RunFolder:
    """The folder of a run. Raises ValueError where it is none, or is damaged."""
    if not storage.exists(uri):
        raise ValueError(f"{locations.public(uri)} is no run: there is nothing")
    files = [file.uri[len(uri.rstrip("/")) + 1 :] for file in storage.list_files(uri, recursive=True)]
    if not any(file in _MARKS or file.endswith(f"/{META}") for file in files):
        raise ValueError(f"{locations.public(uri)} is no run: it has neither a checkpoint nor a {CONFIG}")
    metas = sorted(complete_checkpoints(uri), key=lambda item: item[1]["metrics"].get("drawings_seen", 0))
    checkpoints = tuple(_checkpoint(where, meta["metrics"]) for where, meta in metas)
    log = read_metrics_log(uri)
    figures: dict[str, float] = {}
    seen = [*(dict(one.metrics) for one in checkpoints), *log]
    for line in seen:
        figures |= line
    experiment = _experiment(uri, metas, CONFIG in files)
    newest = metas[-1][1] if metas else {}
    data: AboutData = newest.get("data", {})
    info = RunInfo(
        uri=locations.public(uri),
        name=locations.basename(uri),
        task=experiment.task if experiment else "",
        preset=experiment.preset if experiment else "",
        drawings_seen=int(
            max((line["drawings_seen"] for line in seen if "drawings_seen" in line), default=0)
        ),
        drawings=_length(experiment, data.get("drawings", 0)),
        categories=tuple(newest.get("categories", ())),
        data=locations.public(experiment.data.uri) if experiment else "",
        data_sha256=data.get("manifest_sha256", ""),
        stopped=noted_reason(uri) if STOPPED in files else "",
        checkpoints=checkpoints,
        figures={name: value for name, value in figures.items() if name not in ("drawings_seen", "step")},
        files=_counted(files),
    )
    return RunFolder(info, experiment, newest, log)


def _checkpoint(uri: str, metrics: dict[str, float]) -> CheckpointInfo:
    return CheckpointInfo(uri, int(metrics.get("drawings_seen", 0)), metrics.get("score"), metrics)


def _experiment(uri: str, metas: list[tuple[str, dict[str, Any]]], has_config: bool) -> Experiment | None:
    if (experiment := saved_experiment(metas)) is not None or not has_config:
        return experiment
    where = locations.join(uri, CONFIG)
    try:
        return from_toml(storage.read_bytes(where).decode())
    except (ConfigError, UnicodeDecodeError) as error:
        raise ValueError(f"{where}: {error}") from None


def _length(experiment: Experiment | None, rows: int) -> int:
    if experiment is None or (experiment.train.drawings is None and not rows):
        return 0
    return experiment.train.total_drawings(rows)


def _counted(files: Iterable[str]) -> dict[str, int]:
    """Files at the top as themselves, folders with a slash and how many files are below them."""
    counts: dict[str, int] = {}
    for file in sorted(files):
        top, below, _ = file.partition("/")
        counts[top + below] = counts.get(top + below, 0) + 1
    return counts
