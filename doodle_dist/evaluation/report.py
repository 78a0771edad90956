"""`doodle-dist report`: all that a run's folder tells, as one HTML file that needs no network and no scripts."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import to_toml
from doodle_dist.data import locations, storage
from doodle_dist.evaluation import report_figures, report_training
from doodle_dist.evaluation.attempts import Attempt, attempts_of
from doodle_dist.evaluation.history import Curve, read_curves, sample_grids
from doodle_dist.evaluation.markup import Markup, anchor, el, facts, folded, page, section
from doodle_dist.evaluation.model_card import only_other_pictures
from doodle_dist.evaluation.report_style import STYLE
from doodle_dist.evaluation.results import EVALUATION, Evaluation, GanEvaluation, read_evaluation
from doodle_dist.run.files import CONFIG, AboutData
from doodle_dist.run.folder import RunFolder, RunInfo, read_events, read_folder

REPORT = "report.html"
_PNG = b"\x89PNG\r\n\x1a\n"
_MOMENTS = 6
_NAMED_CATEGORIES = 30


@dataclass(frozen=True)
class Material:
    """What a run's folder holds for its report.

    ``meta`` is what the newest checkpoint says of categories and data. ``samples`` are some of the run's grids
    (PNG) by drawings seen, the first and the last among them; ``pictures`` those of its evaluation and of the
    newest checkpoint, by name. ``config`` is TOML.
    """

    info: RunInfo
    experiment: Experiment | None
    config: str
    meta: dict[str, Any]
    curves: dict[str, Curve]
    attempts: list[Attempt]
    evaluation: Evaluation | None
    samples: dict[int, bytes]
    pictures: dict[str, bytes]


def write_report(run: str, output: str = "", *, price_per_hour: float | None = None) -> str:
    """Write the report of a run, local or in an object store, to ``output`` or into the run's folder; its URI.

    ``price_per_hour`` is of one worker. Raises ValueError where ``run`` is none, or holds a damaged file.
    """
    if price_per_hour is not None and not 0 <= price_per_hour < float("inf"):
        raise ValueError(
            f"--price-per-hour {price_per_hour:g}: should be 0 or more, what an hour of a worker costs"
        )
    if output and (output.endswith("/") or Path(output).is_dir()):
        raise ValueError(f"-o {output}: is a folder; should be a file's name, such as {REPORT}")
    uri = locations.absolute(run)
    where = locations.absolute(output) if output else locations.join(uri, REPORT)
    text = report(read_material(uri), price_per_hour)
    storage.write_atomic(where, text.encode())
    return where


def read_material(uri: str) -> Material:
    """Read a run's folder. Raises ValueError where it is no run's, or holds a damaged file."""
    folder = read_folder(uri)
    info = folder.info
    return Material(
        info=info,
        experiment=folder.experiment,
        config=_toml(uri, folder),
        meta=folder.meta,
        curves=_curves(uri, folder),
        attempts=attempts_of(read_events(uri)),
        evaluation=read_evaluation(uri) if EVALUATION in info.files else None,
        samples=_samples(uri, info),
        pictures=_pictures(uri, info),
    )


def _toml(uri: str, folder: RunFolder) -> str:
    """The experiment as TOML: the run's own file where it has one, which older runs have not."""
    if CONFIG in folder.info.files:
        return storage.read_bytes(locations.join(uri, CONFIG)).decode(errors="replace")
    return to_toml(folder.experiment) if folder.experiment else ""


def _curves(uri: str, folder: RunFolder) -> dict[str, Curve]:
    """Every figure against drawings seen, of metrics.jsonl, or of TensorBoard's files where there is none."""
    curves: dict[str, Curve] = {}
    for line in folder.log:
        for name, value in line.items():
            if name != "drawings_seen" and (value is None or isinstance(value, int | float)):
                curve = curves.setdefault(name, Curve([], []))
                curve.drawings.append(int(line["drawings_seen"]))
                curve.values.append(float("nan") if value is None else float(value))
    if not curves and "tensorboard/" in folder.info.files:
        with contextlib.suppress(ValueError):  # a run that has begun and not logged yet
            return read_curves(uri)
    return curves


def _samples(uri: str, info: RunInfo) -> dict[int, bytes]:
    if "samples/" not in info.files:
        return {}
    seen = sample_grids(uri)
    count = min(len(seen), _MOMENTS)
    chosen = {round(k * (len(seen) - 1) / max(count - 1, 1)) for k in range(count)}
    return {seen[k][0]: _png(seen[k][1]) for k in sorted(chosen | {len(seen) - 1}) if seen}


def _pictures(uri: str, info: RunInfo) -> dict[str, bytes]:
    """Of evaluation/ by name, and the newest of val/confusion/ as "val/confusion"."""
    found = {}
    if "evaluation/" in info.files:
        for file in storage.list_files(locations.join(uri, "evaluation"), (".png",)):
            found[locations.basename(file.uri).removesuffix(".png")] = _png(file.uri)
    where = locations.join(uri, "val", "confusion")
    if "val/" in info.files and storage.exists(where):
        files = sorted(file.uri for file in storage.list_files(where, (".png",)))
        found |= {"val/confusion": _png(files[-1])} if files else {}
    return found


def _png(uri: str) -> bytes:
    data = storage.read_bytes(uri)
    if not data.startswith(_PNG) or len(data) < 24:
        raise ValueError(
            f"{locations.public(uri)} is no PNG file: it is damaged; take it away, or draw it again"
        )
    return data


# --- the page -------------------------------------------------------------------------------------------


def report(material: Material, price_per_hour: float | None = None) -> str:
    """The whole document."""
    info = material.info
    sections = [
        ("Trained on", _trained_on(material)),
        ("Figures", report_figures.figures(info, material.evaluation, material.pictures)),
        ("Confusion", report_figures.confusion(info, material.evaluation, material.pictures)),
        ("Categories", report_figures.categories(info, material.evaluation)),
        ("Samples", report_training.samples(material.samples, info.categories, material.meta.get("side", 0))),
        ("Curves", report_training.curves(material.curves)),
        ("Checkpoints", report_training.checkpoints(info)),
        ("Speed", report_training.speed(material.curves)),
        (
            "Cost",
            report_training.cost(material.attempts, material.curves, material.experiment, price_per_hour),
        ),
        ("Failures", report_training.failures(info, material.attempts, material.curves)),
        ("Config", _config(material.config)),
    ]
    shown = [(title, content) for title, content in sections if content]
    links = [el("li", el("a", title, href=f"#{anchor(title)}")) for title, _ in shown]
    body = el(
        "main",
        el("header", el("h1", info.name), _summary(material)),
        el("nav", el("ul", links), aria_label="Sections"),
        [section(title, content) for title, content in shown],
    )
    return page(f"{info.name}: doodle_dist report", body, STYLE)


def _summary(material: Material) -> Markup:
    info, found = material.info, material.evaluation
    length = f" of {info.drawings:,}" if info.drawings else ""
    what = {"gan": "A GAN", "classifier": "A classifier", "critic": "A critic"}.get(info.task, "A run")
    cards = [(f"{info.drawings_seen:,}", f"drawings seen{length}")]
    if info.categories:
        cards.append((str(len(info.categories)), "categories"))
    if isinstance(found, GanEvaluation):
        cards.append((f"{found.fid.value:.2f}", f"Fréchet distance (real: {found.fid.floor:.2f})"))
        if share := found.conditional_accuracy:
            cards.append((f"{share.ratio:.1%}", "of the categories read, over real drawings"))
    elif found:
        cards.append((f"{found.balanced:.1%}", f"balanced accuracy, {found.split}"))
    elif info.best and (read := info.best.metrics.get("judge/conditional_accuracy")) is not None:
        cards.append((f"{read:.1%}", "of the categories read at the best checkpoint"))
    elif info.best and info.best.score is not None:
        cards.append((f"{info.best.score:.4g}", "best score at a checkpoint"))
    cards += report_training.summary(material.attempts, material.curves)
    return el(
        "div",
        el("p", what, f", preset {info.preset}" if info.preset else "", ". ", el("code", info.uri)),
        el("p", "It stopped itself: ", info.stopped, class_="bad") if info.stopped else None,
        el("ul", [el("li", el("strong", value), el("span", name)) for value, name in cards], class_="cards"),
    )


def _trained_on(material: Material) -> Markup:
    info = material.info
    data: AboutData = material.meta.get("data", {})
    sources, rows = data.get("sources", []), data.get("drawings")
    side, channels = material.meta.get("side"), material.meta.get("channels")
    return el(
        "div",
        facts(
            [
                ("task", info.task),
                ("preset", info.preset),
                ("dataset", info.data and el("code", info.data)),
                ("sources", ", ".join(sources)),
                (
                    "manifest",
                    el("code", f"sha256 {info.data_sha256}") if info.data_sha256 else _UNKNOWN_MANIFEST,
                ),
                ("training split", f"{rows:,} drawings" if rows else ""),
                ("pictures", f"{side}×{side}, {channels} channel(s)" if side else ""),
                ("categories", _named(info.categories)),
                ("credits", _credits(sources)),
            ]
        ),
    )


_UNKNOWN_MANIFEST = "not written down by this run"


def _named(categories: Sequence[str]) -> Markup | str:
    text = ", ".join(categories)
    if len(categories) <= _NAMED_CATEGORIES:
        return text
    return folded(f"{len(categories)} categories", el("p", text))


def _credits(sources: Sequence[str]) -> Markup | str:
    """Whose the drawings are. The only links of a report that lead out of it."""
    if only_other_pictures(sources):
        return "The pictures are those of the sources named above, under the licences of their makers."
    return el(
        "span",
        "The drawings are from ",
        el("a", "The Quick, Draw! Dataset", href="https://github.com/googlecreativelab/quickdraw-dataset"),
        " by Google, Inc., made available under ",
        el("a", "CC BY 4.0", href="https://creativecommons.org/licenses/by/4.0/"),
        ". They were rasterised and learnt from.",
    )


def _config(text: str) -> Markup | None:
    return folded("Every setting of the run, as TOML", el("pre", text, tabindex=0)) if text else None
