"""What a report says of how good a run is: the figures of its evaluation beside their floors, and its mistakes."""

from collections.abc import Mapping, Sequence

from doodle_dist.evaluation.line_chart import reliability_chart
from doodle_dist.evaluation.markup import Content, Markup, el, folded, join, picture, scrolling, table
from doodle_dist.evaluation.results import ClassifierEvaluation, Evaluation, GanEvaluation
from doodle_dist.evaluation.tables import with_error
from doodle_dist.run.folder import RunInfo

_MATRIX_CATEGORIES = 40
_OPEN_ROWS = 40
_COUNTRIES = 12

_LOWER, _HIGHER = "lower", "higher"
# Field of an evaluation, name, which way is better.
_GAN = (
    ("fid", "Fréchet distance (FID)", _LOWER),
    ("intra_fid", "FID within a category, mean", _LOWER),
    ("kid", "kernel distance (KID)", _LOWER),
    ("precision", "precision", _HIGHER),
    ("recall", "recall", _HIGHER),
    ("density", "density", _HIGHER),
    ("coverage", "coverage", _HIGHER),
)
_READ_FROM_CHECKPOINTS = "val_category/"


def figures(info: RunInfo, found: Evaluation | None, pictures: Mapping[str, bytes]) -> Markup:
    """The figures of evaluation.json with their floors, or the command that makes them."""
    if found is None:
        return _how_to_evaluate(info)
    if isinstance(found, GanEvaluation):
        shown: Content = [_gan_table(found), _neighbours(pictures)]
    else:
        shown = [_classifier_table(found), _calibration(found)]
    kept = any(one.uri.rstrip("/").endswith(found.snapshot.rpartition("/")[2]) for one in info.checkpoints)
    return join(
        el(
            "p",
            f"Of the snapshot after {found.drawings_seen:,} drawings, weights ",
            el("code", found.content_hash[:12]),
            "." if kept else ", whose checkpoint is no longer in the run's folder.",
        ),
        shown,
    )


def _how_to_evaluate(info: RunInfo) -> Markup:
    if info.task == "critic":
        return el("p", "A critic is judged at its checkpoints only: see there.")
    readers = " --evaluator RUN --judge RUN" if info.task == "gan" else ""
    what = "runs of two classifiers, say of the presets evaluator and classifier-small" if readers else ""
    return join(
        el(
            "p",
            "The run has not been evaluated. This command does it, and the next report shows the figures:",
        ),
        el("p", el("code", f"doodle-dist evaluate {info.uri}{readers}")),
        el("p", f"RUN: {what}.", class_="soft") if what else None,
    )


def _gan_table(found: GanEvaluation) -> Markup:
    rows: list[tuple[str, ...]] = []
    for field, name, better in _GAN:
        if (figure := getattr(found, field)) is not None:
            value = _tied(with_error(figure.value, figure.standard_error))
            floor = _tied(with_error(figure.floor, figure.floor_standard_error))
            rows.append((name, value, floor, "", f"{found.samples:,}", better))
    for name, share in (
        ("conditional accuracy", found.conditional_accuracy),
        ("classification accuracy (CAS)", found.classification_accuracy),
    ):
        if share is not None:
            values = (share.generated, share.real)
            shown = [f"{value:.4f}" for value in values]
            rows.append((name, *shown, f"{share.ratio:.3f}", f"{share.drawings:,}", _HIGHER))
    judge = (
        f" Conditional accuracy: judge {found.judge.short_hash} ({found.judge.run})." if found.judge else ""
    )
    caption = (
        f"{found.samples:,} samples (seed {found.seed}) against {found.reference:,} training drawings, in the "
        f"features of evaluator {found.evaluator.short_hash} ({found.evaluator.run}). Floor: as many real drawings "
        f"of the split {found.split}.{judge}"
    )
    head = ("figure", "samples", "real (floor)", "samples / real", "n", "better")
    return table(caption, head, rows)


def _neighbours(pictures: Mapping[str, bytes]) -> Markup | None:
    if "neighbours" not in pictures:
        return None
    shown = picture(
        pictures["neighbours"],
        "Rows of samples, each over the row of training drawings that are nearest to them",
        "Memorised? Samples over their nearest training drawings (of the same category, where the generator sees it), "
        "in the evaluator's features. The two rows of a generator that copies would be the same.",
    )
    return join(el("h3", "Nearest training drawings"), scrolling("Nearest training drawings", shown))


def _classifier_table(found: ClassifierEvaluation) -> Markup:
    count = max(len(found.categories), 1)
    three = min(count, 3)
    rows = [
        ("top-1", f"{found.top1:.4f}", f"{1 / count:.4f}", _HIGHER),
        ("top-3", f"{found.top3:.4f}", f"{three / count:.4f}", _HIGHER),
        ("MAP@3", f"{found.map3:.4f}", f"{sum(1 / k for k in range(1, three + 1)) / count:.4f}", _HIGHER),
        (
            "balanced accuracy",
            _tied(f"{found.balanced:.4f} ± {found.balanced_standard_error:.4f}"),
            f"{1 / count:.4f}",
            _HIGHER,
        ),
        ("macro F1", f"{found.macro_f1:.4f}", "–", _HIGHER),
        ("calibration error", f"{found.calibration_error:.4f}", "–", _LOWER),
        ("log loss", f"{found.loss:.4f}", "–", _LOWER),
    ]
    caption = f"{found.drawings:,} drawings of the split {found.split}. Floor: guessing a category by chance."
    return table(caption, ("figure", "value", "chance (floor)", "better"), rows)


def _calibration(found: ClassifierEvaluation) -> Markup:
    bins = [(one.confidence, one.accuracy) for one in found.reliability]
    rows = [
        (f"{one.confidence:.3f}", f"{one.accuracy:.3f}", f"{one.drawings:,}") for one in found.reliability
    ]
    numbers = table("Drawings by confidence", ("mean confidence", "read right", "drawings"), rows)
    return join(
        el("h3", "Calibration"),
        reliability_chart(bins, found.calibration_error),
        folded("The same as a table", numbers),
    )


# --- mistakes -------------------------------------------------------------------------------------------


def confusion(info: RunInfo, found: Evaluation | None, pictures: Mapping[str, bytes]) -> Markup | None:
    """A classifier's confusion matrix and the pairs it takes for one another."""
    if isinstance(found, GanEvaluation) or info.task != "classifier":
        return None
    if found is None:
        if "val/confusion" not in pictures:
            return None
        caption = (
            "Validation drawings at the newest checkpoint: a row a category, a column what it was read as."
        )
        return scrolling("Confusion matrix", picture(pictures["val/confusion"], "Confusion matrix", caption))
    parts: list[Content] = []
    if len(found.categories) <= _MATRIX_CATEGORIES:
        parts.append(_matrix(tuple(found.categories), found.confusion))
    elif "confusion" in pictures:
        caption = "A row a category, a column what it was read as; each row divided by its sum."
        shown = picture(
            pictures["confusion"], "Confusion matrix; the table of pairs names its worst", caption
        )
        parts.append(scrolling("Confusion matrix", shown))
    if found.confused:
        rows = [(p.category, p.read_as, f"{p.drawings:,}", f"{p.share:.1%}") for p in found.confused]
        head = ("category", "read as", "drawings", "share")
        parts += [
            el("h3", "Most confused"),
            table("Pairs, the largest share of a category's drawings first", head, rows, words=2),
        ]
    if "confused" in pictures:
        shown = picture(
            pictures["confused"], "Drawings that were read wrong, a row a pair", "Some of the drawings"
        )
        parts.append(scrolling("Drawings that were read wrong", shown))
    for title, groups in (("recognized in the game", found.by_recognized), ("country", found.by_country)):
        if groups:
            rows3 = [(name, f"{one.accuracy:.4f}", f"{one.drawings:,}") for name, one in groups.items()]
            caption = f"By {title}" + (", most drawings first" if title == "country" else "")
            parts.append(table(caption, (title, "read right", "drawings"), rows3[:_COUNTRIES]))
    return join(*parts)


def _matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    head = el("tr", el("td"), [el("th", name, scope="col") for name in names])
    body = []
    for name, row in zip(names, counts, strict=True):
        shares = [count / max(sum(row), 1) for count in row]
        cells = [
            el(
                "td",
                f"{100 * share:.0f}" if share >= 0.005 else "",
                style=f"--share: {100 * share:.1f}%",
                title=f"{name} read as {read}: {count:,}",
            )
            for share, count, read in zip(shares, row, names, strict=True)
        ]
        body.append(el("tr", el("th", name, scope="row"), cells))
    caption = "Percent of a row's category that were read as a column's."
    whole = el("table", el("caption", caption), el("thead", head), el("tbody", body), class_="matrix")
    return scrolling("Confusion matrix", whole)


# --- categories -----------------------------------------------------------------------------------------


def categories(info: RunInfo, found: Evaluation | None) -> Markup | None:
    """A row for each category, the worst first."""
    if isinstance(found, GanEvaluation):
        shown = _gan_categories(found)
    elif found is not None:
        rows = [
            (name, _known(one.recall), _known(one.precision), _known(one.f1), f"{one.drawings:,}")
            for name, one in sorted(found.categories.items(), key=lambda item: item[1].recall or 0.0)
        ]
        head = ("category", "recall", "precision", "F1", "drawings")
        shown = table(f"Drawings of the split {found.split}, lowest recall first", head, rows)
    else:
        recalls = [
            (name.removeprefix(_READ_FROM_CHECKPOINTS), value)
            for name, value in info.figures.items()
            if name.startswith(_READ_FROM_CHECKPOINTS) and value is not None
        ]
        rows2 = [(name, f"{value:.4f}") for name, value in sorted(recalls, key=lambda item: item[1])]
        caption = "Validation drawings at the newest checkpoint, lowest recall first"
        shown = table(caption, ("category", "recall"), rows2) if rows2 else Markup()
    if not shown or len(info.categories) <= _OPEN_ROWS:
        return shown or None
    return folded(f"All {len(info.categories)} categories", shown)


def _gan_categories(found: GanEvaluation) -> Markup:
    worst = sorted(found.categories.items(), key=lambda item: -(item[1].fid.value if item[1].fid else 0.0))
    rows = []
    for name, one in worst:
        fid = (f"{one.fid.value:.2f}", f"{one.fid.floor:.2f}") if one.fid else ("–", "–")
        read = (f"{one.read.generated:.3f}", f"{one.read.real:.3f}") if one.read else ("–", "–")
        rows.append((name, *fid, *read, f"{one.samples:,}"))
    head = ("category", "FID", "real (floor)", "read", "real read", "n")
    return table("Fréchet distance and the share that the judge reads; the farthest first", head, rows)


def _tied(text: str) -> str:
    """An error that stays with its sign where a line is broken."""
    return text.replace("± ", "±\N{NO-BREAK SPACE}")


def _known(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
