"""What an evaluation found, as `evaluation.json` in the run's folder, and what may be compared."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from doodle_dist.data import locations, storage
from doodle_dist.errors import mismatch

EVALUATION = "evaluation.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReaderInfo(_Frozen):
    """A classifier that figures were made by: its run, and the sha256 of its weights."""

    run: str
    content_hash: str

    @property
    def short_hash(self) -> str:
        return self.content_hash[:12]


class Figure(_Frozen):
    """A figure of the samples, and the floor: what as many held-out real drawings have."""

    value: float
    floor: float
    standard_error: float | None = None
    floor_standard_error: float | None = None


class Share(_Frozen):
    """An accuracy reached with generated drawings, and with as many real ones."""

    generated: float
    real: float
    drawings: int

    @property
    def ratio(self) -> float:
        return self.generated / self.real if self.real else float("nan")


class CategoryFigures(_Frozen):
    """One category: its samples, their Fréchet distance, and the share that the judge reads."""

    samples: int
    fid: Figure | None
    read: Share | None


class GanEvaluation(_Frozen):
    """A generator against the training split, in ``evaluator``'s features.

    ``samples`` have the labels of the first so many drawings of ``split``, which make the floor. ``intra_fid``
    is the mean over categories. ``conditional_accuracy`` is the judge's; ``classification_accuracy`` that of a
    classifier trained on ``drawings`` samples alone.
    """

    kind: Literal["gan"] = "gan"
    snapshot: str
    content_hash: str
    preset: str
    drawings_seen: int
    data: str
    split: str
    samples: int
    seed: int
    reference: int
    evaluator: ReaderInfo
    judge: ReaderInfo | None
    fid: Figure
    intra_fid: Figure | None
    kid: Figure
    precision: Figure
    recall: Figure
    density: Figure
    coverage: Figure
    conditional_accuracy: Share | None
    classification_accuracy: Share | None
    categories: dict[str, CategoryFigures]


class Recognition(_Frozen):
    """Drawings of one kind, and the share that was read right."""

    drawings: int
    accuracy: float


class CategoryRecognition(_Frozen):
    """One category; none where nothing was drawn, or nothing read as it."""

    drawings: int
    recall: float | None
    precision: float | None
    f1: float | None


class ConfusedPair(_Frozen):
    """Drawings of ``category`` that were read as another, and their share of the category's."""

    category: str
    read_as: str
    drawings: int
    share: float


class ReliabilityBin(_Frozen):
    """Drawings whose highest probability lies in one of equal ranges: its mean, and the share read right."""

    drawings: int
    confidence: float
    accuracy: float


class ClassifierEvaluation(_Frozen):
    """A classifier on all drawings of a split. ``by_country`` has what the dataset names, most drawings first."""

    kind: Literal["classifier"] = "classifier"
    snapshot: str
    content_hash: str
    preset: str
    drawings_seen: int
    data: str
    split: str
    drawings: int
    top1: float
    top3: float
    map3: float
    balanced: float
    balanced_standard_error: float
    macro_f1: float
    loss: float
    calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    categories: dict[str, CategoryRecognition]
    confused: tuple[ConfusedPair, ...]
    by_recognized: dict[str, Recognition]
    by_country: dict[str, Recognition]
    confusion: tuple[tuple[int, ...], ...]


Evaluation = GanEvaluation | ClassifierEvaluation
_either: TypeAdapter[Evaluation] = TypeAdapter(Evaluation)


def write_evaluation(run: str, found: Evaluation) -> str:
    """Write a run's evaluation, in place of an earlier one; its URI."""
    where = locations.join(run, EVALUATION)
    storage.write_atomic(where, found.model_dump_json(indent=2).encode())
    return where


def read_evaluation(run: str) -> Evaluation:
    """A run's evaluation. Raises ValueError where there is none, or not one of ours."""
    where = locations.join(run, EVALUATION)
    if not storage.exists(where):
        raise ValueError(f"{run} has no {EVALUATION}; `doodle-dist evaluate` writes one")
    try:
        return _either.validate_json(storage.read_bytes(where))
    except ValidationError as error:
        raise ValueError(
            f"{where} is not an evaluation of this release ({mismatch(error)}); evaluate the run again"
        ) from None


def same_evaluator(one: GanEvaluation, other: GanEvaluation) -> None:
    """Raise ValueError where two results were made in the features of different classifiers."""
    a, b = one.evaluator, other.evaluator
    if a.content_hash != b.content_hash:
        raise ValueError(
            f"{other.snapshot} was evaluated by {b.short_hash} and {one.snapshot} by {a.short_hash}: figures of "
            "different evaluators are not comparable; evaluate one of them again"
        )


def comparable(found: Sequence[Evaluation]) -> list[GanEvaluation]:
    """The results, where all may stand in one table: generators' of one evaluator, judge, dataset, categories and
    sample count.

    Raises ValueError otherwise.
    """
    generators: list[GanEvaluation] = []
    for one in found:
        if not isinstance(one, GanEvaluation):
            raise ValueError(f"{one.snapshot} is a classifier's; only GAN runs are compared")
        if generators:
            first = generators[0]
            same_evaluator(first, one)
            if first.categories.keys() != one.categories.keys():
                raise ValueError(
                    f"{one.snapshot} draws other categories than {first.snapshot}: not comparable"
                )
            for name in ("data", "split", "samples", "reference"):
                a, b = getattr(first, name), getattr(one, name)
                if a != b:
                    raise ValueError(
                        f"{one.snapshot} was evaluated with {name}={b} and {first.snapshot} with {name}={a}: "
                        "not comparable; evaluate one of them again"
                    )
        judges = {g.judge.content_hash[:12] for g in (*generators, one) if g.judge}
        if len(judges) > 1:
            raise ValueError(
                f"{one.snapshot} was read by another judge than the runs before ({', '.join(sorted(judges))}): "
                "conditional accuracies of different judges are not comparable; evaluate one of them again"
            )
        generators.append(one)
    return generators
