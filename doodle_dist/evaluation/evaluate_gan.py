"""A generator's figures: its samples and as many held-out drawings, both against the training split."""

import math
import sys
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
import torch
from numpy.typing import NDArray

from doodle_dist.config.model import GeneratorConfig
from doodle_dist.data import storage
from doodle_dist.data.stream import StreamPlan
from doodle_dist.evaluation.classification_accuracy import accuracy_after_training_on
from doodle_dist.evaluation.drawings import chunks, in_parts, labels_of, pictures_of, plan_drawings
from doodle_dist.evaluation.features import (
    Eyes,
    Measured,
    Reader,
    content_hash,
    load_evaluator,
    load_judge,
    measure_drawings,
    measure_samples,
    samples,
)
from doodle_dist.evaluation.moments import frechet, kernel_distance
from doodle_dist.evaluation.neighbourhoods import NEIGHBOURS, Neighbourhoods, Overlap, overlap
from doodle_dist.evaluation.results import CategoryFigures, Figure, GanEvaluation, ReaderInfo, Share
from doodle_dist.evaluation.snapshot import Snapshot

# Drawings whose neighbourhoods are looked at: distances between all pairs are found, as in Naeem et al. 2020.
_NEIGHBOURHOODS = 10_000
# Without --samples: as many as the split has, up to the larger of these.
_SAMPLES, _SAMPLES_PER_CATEGORY = 10_000, 130
_CAS_DRAWINGS = 10_000


@dataclass(frozen=True)
class Request:
    """What `evaluate` was asked for of generators. ``samples`` 0: as many as is good; ``reference`` drawings
    at most of the training split."""

    evaluator: str
    judge: str = ""
    split: str = "test"
    samples: int = 0
    reference: int = 200_000
    seed: int = 0
    per_category: bool = True
    cas: bool = False
    workers: int = 1
    local: bool = False


class Protocol:
    """The real side, measured once: every generator of the same categories is compared with it.

    Raises ValueError where the request does not fit the data, before anything is measured.
    """

    def __init__(self, request: Request, uri: str, snapshot: Snapshot) -> None:
        self.request, self.uri, self.categories = request, uri, snapshot.categories
        shape = (snapshot.side, snapshot.channels)
        self.evaluator = load_evaluator(request.evaluator, shape)
        self.judge = (
            load_judge(request.judge, shape, self.evaluator, self.categories) if request.judge else None
        )
        self.train = plan_drawings(uri, "train", self.categories)
        self.held_out = plan_drawings(uri, request.split, self.categories)
        if (self.train.side, self.train.channels) != shape:
            raise ValueError(
                f"{uri} has pictures of side {self.train.side} with {self.train.channels} channels; "
                f"{snapshot.uri} draws side {shape[0]} with {shape[1]}"
            )
        if request.split == "train":
            raise ValueError("--split train: should be val or test; the training split is the reference")
        self.labels = _sample_labels(request, self.held_out, self.categories, self.evaluator.features)
        _check_reference(request, self.train, self.categories, self.evaluator.features)
        self.keep = min(len(self.labels), _NEIGHBOURHOODS)
        self.eyes = Eyes.of(self.evaluator, self.judge, self.categories, self.keep)
        self._measure_real()
        self.real_cas: float | None = None

    def _measure_real(self) -> None:
        request, eyes = self.request, self.eyes
        limit = min(self.train.rows, request.reference)
        _say(f"reading {limit:,} training drawings and {len(self.labels):,} of {request.split}")
        self.reference = self._merged(partial(measure_drawings, self.train, limit, eyes))
        self.floor = self._merged(partial(measure_drawings, self.held_out, len(self.labels), eyes))
        self.neighbourhoods = Neighbourhoods(self.reference.first(self.keep))
        self.floor_overlap = overlap(self.neighbourhoods, Neighbourhoods(self.floor.first(self.keep)))
        self.floor_kid = kernel_distance(self.reference.kernel, self.floor.kernel)

    def _merged(self, work: "partial[Measured]") -> Measured:
        def merge(one: Measured, other: Measured) -> Measured:
            one.merge(other)
            return one

        return reduce(merge, in_parts(work, self.request.workers, local=self.request.local))

    def evaluate(self, snapshot: Snapshot) -> GanEvaluation:
        """The figures of a GAN's snapshot. Raises ValueError where it draws other categories."""
        request = self.request
        if snapshot.categories != self.categories:
            raise ValueError(f"{snapshot.uri} draws other categories than the first run; evaluate it by itself")
        generator, config = snapshot.generator, _generator_config(snapshot)
        _say(f"drawing {len(self.labels):,} samples of {storage.public(snapshot.uri)}")
        drawn = self._merged(
            partial(measure_samples, generator, config, self.labels, request.seed, self.eyes)
        )
        kid = kernel_distance(self.reference.kernel, drawn.kernel)
        found = overlap(self.neighbourhoods, Neighbourhoods(drawn.first(self.keep)))
        categories = {name: self._category(k, drawn) for k, name in enumerate(self.categories)}
        fids = [c.fid for c in categories.values() if c.fid]
        intra = None
        if fids:
            intra = Figure(
                value=float(np.mean([f.value for f in fids])), floor=float(np.mean([f.floor for f in fids]))
            )
        return GanEvaluation(
            snapshot=storage.public(snapshot.uri),
            content_hash=content_hash(snapshot),
            preset=snapshot.experiment.preset,
            drawings_seen=int(snapshot.metrics["drawings_seen"]),
            data=storage.public(self.uri),
            split=request.split,
            samples=len(self.labels),
            seed=request.seed,
            reference=self.reference.count,
            evaluator=_info(self.evaluator),
            judge=_info(self.judge) if self.judge else None,
            fid=self._frechet(drawn, None),
            intra_fid=intra,
            kid=Figure(
                value=kid.value,
                standard_error=kid.standard_error,
                floor=self.floor_kid.value,
                floor_standard_error=self.floor_kid.standard_error,
            ),
            **{name: self._overlap(name, found) for name in ("precision", "recall", "density", "coverage")},
            conditional_accuracy=self._read(drawn, slice(None)),
            classification_accuracy=self._cas(snapshot) if request.cas else None,
            categories=categories,
        )

    def _frechet(self, drawn: Measured, label: int | None) -> Figure:
        reference = self.reference.moments.gaussian(label)
        return Figure(
            value=frechet(drawn.moments.gaussian(label), reference),
            floor=frechet(self.floor.moments.gaussian(label), reference),
        )

    def _overlap(self, name: str, found: Overlap) -> Figure:
        return Figure(value=getattr(found, name), floor=getattr(self.floor_overlap, name))

    def _read(self, drawn: Measured, part: slice) -> Share | None:
        count = int(drawn.moments.counts[part].sum())
        if self.judge is None or not count:
            return None
        shares = [float(of.read[part].sum()) / count for of in (drawn, self.floor)]
        return Share(generated=shares[0], real=shares[1], drawings=count)

    def _category(self, label: int, drawn: Measured) -> CategoryFigures:
        return CategoryFigures(
            samples=int(drawn.moments.counts[label]),
            fid=self._frechet(drawn, label) if self.request.per_category else None,
            read=self._read(drawn, slice(label, label + 1)),
        )

    def _cas(self, snapshot: Snapshot) -> Share:
        """Trained on samples, which have the labels of the training drawings, and on those (once)."""
        count = min(self.train.rows, _CAS_DRAWINGS)
        _say(f"training classifiers on {count:,} samples and on as many real drawings")
        sources = ["generated"] if self.real_cas is not None else ["generated", "real"]
        work = partial(
            _train_on, sources, count, self.train, self.held_out, self.categories,
            snapshot.generator, _generator_config(snapshot), self.request.seed + 1,
        )  # fmt: skip
        workers = min(self.request.workers, len(sources))
        top1 = reduce(lambda a, b: a | b, in_parts(work, workers, local=self.request.local))
        self.real_cas = top1.get("real", self.real_cas)
        assert self.real_cas is not None
        return Share(generated=top1["generated"], real=self.real_cas, drawings=count)


def _train_on(
    sources: list[str],
    count: int,
    train: StreamPlan,
    held_out: StreamPlan,
    categories: tuple[str, ...],
    generator: torch.nn.Module,
    config: GeneratorConfig,
    seed: int,
    part: int,
    parts: int,
) -> dict[str, float]:
    """Top-1 on held-out drawings of one part's classifiers, by what each was trained on."""
    labels = labels_of(train, count)
    top1 = {}
    for source in sources[part::parts]:
        if source == "real":
            pixels = np.concatenate([pictures_of(train, chunk) for chunk in chunks(train, count)])
        else:
            batches = np.split(np.arange(count), range(256, count, 256))
            pixels = np.concatenate([samples(generator, config, n, labels[n], seed) for n in batches])
        top1[source] = accuracy_after_training_on(pixels, labels, held_out, categories)
    return top1


def _sample_labels(
    request: Request, held_out: StreamPlan, categories: tuple[str, ...], features: int
) -> NDArray[np.int64]:
    """The labels of the samples: those of the first held-out drawings. ValueError where they are too few."""
    enough = features + 1
    wanted = request.samples or min(
        held_out.rows, max(_SAMPLES, _SAMPLES_PER_CATEGORY * len(categories))
    )
    if wanted > held_out.rows:
        raise ValueError(
            f"--samples {wanted}: split {request.split} has {held_out.rows:,} drawings of these categories, and "
            "samples are compared with as many of them; ask for fewer"
        )
    if wanted < max(enough, NEIGHBOURS + 1):
        given = f"--samples {wanted}" if request.samples else f"split {request.split} has {wanted} drawings"
        raise ValueError(f"{given}: a covariance of {features} features takes at least {enough}")
    labels = labels_of(held_out, wanted)
    if not request.per_category:
        return labels
    counts = np.bincount(labels, minlength=len(categories))
    least = int(counts.argmin())
    if counts[least] >= enough:
        return labels
    every = labels_of(held_out, held_out.rows)
    places = [np.flatnonzero(every == k) for k in range(len(categories))]
    if all(len(place) >= enough for place in places):
        takes = max(int(place[enough - 1]) for place in places) + 1
        advice = f"--samples {takes} has so many of each, --no-per-category leaves these figures out"
    else:
        advice = f"split {request.split} has not so many of each: give --no-per-category"
    raise ValueError(
        f"--samples {wanted}: {counts[least]} of them are of {categories[least]!r}, and a category's covariance "
        f"of {features} features takes at least {enough}; {advice}"
    )


def _check_reference(
    request: Request, train: StreamPlan, categories: tuple[str, ...], features: int
) -> None:
    limit, enough = min(train.rows, request.reference), features + 1
    if limit < enough:
        raise ValueError(
            f"the reference, {limit} training drawings, is too small: a covariance of {features} features "
            f"takes at least {enough}"
        )
    if request.per_category:
        counts = np.bincount(labels_of(train, limit), minlength=len(categories))
        least = int(counts.argmin())
        if counts[least] < enough:
            raise ValueError(
                f"the reference, {limit:,} training drawings, has {counts[least]} of {categories[least]!r}; a "
                f"category's covariance of {features} features takes at least {enough} (or give "
                "--no-per-category)"
            )


def _generator_config(snapshot: Snapshot) -> GeneratorConfig:
    config = snapshot.experiment.model.generator
    assert config is not None
    return config


def _info(reader: Reader) -> ReaderInfo:
    return ReaderInfo(run=storage.public(reader.run), content_hash=reader.content_hash)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def lines_of(found: GanEvaluation, *, shown: int = 400) -> list[str]:
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
        value = _with_error(figure.value, figure.standard_error)
        floor = _with_error(figure.floor, figure.floor_standard_error)
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
        for name, category in worst[:shown]:
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
        f"drawings as reference, judge {_hash(first.judge)}",
        "",
        "| run | FID | intra-FID | KID | precision | recall | density | coverage | read / real | CAS / real |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        run = storage.basename(one.snapshot.rpartition("/checkpoint_")[0] or one.snapshot)
        shares = [f"{s.ratio:.3f}" if s else "–" for s in (one.conditional_accuracy, one.classification_accuracy)]
        lines.append(_row([run, *_cells(one, floor=False), *shares]))
    return [*lines, _row(["real drawings (floor)", *_cells(first, floor=True), "1", "1"])]


def _cells(one: GanEvaluation, *, floor: bool) -> list[str]:
    figures = [one.fid, one.intra_fid, one.kid, one.precision, one.recall, one.density, one.coverage]
    cells = []
    for figure in figures:
        if figure is None:
            cells.append("–")
            continue
        value = figure.floor if floor else figure.value
        error = figure.floor_standard_error if floor else figure.standard_error
        cells.append(_with_error(value, error))
    return cells


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figures(found: GanEvaluation) -> list[tuple[str, Figure]]:
    figures = [("FID", found.fid)]
    if found.intra_fid:
        figures.append(("intra-FID, mean", found.intra_fid))
    figures.append(("KID", found.kid))
    return figures + [
        (name, getattr(found, name)) for name in ("precision", "recall", "density", "coverage")
    ]


def _with_error(value: float, error: float | None) -> str:
    return f"{_short(value)} ± {_short(error)}" if error is not None else _short(value)


def _short(value: float) -> str:
    """Three decimals, or more where the value is small."""
    if not value or not math.isfinite(value):
        return f"{value:.3f}"
    return f"{value:.{max(3, min(7, 2 - math.floor(math.log10(abs(value)))))}f}"


def _hash(reader: ReaderInfo | None) -> str:
    return reader.short_hash if reader else "none"
