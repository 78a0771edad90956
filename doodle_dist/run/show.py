"""`doodle-dist runs list` and `runs show`: what runs' folders say, for a person or a program."""

from collections.abc import Sequence
from dataclasses import asdict

import orjson

from doodle_dist.data import locations
from doodle_dist.run.folder import find_runs, read_run


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
