"""`doodle-dist runs list` and `runs show`: what a run's folder says, on a disk or in an object store.

A run's folder explains itself: `config.toml`, every setting; `metrics.jsonl`, its figures against drawings seen;
`events.jsonl`, its starts, checkpoints, warnings and ends; `checkpoint_*/`, each with a snapshot; `samples/`, the
grids of its way; `tensorboard/`; `stopped.json`, why it stopped itself; `report.html`, where one was made.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import ConfigError, from_toml
from doodle_dist.data import locations, storage
from doodle_dist.data.jsonl import read_lines
from doodle_dist.run.checkpoints import rank
from doodle_dist.run.files import META
from doodle_dist.run.snapshot import complete_checkpoints, saved_experiment

# What the trainer writes into a run's folder beside its checkpoints. STOPPED is written where a run stopped itself:
# the driver reads it, and the next start of the run takes its reason out.
CONFIG, METRICS_LOG, STOPPED = "config.toml", "metrics.jsonl", "stopped.json"
EVENTS = "events.jsonl"
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
        return max(self.checkpoints, key=lambda one: rank(one.score, one.drawings_seen), default=None)


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


def noted_reason(run: str) -> str:
    """Why a run stopped itself; "" where it didn't."""
    where = locations.join(run, STOPPED)
    return orjson.loads(storage.read_bytes(where)).get("reason", "") if storage.exists(where) else ""


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
    data = newest.get("data", {})
    return RunInfo(
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


# --- what the commands print ----------------------------------------------------------------------------


def print_runs(where: str, *, as_json: bool) -> None:
    """`doodle-dist runs list`. A run whose folder is damaged is listed with what is wrong with it."""
    where = locations.absolute(where)
    rows, answers = [], []
    for uri in find_runs(where):
        name = uri[len(where.rstrip("/")) + 1 :] or locations.basename(uri)
        try:
            run = read_run(uri)
        except ValueError as error:
            rows.append((name, "damaged", "", "", "", "", str(error)))
            answers.append({"uri": locations.public(uri), "name": name, "damaged": str(error)})
            continue
        best = run.best
        answers.append({key: value for key, value in asdict(run).items() if key not in ("figures", "files")})
        score = "" if best is None or best.score is None else f"{best.score:.4f}"
        seen = f"{run.drawings_seen:,}" + (f" of {run.drawings:,}" if run.drawings else "")
        rows.append((name, run.task, run.preset, seen, str(len(run.checkpoints)), score, run.stopped[:60]))
    if as_json:
        print(orjson.dumps(answers).decode())
        return
    _print_table(("run", "task", "preset", "drawings seen", "checkpoints", "best score*", "stopped"), rows)
    if any(row[5] for row in rows):
        print("* higher is better: a classifier's top-1 accuracy, a GAN's Fréchet distance negated")


def print_run(run: str, *, as_json: bool) -> None:
    """`doodle-dist runs show`."""
    info = read_run(locations.absolute(run))
    if as_json:
        print(orjson.dumps(asdict(info)).decode())
        return
    length = f" of {info.drawings:,}" if info.drawings else ""
    shown = ", ".join(info.categories[:12]) + (" …" if len(info.categories) > 12 else "")
    lines = {
        "run": info.uri,
        "trains": f"{info.task}, preset {info.preset}" if info.task else "",
        "on": info.data,
        "manifest": info.data_sha256 and f"sha256 {info.data_sha256}",
        "categories": f"{len(info.categories)}: {shown}" if info.categories else "",
        "drawings": f"{info.drawings_seen:,} seen{length}",
        "stopped": info.stopped,
        "holds": ", ".join(f"{name} ({n})" if name.endswith("/") else name for name, n in info.files.items()),
    }
    for name, text in lines.items():
        if text:
            print(f"{name:12}{text}")
    if info.checkpoints:
        print()
        rows = [
            (
                locations.basename(one.uri) + (" (best)" if one is info.best else ""),
                f"{one.drawings_seen:,}",
                "" if one.score is None else f"{one.score:.4f}",
            )
            for one in info.checkpoints
        ]
        _print_table(("checkpoint", "drawings seen", "score"), rows)
    figures = {name: value for name, value in info.figures.items() if not name.startswith("val_category/")}
    if figures:
        print("\nnewest figures")
        for name, value in sorted(figures.items()):
            print(f"  {name:36}" + ("not finite" if value is None else _figure(value)))


def _figure(value: float) -> str:
    """Four decimals, or three digits of what they would round away: a learning rate, say."""
    return f"{value:.3g}" if 0 < abs(value) < 0.01 else f"{value:,.4f}"


def _print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they must be; one that is empty in all rows is left out."""
    kept = [k for k in range(len(head)) if any(row[k] for row in rows)]
    widths = [max(len(head[k]), *(len(row[k]) for row in rows)) for k in kept]
    for row in (head, *rows):
        print("  ".join(f"{row[k]:{width}}" for k, width in zip(kept, widths, strict=True)).rstrip())
