"""Evaluations as text: a run's figures, each with its floor and what it was made by, and runs side by side."""

import math

from doodle_dist.evaluation.results import ClassifierEvaluation, Figure, GanEvaluation, ReaderInfo


def gan_lines(found: GanEvaluation) -> list[str]:
    """The figures as a table, each with its floor, its number of drawings and what it was made by."""
    by = f"evaluator {found.evaluator.short_hash}"
    n = f"n={found.samples:,}"
    lines = [
        f"{found.snapshot}: {found.preset}, {found.drawings_seen:,} drawings seen, weights "
        f"{found.content_hash[:12]}",
        f"  reference: {found.reference:,} training drawings; floor: real {found.split} drawings",
        f"  {'':24} {'samples':>18} {'floor':>18}",
    ]
    for name, figure in _figures(found):
        value = with_error(figure.value, figure.standard_error)
        floor = with_error(figure.floor, figure.floor_standard_error)
        lines.append(f"  {name:24} {value:>18} {floor:>18}  {n}, {by}")
    shares = [("conditional accuracy", found.conditional_accuracy, f"judge {_hash(found.judge)}")]
    shares += [("classification accuracy", found.classification_accuracy, "trained for it")]
    for name, share, judged_by in shares:
        if share:
            lines.append(
                f"  {name:24} {share.generated:>18.4f} {share.real:>18.4f}  n={share.drawings:,}, {judged_by}; "
                f"ratio {share.ratio:.3f}"
            )
    if found.intra_fid:
        lines.append(f"  {'category':24} {'FID':>18} {'floor':>18}  read / real, n")
        worst = sorted(found.categories.items(), key=lambda item: -(item[1].fid.value if item[1].fid else 0))
        for name, category in worst:
            assert category.fid is not None
            read = f"{category.read.generated:.3f} / {category.read.real:.3f}" if category.read else "-"
            lines.append(
                f"    {name:22} {category.fid.value:>18.3f} {category.fid.floor:>18.3f}  {read}, "
                f"n={category.samples:,}"
            )
    return lines


def comparison(results: list[GanEvaluation]) -> list[str]:
    """A table in Markdown: a row for each run, and one for its floor."""
    first = results[0]
    lines = [
        f"evaluator {first.evaluator.short_hash}, {first.samples:,} samples, {first.reference:,} training "
        f"drawings as reference, judge {_hash(next((one.judge for one in results if one.judge), None))}",
        "",
        "| run | FID | intra-FID | KID | precision | recall | density | coverage | read / real | CAS / real |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one, run in zip(results, _names([one.snapshot for one in results]), strict=True):
        shares = [
            f"{s.ratio:.3f}" if s else "–" for s in (one.conditional_accuracy, one.classification_accuracy)
        ]
        lines.append(_row([run, *_cells(one, floor=False), *shares]))
    return [*lines, _row(["real drawings (floor)", *_cells(first, floor=True), "1", "1"])]


def _names(snapshots: list[str]) -> list[str]:
    """The runs' names, or as much of their places as tells them apart."""
    of_runs = [uri.rpartition("/checkpoint_")[0] or uri for uri in snapshots]
    for places, parts in ((of_runs, 1), (of_runs, 2), (snapshots, 2), (snapshots, 3)):
        names = ["/".join(uri.rstrip("/").split("/")[-parts:]) for uri in places]
        if len(set(names)) == len(names):
            return names
    return snapshots


def _cells(one: GanEvaluation, *, floor: bool) -> list[str]:
    figures = [one.fid, one.intra_fid, one.kid, one.precision, one.recall, one.density, one.coverage]
    cells = []
    for figure in figures:
        if figure is None:
            cells.append("–")
            continue
        value = figure.floor if floor else figure.value
        error = figure.floor_standard_error if floor else figure.standard_error
        cells.append(with_error(value, error))
    return cells


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figures(found: GanEvaluation) -> list[tuple[str, Figure]]:
    figures = [("FID", found.fid)]
    if found.intra_fid:
        figures.append(("intra-FID, mean", found.intra_fid))
    figures.append(("KID", found.kid))
    return figures + [(name, getattr(found, name)) for name in ("precision", "recall", "density", "coverage")]


def with_error(value: float, error: float | None) -> str:
    """A figure, with its standard error where it has one."""
    return f"{_short(value)} ± {_short(error)}" if error is not None else _short(value)


def _short(value: float) -> str:
    """Three decimals, or more where the value is small."""
    if not value or not math.isfinite(value):
        return f"{value:.3f}"
    return f"{value:.{max(3, min(7, 2 - math.floor(math.log10(abs(value)))))}f}"


def _hash(reader: ReaderInfo | None) -> str:
    return reader.short_hash if reader else "none"


_COUNTRIES = 10


def classifier_lines(found: ClassifierEvaluation) -> list[str]:
    """A classifier's figures: overall, by category, the pairs it confuses, and by kind of drawing."""
    lines = [
        f"{found.snapshot}: {found.preset}, weights {found.content_hash[:12]}, {found.drawings:,} drawings of "
        f"{found.split}"
    ]
    names = ("top1", "top3", "map3", "balanced", "balanced_standard_error", "macro_f1", "calibration_error")
    lines += [f"  {name:24} {getattr(found, name):.4f}" for name in (*names, "loss")]
    lines.append(f"  {'category':24} {'recall':>7} {'prec.':>7} {'F1':>7} {'drawings':>9}")
    for name, one in sorted(found.categories.items(), key=lambda item: item[1].recall or 0.0):
        cells = " ".join("      –" if x is None else f"{x:7.4f}" for x in (one.recall, one.precision, one.f1))
        lines.append(f"    {name:22} {cells} {one.drawings:>9,}")
    lines.append("  most confused")
    lines += [
        f"    {pair.category} read as {pair.read_as}: {pair.drawings:,}, {pair.share:.1%} of them"
        for pair in found.confused
    ]
    for title, groups in (("recognized in the game", found.by_recognized), ("country", found.by_country)):
        if groups:
            lines.append(f"  {title}")
            shown = list(groups.items())[:_COUNTRIES]
            lines += [f"    {name:22} {one.accuracy:7.4f} {one.drawings:>9,}" for name, one in shown]
            if len(groups) > _COUNTRIES:
                lines.append(f"    and {len(groups) - _COUNTRIES} more in the JSON")
    return lines
