"""The plan of a stream: what it refuses, and that its windows cover the epochs."""

from pathlib import Path

import pytest

from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.stream_plan import head_of, lane_spans, plan_stream, windows
from doodle_dist.data.stroke_augment import StrokeAugment
from tests.datasets import prepare_here, train_plan


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prepare_here(tmp_path_factory.mktemp("plan"), {"cat": 700, "dog": 500, "fish": 133})


def test_strokes_that_dont_change_are_no_plan_and_pixels_have_none(dataset: str) -> None:
    assert train_plan(dataset, strokes=StrokeAugment()).strokes is None
    pixels = load_manifest(dataset).model_copy(update={"kind": "pixels"})
    plan_stream(pixels, dataset, "train", global_batch=64, strokes=StrokeAugment())
    with pytest.raises(ValueError, match=r"data\.strokes changes strokes, but .* holds pixels"):
        plan_stream(pixels, dataset, "train", global_batch=64, strokes=StrokeAugment(shear=0.1))


def test_windows_cover_the_steps_from_the_cursor_on(dataset: str) -> None:
    plan = train_plan(dataset)
    steps = plan.order(0).steps
    found = [(w.epoch, k) for w in windows(plan, 8, 0, 5 * 64, epochs=3) for k in range(w.first, w.stop)]
    assert found == [(0, k) for k in range(5, steps)] + [(e, k) for e in (1, 2) for k in range(steps)]


def test_windows_end_with_the_step_of_the_last_drawing_that_is_wanted(dataset: str) -> None:
    plan = train_plan(dataset)
    steps = plan.order(0).steps

    def found(drawings: int) -> list[tuple[int, int]]:
        return [
            (w.epoch, k) for w in windows(plan, 8, 0, 0, 2, drawings=drawings) for k in range(w.first, w.stop)
        ]

    assert found(128) == [(epoch, k) for epoch in (0, 1) for k in range(2)]
    assert found(129) == [(epoch, k) for epoch in (0, 1) for k in range(3)]
    assert found(10 * plan.rows) == [(epoch, k) for epoch in (0, 1) for k in range(steps)]


def test_of_few_categories_no_more_is_read_for_a_window_than_of_all(tmp_path: Path) -> None:
    """Else a window of two categories of 340 would be read for minutes before its first drawing."""
    dataset = prepare_here(tmp_path, {"cat": 90, "dog": 12_000})
    manifest = load_manifest(dataset)

    def longest(*categories: str) -> int:
        """The most row groups that one rank reads for a window, or for what comes before it."""
        plan = plan_stream(
            manifest,
            dataset,
            "train",
            categories=categories,
            global_batch=8,
            lanes=2,
            window_bytes=1280 * 128,
        )
        order = plan.order(0)
        head, rest = head_of(plan, 2, windows(plan, 2, 0, 0, 1))
        return max(
            len({p.group for span in lane_spans(order, range(2), w) for p in order.pieces(*span)})
            for w in [*head, *rest]
        )

    # A step of eight cats lies in some 8 row groups more or less.
    assert longest("cat") <= longest() + 8
    assert longest() <= 14
