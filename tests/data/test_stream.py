"""The stream: what the ranks get is the epoch's order, rasterised; any cursor, any number of ranks."""

import gc
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from doodle_dist.config.load import load_experiment
from doodle_dist.data import stream, stream_here, stream_plan, stream_ray, stream_rows
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.raster import rasterize_packed
from doodle_dist.data.shards import PrepareRequest, prepare
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.data.storage_errors import DamagedError
from doodle_dist.data.stream import Batch, SilentStreamError, rank_batches
from doodle_dist.data.stream_plan import StreamPlan, Window, plan_stream, windows
from doodle_dist.data.stroke_augment import StrokeAugment
from doodle_dist.training import worker
from doodle_dist.training.plan import training_plan
from tests.conftest import write_drawings
from tests.datasets import train_plan
from tests.image_sets import all_of, find, noise, write_cifar

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("local_ray")]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> str:
    folder = tmp_path_factory.mktemp("stream")
    write_drawings(folder / "raw", {"cat": 700, "dog": 500, "fish": 133})
    sources = tuple(find_sources([str(folder / "raw")]))
    prepare(
        PrepareRequest(
            sources,
            categories_of(sources),
            str(folder / "data"),
            split_percents=(90.0, 5.0, 5.0),
            shards=3,
            row_group_rows=64,
        )
    )
    return str(folder / "data")


@pytest.fixture(autouse=True)
def most_through_ray_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a rank reads itself would else be the whole of these small datasets."""
    monkeypatch.setattr(stream_plan, "HEAD_DRAWINGS", 100)


def joined(parts: list[list[Batch]]) -> list[tuple[int, list[int], bytes, list[int]]]:
    """Every step's global batch, from its ranks' parts."""
    return [
        (
            batches[0].epoch,
            np.concatenate([b.key_ids for b in batches]).tolist(),
            np.concatenate([b.pixels for b in batches]).tobytes(),
            np.concatenate([b.labels for b in batches]).tolist(),
        )
        for batches in zip(*parts, strict=True)
    ]


def test_two_epochs_each_drawing_once_the_same_for_one_and_three_ranks(dataset: str) -> None:
    plan = train_plan(dataset)
    alone = joined([list(rank_batches(plan, epochs=2))])
    ranks = [list(rank_batches(plan, rank=r, world_size=3, epochs=2)) for r in range(3)]
    assert joined(ranks) == alone
    keys = np.concatenate(list(stream_rows.split_key_ids(plan)))
    for epoch in (0, 1):
        seen = [key for e, step, _, _ in alone if e == epoch for key in step]
        assert sorted(seen) == sorted(keys.tolist())
    assert [s for e, s, _, _ in alone if e == 0] != [s for e, s, _, _ in alone if e == 1]
    consumed = np.cumsum([len(step) for e, step, _, _ in alone if e == 0])
    assert [b.consumed for b in ranks[0] if b.epoch == 0] == consumed.tolist()
    assert all(b.global_rows == len(s) for b, (_, s, _, _) in zip(ranks[0], alone, strict=True))


def test_from_any_cursor_nothing_is_read_twice_or_skipped(dataset: str) -> None:
    plan = train_plan(dataset)
    whole = joined([list(rank_batches(plan, epochs=2))])
    steps = plan.order(0).steps
    for done in (1, 7, steps - 1, steps):
        consumed = min(done * plan.global_batch, plan.rows)
        rest = [list(rank_batches(plan, rank=r, world_size=2, consumed=consumed, epochs=2)) for r in range(2)]
        assert joined(rest) == whole[done:]


def test_pictures_and_labels_belong_to_their_key_ids(dataset: str) -> None:
    manifest = load_manifest(dataset)
    truth = {}
    for shard in manifest.splits["train"].shards:
        table = pq.read_table(Path(dataset) / shard.path)
        for key, label, packed in zip(
            *(table[c].to_pylist() for c in ("key_id", "label", "strokes")), strict=True
        ):
            buffer = np.frombuffer(packed, np.uint8)
            truth[key] = (label, rasterize_packed(buffer, np.array([0, len(buffer)], np.int32))[0])
    batch = next(rank_batches(train_plan(dataset)))
    assert batch.pixels.shape == (64, 1, 28, 28)
    assert batch.labels.dtype == np.int64
    for key, label, picture in zip(batch.key_ids.tolist(), batch.labels, batch.pixels, strict=True):
        assert label == truth[key][0]
        assert np.array_equal(picture[0], truth[key][1])


def test_colour_pictures_come_as_planes_with_their_labels(tmp_path: Path) -> None:
    pixels, labels = noise(300, 3, 32, 32), np.arange(300) % 10
    write_cifar(tmp_path / "raw", "data_batch_1.bin", pixels, labels)
    sources = tuple(find(tmp_path / "raw"))
    to = str(tmp_path / "data")
    prepare(
        PrepareRequest(sources, categories_of(sources), to, (100.0, 0.0, 0.0), shards=2, row_group_rows=32)
    )
    row_of = {key: row for row, key in enumerate(all_of(list(sources))[2])}
    for categories, wanted in (((), range(10)), (("ship", "bird"), (2, 8))):
        plan = train_plan(to, categories=categories, window_bytes=100 * 3072)
        batches = [batch for rank in range(2) for batch in rank_batches(plan, rank=rank, world_size=2)]
        assert {(batch.pixels.dtype.name, *batch.pixels.shape[1:]) for batch in batches} == {
            ("uint8", 3, 32, 32)
        }
        rows = [row_of[int(key)] for batch in batches for key in batch.key_ids]
        assert sorted(rows) == [row for row in range(300) if labels[row] in wanted]
        assert np.array_equal(np.concatenate([batch.pixels for batch in batches]), pixels[rows])
        named = [list(wanted).index(label) for label in labels[rows]]
        assert np.concatenate([batch.labels for batch in batches]).tolist() == named


def test_changed_strokes_are_the_same_for_any_ranks_and_new_in_each_epoch(dataset: str) -> None:
    plain = train_plan(dataset)
    plan = train_plan(dataset, strokes=StrokeAugment(rotate_deg=20, stroke_shift=0.1, flip_probability=0.5))
    alone = joined([list(rank_batches(plan, epochs=2))])
    ranks = [list(rank_batches(plan, rank=r, world_size=2, epochs=2)) for r in range(2)]
    assert joined(ranks) == alone
    pictures: list[dict[int, bytes]] = [{}, {}]
    for epoch, keys, pixels, _ in alone:
        rows = (pixels[k * 784 : (k + 1) * 784] for k in range(len(keys)))
        pictures[epoch] |= dict(zip(keys, rows, strict=True))
    assert pictures[0].keys() == pictures[1].keys()
    same = sum(pictures[0][key] == pictures[1][key] for key in pictures[0])
    assert same < 0.01 * len(pictures[0])
    untouched = joined([list(rank_batches(plain, epochs=1))])
    assert [step[1] for step in untouched] == [step[1] for step in alone[: len(untouched)]], "the order stays"
    assert [step[2] for step in untouched] != [step[2] for step in alone[: len(untouched)]]


def test_only_training_drawings_are_changed(dataset: str) -> None:
    experiment = load_experiment(
        "classifier-340-small", [f"data.uri={dataset}", "train.global_batch=64", "model.classifier.width=4"]
    )
    manifest = load_manifest(dataset)
    assert training_plan(experiment, manifest).strokes is not None
    held_out = list(worker.held_out(experiment, manifest, RankAlone(), None))  # type: ignore[arg-type]
    plain = rank_batches(plan_stream(manifest, dataset, "val", lanes=1, global_batch=512))
    expected, found = (
        {
            int(key): picture.tobytes()
            for batch in of
            for key, picture in zip(batch.key_ids, batch.pixels, strict=True)
        }
        for of in (plain, held_out)
    )
    assert len(found) == sum(len(batch.key_ids) for batch in held_out) == manifest.splits["val"].rows > 0
    assert found == expected


class RankAlone:
    """What an evaluation asks of a context."""

    rank, world_size, device = 0, 1, torch.device("cpu")


def test_a_subset_of_categories_is_streamed_whole_and_relabelled(dataset: str) -> None:
    plan = train_plan(dataset, categories=("fish", "cat"))
    batches = list(rank_batches(plan))
    labels = np.concatenate([b.labels for b in batches])
    counts = load_manifest(dataset).splits["train"].counts
    assert np.bincount(labels).tolist() == [counts[0], counts[2]]
    keys = np.concatenate([b.key_ids for b in batches])
    assert len(np.unique(keys)) == len(keys) == plan.rows
    with pytest.raises(ValueError, match="did you mean 'fish'"):
        train_plan(dataset, categories=("fisch",))


def test_whoever_rasterises_and_with_however_many_threads_the_batches_are_the_same(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = joined([list(rank_batches(train_plan(dataset)))])
    assert joined([list(rank_batches(train_plan(dataset, rasterize="tasks")))]) == expected
    monkeypatch.setattr(stream, "CHUNK_DRAWINGS", 150)  # two steps, and not a whole window
    assert joined([list(rank_batches(train_plan(dataset), threads=3))]) == expected


def test_whoever_reads_the_batches_are_the_same(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = joined([list(rank_batches(train_plan(dataset), epochs=2))])
    monkeypatch.setattr(stream_ray, "windows_read", None)
    plan = train_plan(dataset, read="worker", window_bytes=200 * 128)
    assert len(list(windows(plan, 8, 0, 0, 1))) > 4, "several windows are read ahead"
    assert joined([list(rank_batches(plan, epochs=2))]) == expected
    ranks = [list(rank_batches(plan, rank=r, world_size=2, consumed=192, epochs=2)) for r in range(2)]
    assert joined(ranks) == expected[3:]


def test_windows_of_drawings_with_many_points_which_ray_data_cuts_are_whole(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = joined([list(rank_batches(train_plan(dataset, read="worker"), epochs=2))])
    blocks, cut = stream_ray._blocks, []

    def counted(plan: StreamPlan, lanes: range, todo: list[Window], buffer_bytes: int) -> Iterator[pa.Table]:
        tables = list(blocks(plan, lanes, todo, buffer_bytes))
        cut.append(len(tables) / len(todo))
        yield from tables

    monkeypatch.setattr(stream_ray, "_blocks", counted)
    monkeypatch.setattr(StreamPlan, "bytes_of_drawing", 8)  # of some 40, against which Ray Data holds a block
    plan = train_plan(dataset, window_bytes=200 * 8)
    assert joined([list(rank_batches(plan, epochs=2))]) == expected
    assert max(cut) > 1, "blocks a window"
    ranks = [list(rank_batches(plan, rank=r, world_size=3, epochs=2)) for r in range(3)]
    assert joined(ranks) == expected


def test_a_stream_that_is_dropped_is_not_waited_for(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector ends it in whatever thread it runs in, which may hold what a reading thread waits for."""
    go_on, asked = threading.Event(), threading.Event()
    really_read, windows_read = stream_here.read_window, []

    def read(*arguments: Any) -> pa.Table:
        windows_read.append(arguments[2])
        if len(windows_read) > 1:
            asked.set()
            assert go_on.wait(60)
        return really_read(*arguments)

    monkeypatch.setattr(stream_here, "read_window", read)
    monkeypatch.setattr(stream_plan, "HEAD_DRAWINGS", 400)
    monkeypatch.setattr(stream, "CHUNK_DRAWINGS", 64)  # the second window is read while the first is cut
    batches = rank_batches(train_plan(dataset, read="worker", window_bytes=800 * 128))
    next(batches)
    assert asked.wait(60)
    del batches
    collector = threading.Thread(target=gc.collect, daemon=True)
    collector.start()
    collector.join(10)
    assert not collector.is_alive()
    go_on.set()


@pytest.mark.parametrize(("nodes", "reader"), [(1, "windows_here"), (2, "windows_read")])
def test_ray_data_reads_where_there_are_cores_of_other_nodes(
    dataset: str, monkeypatch: pytest.MonkeyPatch, nodes: int, reader: str
) -> None:
    assert stream.nodes_with_cores() == 1, "the Ray of these tests"
    monkeypatch.setattr(stream, "nodes_with_cores", lambda: nodes)
    for other in {"windows_here", "windows_read"} - {reader}:
        monkeypatch.setattr(stream, other, None)
    plan = train_plan(dataset, read="auto")
    assert sum(len(batch.labels) for batch in rank_batches(plan)) == plan.rows


def test_what_a_rank_cannot_read_it_says(dataset: str, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "data")
    plan = train_plan(str(tmp_path / "data"), read="worker")
    (tmp_path / "data" / plan.shards[1]).unlink()
    with pytest.raises(DamagedError, match="not found, and the dataset's manifest names it"):
        list(rank_batches(plan))


@pytest.mark.parametrize("head", [1, 64, 10_000])
def test_what_a_rank_reads_itself_changes_nothing(
    dataset: str, monkeypatch: pytest.MonkeyPatch, head: int
) -> None:
    plan = train_plan(dataset)
    expected = joined([list(rank_batches(plan, epochs=2))])
    monkeypatch.setattr(stream_plan, "HEAD_DRAWINGS", head)
    assert joined([list(rank_batches(plan, epochs=2))]) == expected


def test_the_first_batches_need_no_process_of_ray_data(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started = threading.Event()
    released = threading.Event()
    pipeline = stream_ray._pipeline

    def late(*given: object) -> object:
        started.set()
        assert released.wait(60)
        return pipeline(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(stream_ray, "_pipeline", late)
    batches = rank_batches(train_plan(dataset))
    assert started.wait(60), "Ray Data starts before a batch is asked for"
    head = [next(batches)]
    released.set()
    assert len(head + list(batches)) == train_plan(dataset).order(0).steps
    batches.close()


def test_a_stream_that_falls_silent_is_an_error_and_is_not_waited_for(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, blocks = threading.Event(), stream_ray._blocks

    def silent(*given: Any) -> Iterator[pa.Table]:
        through_ray = blocks(*given)
        yield next(through_ray)
        assert released.wait(60)
        yield from through_ray

    monkeypatch.setattr(stream_ray, "_blocks", silent)
    batches = rank_batches(train_plan(dataset, window_bytes=200 * 128))
    drawn = [next(batches) for _ in range(3)]  # from the rank itself, and from Ray Data's first window
    monkeypatch.setattr(stream, "SILENCE_S", 0.5)
    monkeypatch.setattr(stream, "_CLOSE_WITHIN_S", 0.1)
    with pytest.raises(SilentStreamError, match=r"no drawings came for 0 s.* data\.read=worker"):
        drawn += batches
    closing = threading.Thread(target=batches.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    released.set()
    wait([batches._coming])
    batches.close()
    assert 3 <= len(drawn) < train_plan(dataset).order(0).steps


def test_a_stream_that_nobody_drew_from_can_be_closed(dataset: str) -> None:
    batches = rank_batches(train_plan(dataset))
    batches.close()
    assert list(batches) == []
