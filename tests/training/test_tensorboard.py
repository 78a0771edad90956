"""Curves of a run that was interrupted: each point once, on a disk and on an object store."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from doodle_dist.data import locations, storage
from doodle_dist.training.tensorboard import TensorBoard
from tests.s3 import S3Server


def draw(board: TensorBoard, steps: Iterable[int], offset: float = 0.0) -> None:
    for step in steps:
        board.scalars({"loss": step + offset}, step)


def points(folder: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's name begins with the second it was opened in: give each writer a second of its own."""
    seconds = iter(range(1_700_000_000, 1_700_100_000))
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.time.time", lambda: next(seconds))


def test_what_came_after_the_checkpoint_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_order(monkeypatch)
    first = TensorBoard(str(tmp_path), 0)
    draw(first, range(0, 60, 10))
    first.close()
    again = TensorBoard(str(tmp_path), 30)
    draw(again, range(40, 80, 10), offset=0.5)
    again.close()
    old = [(step, float(step)) for step in range(0, 40, 10)]
    assert points(tmp_path / "tensorboard") == old + [(step, step + 0.5) for step in range(40, 80, 10)]


def test_a_run_interrupted_before_its_first_checkpoint_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order(monkeypatch)
    for offset in (0.0, 0.5):
        board = TensorBoard(str(tmp_path), 0)
        draw(board, (10, 20), offset)
        board.close()
    assert points(tmp_path / "tensorboard") == [(10, 10.5), (20, 20.5)]


def test_pictures_of_one_and_three_channels_and_text_are_written(tmp_path: Path) -> None:
    board = TensorBoard(str(tmp_path), 0)
    board.pictures({"grey": np.zeros((4, 6), np.uint8), "colour": np.zeros((4, 6, 3), np.uint8)}, 10)
    board.text("config", "x = 1")
    board.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["images"]) == ["colour", "grey"]
    image = events.Images("grey")[0]
    assert (image.step, image.height, image.width) == (10, 4, 6)
    assert events.Tags()["tensors"] == ["config/text_summary"]


def test_on_an_object_store_every_flush_is_a_file_and_nothing_is_lost(
    s3_env: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_order(monkeypatch)
    where = f"{s3_bucket}/run"
    bucket = s3_env.root / s3_bucket.removeprefix("s3://") / "run" / "tensorboard"
    first = TensorBoard(where, 0)
    draw(first, (10, 20))
    first.flush()
    assert points(bucket) == [(10, 10), (20, 20)], "there before the checkpoint that counts it"
    draw(first, (30, 40))
    first.close()
    again = TensorBoard(where, 20)
    draw(again, (30, 40), offset=0.5)
    again.flush()
    draw(again, (50,), offset=0.5)
    again.close()
    names = [locations.basename(file.uri) for file in storage.list_files(f"{where}/tensorboard")]
    assert len(names) == len(set(names)) == 4
    assert points(bucket) == [(10, 10), (20, 20), (30, 30.5), (40, 40.5), (50, 50.5)]
