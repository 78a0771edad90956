"""A generator's figures: its samples and as many held-out drawings, both against the training split."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
import torch
from numpy.typing import NDArray

from doodle_dist import log
from doodle_dist.config.model import GeneratorConfig
from doodle_dist.data import locations
from doodle_dist.data.stream_plan import StreamPlan
from doodle_dist.evaluation.classification_accuracy import accuracy_after_training_on
from doodle_dist.evaluation.drawings import chunks, labels_of, pictures_of, plan_drawings
from doodle_dist.evaluation.features import (
    Eyes,
    Measured,
    Reader,
    load_evaluator,
    load_judge,
    measure_drawings,
    measure_samples,
    samples,
)
from doodle_dist.evaluation.neighbours import Nearest, nearest_drawings, over_nearest
from doodle_dist.evaluation.results import CategoryFigures, Figure, GanEvaluation, ReaderInfo, Share
from doodle_dist.evaluation.spread import HERE, Spread
from doodle_dist.metrics.moments import frechet, kernel_distance
from doodle_dist.metrics.neighbourhoods import NEIGHBOURS, Neighbourhoods, Overlap, overlap
from doodle_dist.pictures import named_rows, png
from doodle_dist.run.snapshot import ANY, Snapshot

# Drawings whose neighbourhoods are looked at: distances between all pairs are found, as in Naeem et al. 2020.
_NEIGHBOURHOODS = 10_000
# Without --samples: as many as the split has, up to the larger of these.
_SAMPLES, _SAMPLES_PER_CATEGORY = 10_000, 130
_CAS_DRAWINGS = 10_000
# Of the picture of neighbours: rows of samples, and samples in a row.
_SHOWN_CATEGORIES, _SHOWN_SAMPLES = 24, 12


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
    spread: Spread = HERE


def check_alike(snapshots: Sequence[Snapshot]) -> None:
    """Raise ValueError for a snapshot that draws other categories or shapes than the first."""
    first = snapshots[0]
    for one in snapshots[1:]:
        if (one.categories, one.side, one.channels) != (first.categories, first.side, first.channels):
            raise ValueError(
                f"{one.uri} draws other categories or shapes than {first.uri}: evaluate each by itself"
            )


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
        # As many on both sides, since the figures of neighbourhoods depend on it.
        self.keep = min(len(self.labels), _NEIGHBOURHOODS, self.train.rows, request.reference)
        self.eyes = Eyes.of(self.evaluator, self.judge, self.categories, self.keep)
        self._measure_real()
        self.real_cas: float | None = None

    def _measure_real(self) -> None:
        request, eyes = self.request, self.eyes
        limit = min(self.train.rows, request.reference)
        log.say(f"reading {limit:,} training drawings and {len(self.labels):,} of {request.split}")
        self.reference = self._merged(partial(measure_drawings, self.train, limit, eyes))
        self.floor = self._merged(partial(measure_drawings, self.held_out, len(self.labels), eyes))
        self.neighbourhoods = Neighbourhoods(self.reference.first(self.keep))
        self.floor_overlap = overlap(self.neighbourhoods, Neighbourhoods(self.floor.first(self.keep)))
        self.floor_kid = kernel_distance(self.reference.kernel, self.floor.kernel)

    def _merged(self, work: "partial[Measured]") -> Measured:
        def merge(one: Measured, other: Measured) -> Measured:
            one.merge(other)
            return one

        return reduce(merge, self.request.spread.parts(work))

    def evaluate(self, snapshot: Snapshot) -> GanEvaluation:
        """The figures of a GAN's snapshot of the same categories and shape."""
        request = self.request
        generator, config = snapshot.generator, snapshot.generator_config
        log.say(f"drawing {len(self.labels):,} samples of {locations.public(snapshot.uri)}")
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
            snapshot=locations.public(snapshot.uri),
            content_hash=snapshot.sha256,
            preset=snapshot.experiment.preset,
            drawings_seen=int(snapshot.metrics["drawings_seen"]),
            data=locations.public(self.uri),
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

    def neighbours(self, snapshot: Snapshot) -> bytes:
        """PNG: some of the samples, a row a category, each over the reference drawing that is nearest to it in the
        evaluator's features: of its category, or of any where the generator doesn't see that."""
        request, every, told = self.request, np.unique(self.labels), snapshot.draws_by_category
        places = np.linspace(0, len(every) - 1, min(len(every), _SHOWN_CATEGORIES)).round().astype(int)
        rows = [np.flatnonzero(self.labels == label)[:_SHOWN_SAMPLES] for label in every[places]]
        numbers = np.concatenate(rows)
        labels = self.labels[numbers]
        drawn = samples(snapshot.generator, snapshot.generator_config, numbers, labels, request.seed)
        limit = min(self.train.rows, request.reference)
        work = partial(
            nearest_drawings, self.train, limit, self.evaluator.net, drawn, labels if told else None
        )
        found = reduce(Nearest.merged, request.spread.parts(work))
        ends = np.cumsum([len(row) for row in rows])[:-1]
        parts = zip(every[places], np.split(drawn, ends), np.split(found.pictures, ends), strict=True)
        names = self.categories if told else [ANY] * len(self.categories)
        sheet = [row for label, *both in parts for row in over_nearest(names[label], *both)]
        return png(named_rows(sheet))

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
        log.say(f"training classifiers on {count:,} samples and on as many real drawings")
        sources = ["generated"] if self.real_cas is not None else ["generated", "real"]
        work = partial(
            _train_on, sources, count, self.train, self.held_out, self.categories,
            snapshot.generator, snapshot.generator_config, self.request.seed + 1,
        )  # fmt: skip
        top1 = reduce(lambda a, b: a | b, self.request.spread.parts(work, len(sources)))
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
    wanted = request.samples or min(held_out.rows, max(_SAMPLES, _SAMPLES_PER_CATEGORY * len(categories)))
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


def _check_reference(request: Request, train: StreamPlan, categories: tuple[str, ...], features: int) -> None:
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


def _info(reader: Reader) -> ReaderInfo:
    return ReaderInfo(run=locations.public(reader.run), content_hash=reader.content_hash)
