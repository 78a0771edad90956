"""A classifier's figures on all drawings of a split, and the pictures that show them."""

from collections import defaultdict
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from doodle_dist.data import locations
from doodle_dist.data.stream_plan import StreamPlan
from doodle_dist.evaluation.drawings import Chunk, by_number, chunks, pictures_of, plan_drawings
from doodle_dist.evaluation.results import (
    CategoryRecognition,
    ClassifierEvaluation,
    ConfusedPair,
    Recognition,
    ReliabilityBin,
)
from doodle_dist.evaluation.spread import HERE, Spread
from doodle_dist.metrics.classifier import (
    Calibration,
    Confusion,
    category_scores,
    confusion_picture,
    most_confused,
    reliability_picture,
)
from doodle_dist.models.classifiers import Classifier
from doodle_dist.pictures import named_rows, png, to_images
from doodle_dist.run.snapshot import Snapshot, best_device

_BATCH = 512
_PAIRS, _EXAMPLES = 12, 10
_RECOGNIZED, _COUNTRY = "recognized", "countrycode"


class Answers:
    """What a classifier made of drawings, in counts; parts of it merge."""

    def __init__(self, categories: int, device: torch.device) -> None:
        self.confusion = Confusion(categories, device)
        self.calibration = Calibration()
        # By column and value: drawings, and how many were read right.
        self.groups: dict[tuple[str, str], tuple[int, int]] = {}
        # By (true, read): numbers of the first few drawings that were read wrong.
        self.mistakes: dict[tuple[int, int], list[int]] = defaultdict(list)

    def add(self, chunk: Chunk, logits: torch.Tensor) -> None:
        """Count a chunk of N drawings: logits [N, K]."""
        labels = torch.from_numpy(chunk.labels).to(logits.device)
        self.confusion.add(logits, labels)
        self.calibration.add(logits, labels)
        read = logits.argmax(1).cpu().numpy()
        right = read == chunk.labels
        for column in (_RECOGNIZED, _COUNTRY):
            values = np.array([str(value) for value in chunk.table[column].to_pylist()])
            for value in np.unique(values):
                of = values == value
                self._count(column, str(value), int(of.sum()), int(right[of].sum()))
        for row in np.flatnonzero(~right):
            known = self.mistakes[int(chunk.labels[row]), int(read[row])]
            if len(known) < _EXAMPLES:
                known.append(int(chunk.numbers[row]))

    def _count(self, column: str, value: str, drawings: int, right: int) -> None:
        held = self.groups.get((column, value), (0, 0))
        self.groups[column, value] = (held[0] + drawings, held[1] + right)

    def merge(self, other: "Answers") -> None:
        """Add another part of the same drawings."""
        self.confusion.merge(other.confusion)
        self.calibration.merge(other.calibration)
        for (column, value), (drawings, right) in other.groups.items():
            self._count(column, value, drawings, right)
        for pair, numbers in other.mistakes.items():
            self.mistakes[pair] = sorted(self.mistakes[pair] + numbers)[:_EXAMPLES]

    def by(self, column: str) -> dict[str, Recognition]:
        """Accuracy for each value of a column that says something, most drawings first."""
        found = [(value, *counts) for (name, value), counts in self.groups.items() if name == column]
        found = [one for one in found if one[0] not in ("", "None")]
        return {
            value: Recognition(drawings=drawings, accuracy=right / drawings)
            for value, drawings, right in sorted(found, key=lambda one: (-one[1], one[0]))
        }


@torch.no_grad()
def answers(net: Classifier, plan: StreamPlan, categories: int, part: int, parts: int) -> Answers:
    """What a classifier makes of one part of a split, whose plan has the extra columns."""
    device = best_device()
    net, found = net.to(device), Answers(categories, device)
    for chunk in chunks(plan, plan.rows, part, parts):
        images = to_images(pictures_of(plan, chunk), device)
        found.add(chunk, torch.cat([net(batch) for batch in images.split(_BATCH)]))
    found.confusion.matrix, found.confusion.sums = found.confusion.matrix.cpu(), found.confusion.sums.cpu()
    return found


def evaluate_classifier(
    snapshot: Snapshot, uri: str, split: str, spread: Spread = HERE
) -> tuple[ClassifierEvaluation, dict[str, bytes]]:
    """The figures of a run's classifier over all drawings of a split, and PNG files by name.

    Raises ValueError where the run is no classifier's or knows other categories than the data.
    """
    names = snapshot.categories
    net = snapshot.classifier
    plan = plan_drawings(uri, split, names, extra_columns=(_RECOGNIZED, _COUNTRY))
    work = partial(answers, net, plan, len(names))
    found, *others = spread.parts(work)
    for other in others:
        found.merge(other)
    figures = found.confusion.figures()
    assert figures is not None
    scores = category_scores(figures.matrix)
    rows = figures.matrix.sum(axis=1)
    pairs = most_confused(figures.matrix, _PAIRS)
    bins = found.calibration.bins()
    evaluation = ClassifierEvaluation(
        snapshot=locations.public(snapshot.uri),
        content_hash=snapshot.sha256,
        preset=snapshot.experiment.preset,
        drawings_seen=int(snapshot.metrics["drawings_seen"]),
        data=locations.public(uri),
        split=split,
        drawings=int(rows.sum()),
        **figures.scalars,
        calibration_error=found.calibration.error,
        reliability=tuple(ReliabilityBin(drawings=n, confidence=c, accuracy=a) for n, c, a in bins),
        categories={
            name: CategoryRecognition(
                drawings=int(rows[k]),
                recall=_known(scores.recall[k]),
                precision=_known(scores.precision[k]),
                f1=_known(scores.f1[k]),
            )
            for k, name in enumerate(names)
        },
        confused=tuple(
            ConfusedPair(
                category=names[true],
                read_as=names[read],
                drawings=int(figures.matrix[true, read]),
                share=float(figures.matrix[true, read] / rows[true]),
            )
            for true, read in pairs
        ),
        by_recognized=found.by(_RECOGNIZED),
        by_country=found.by(_COUNTRY),
        confusion=tuple(map(tuple, figures.matrix.tolist())),
    )
    files = {
        "confusion.png": png(confusion_picture(figures.matrix, names)),
        "reliability.png": png(reliability_picture(bins, found.calibration.error)),
    }
    if pairs:
        files["confused.png"] = _examples(plan, names, {pair: found.mistakes[pair] for pair in pairs})
    return evaluation, files


def _examples(plan: StreamPlan, names: tuple[str, ...], mistakes: dict[tuple[int, int], list[int]]) -> bytes:
    """A contact sheet as PNG: a row for each pair, with drawings that were read wrong."""
    drawn = by_number(plan, sorted({number for numbers in mistakes.values() for number in numbers}))
    rows: list[tuple[str, NDArray[np.uint8]]] = [
        (f"{names[true]} read as {names[read]}", np.stack([drawn[number] for number in numbers]))
        for (true, read), numbers in mistakes.items()
    ]
    return png(named_rows(rows))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
