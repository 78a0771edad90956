"""prepare and verify: nothing lost, nothing twice, the same whatever the chunks, and every fault named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from doodle_dist.data import shards
from doodle_dist.data.manifest import check_files, load_group_counts, load_manifest, verify
from doodle_dist.data.schema import Manifest
from doodle_dist.data.shards import PrepareRequest, TooManyRejectsError, _ray_tasks, prepare
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.data.split import split_of
from tests.conftest import write_drawings
from tests.datasets import one_by_one
from tests.image_sets import all_of, find, noise, write_cifar, write_cub, write_folder, write_idx

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("local_ray")]

COUNTS = {"cat": 300, "dog": 200, "fish": 120}


def request_for(source: Path, to: Path, **options: object) -> PrepareRequest:
    sources = tuple(find_sources([str(source)]))
    defaults = {"split_percents": (70.0, 10.0, 20.0), "shards": 6, "row_group_rows": 64}
    return PrepareRequest(sources, categories_of(sources), str(to), **(defaults | options))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_drawings(folder, COUNTS)
    return folder


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    to = tmp_path_factory.mktemp("prepared") / "data"
    prepare(request_for(raw, to))
    return to


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "copy")
    return tmp_path / "copy"


def rows_of(dataset: Path) -> list[dict]:
    return [
        row for file in sorted(dataset.glob("*/part-*.parquet")) for row in pq.read_table(file).to_pylist()
    ]


def test_drawings_that_were_not_recognized_are_left_out_and_counted(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_run_round", one_by_one)
    lines = [orjson.loads(line) for file in sorted(raw.iterdir()) for line in file.read_bytes().splitlines()]
    wanted = {int(line["key_id"]) for line in lines if line["recognized"]}
    assert 0 < len(wanted) < len(lines)
    prepare(request_for(raw, tmp_path / "data", recognized_only=True))
    assert {row["key_id"] for row in rows_of(tmp_path / "data")} == wanted
    manifest = load_manifest(str(tmp_path / "data"))
    assert manifest.recognized_only
    assert sum(source.skipped for source in manifest.sources) == len(lines) - len(wanted)
    assert sum(source.read for source in manifest.sources) == len(lines)


def test_every_drawing_is_there_once_with_its_label(prepared: Path, raw: Path) -> None:
    manifest = load_manifest(str(prepared))
    assert verify(str(prepared)) == []
    assert manifest.categories == ("cat", "dog", "fish")
    assert np.sum([s.counts for s in manifest.splits.values()], axis=0).tolist() == [300, 200, 120]
    said = {}
    for file in raw.glob("*.ndjson"):
        for line in file.read_bytes().splitlines():
            record = orjson.loads(line)
            said[int(record["key_id"])] = (record["word"], record["recognized"], record["drawing"])
    from doodle_dist.data.strokes import unpack_strokes

    found = {}
    for name in ("train", "val", "test"):
        for file in prepared.glob(f"{name}/*.parquet"):
            for row in pq.read_table(file).to_pylist():
                strokes = [[x.tolist(), y.tolist()] for x, y in unpack_strokes(row["strokes"])]
                word = manifest.categories[row["label"]]
                found[row["key_id"]] = (word, row["recognized"], strokes)
    assert found == said


def test_splits_follow_the_hash_and_shards_are_mixed(prepared: Path) -> None:
    percents = load_manifest(str(prepared)).split_percents
    for number, name in enumerate(("train", "val", "test")):
        for file in prepared.glob(f"{name}/*.parquet"):
            keys = pq.read_table(file)["key_id"].to_numpy()
            assert np.all(split_of(keys, percents) == number)
    labels = pq.read_table(next(prepared.glob("train/*.parquet")))["label"].to_numpy()
    assert np.count_nonzero(np.diff(labels)) > len(labels) / 3


def test_group_counts_are_those_of_the_files(prepared: Path) -> None:
    info = load_manifest(str(prepared)).splits["train"]
    counts = load_group_counts(str(prepared), info)
    row = 0
    for shard in info.shards:
        file = pq.ParquetFile(prepared / shard.path)
        for group in range(file.num_row_groups):
            labels = file.read_row_group(group)["label"].to_numpy()
            assert np.bincount(labels, minlength=3).tolist() == counts[row].tolist()
            row += 1
    assert row == len(counts)


def test_the_result_does_not_depend_on_chunks(prepared: Path, raw: Path, tmp_path: Path) -> None:
    prepare(request_for(raw, tmp_path / "small", chunk_bytes=5_000))
    assert rows_of(tmp_path / "small") == rows_of(prepared)


def test_a_cut_off_prepare_goes_on(
    raw: Path, tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(raw, tmp_path / "to")

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "_finish", cut)
    with pytest.raises(KeyboardInterrupt):
        prepare(request)
    assert not (tmp_path / "to" / "manifest.json").exists()
    notes = sorted((tmp_path / "to" / "_staging").glob("*.json"))
    gone = next(note for note in notes if note.name.startswith("chunk"))
    gone.unlink()
    before = {note: note.stat().st_mtime_ns for note in notes if note != gone}
    monkeypatch.undo()
    monkeypatch.setattr(shards.storage, "delete_prefix", lambda uri: None)
    prepare(request)
    assert {note: note.stat().st_mtime_ns for note in before} == before, "finished tasks ran again"
    assert rows_of(tmp_path / "to") == rows_of(prepared)


def test_the_same_command_again_does_nothing_and_another_is_refused(prepared: Path, raw: Path) -> None:
    before = (prepared / "manifest.json").stat().st_mtime_ns
    assert prepare(request_for(raw, prepared)) == load_manifest(str(prepared))
    assert (prepared / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="already holds a dataset"):
        prepare(request_for(raw, prepared, split_percents=(80.0, 10.0, 10.0)))


def test_bad_records_are_listed_with_file_line_and_reason(tmp_path: Path) -> None:
    write_drawings(tmp_path / "raw", {"cat": 50}, first_key=1)
    file = tmp_path / "raw" / "cat.ndjson"
    lines = file.read_bytes().splitlines()
    lines.insert(3, b"{broken")
    lines.insert(30, lines[10])  # the key_id of line 11 again, at line 31
    file.write_bytes(b"\n".join(lines) + b"\n")
    manifest = prepare(request_for(tmp_path / "raw", tmp_path / "to", max_rejects=0.1, chunk_bytes=2_000))
    assert manifest.rows == 50
    assert manifest.rejects.rows == 2
    listed = pq.read_table(tmp_path / "to" / (manifest.rejects.path or "")).to_pylist()
    assert [(Path(row["file"]).name, row["line"]) for row in listed] == [
        ("cat.ndjson", 4),
        ("cat.ndjson", 31),
    ]
    assert "not JSON" in listed[0]["reason"]
    assert "came before" in listed[1]["reason"]


def test_too_many_bad_records_stop_it_naming_the_first(tmp_path: Path) -> None:
    write_drawings(tmp_path / "raw", {"cat": 50})
    with (tmp_path / "raw" / "cat.ndjson").open("ab") as file:
        file.write(b'{"word":"cat"}\n' * 5)
    with pytest.raises(TooManyRejectsError, match=r"5 of 55 records are bad.*cat\.ndjson:51: "):
        prepare(request_for(tmp_path / "raw", tmp_path / "to"))
    assert not (tmp_path / "to" / "manifest.json").exists()


# --- image sets -----------------------------------------------------------------------------------------


def request_for_pictures(source: Path, to: Path, options: dict, **more: object) -> PrepareRequest:
    sources = tuple(find(source, **options))
    defaults = {"split_percents": (70.0, 10.0, 20.0), "shards": 4, "row_group_rows": 16}
    return PrepareRequest(sources, categories_of(sources), str(to), **(defaults | more))


PICTURES, LABELS = noise(60, 3, 32, 32), np.arange(60) % 10


def write_image_set(kind: str, folder: Path) -> tuple[dict, str]:
    """A made-up image set of the kind; the options to read it with, and its shape."""
    if kind == "idx":
        write_idx(folder, "train", PICTURES[:, 0, :28, :28], LABELS, ".gz")
        write_idx(folder, "t10k", PICTURES[:9, 1, :28, :28], LABELS[:9])
        return {}, "28×28×1"
    if kind == "cifar":
        write_cifar(folder, "data_batch_1.bin", PICTURES[:40], LABELS[:40])
        write_cifar(folder, "test_batch.bin", PICTURES[40:], LABELS[40:])
        return {}, "32×32×3"
    if kind == "folder":
        rows = PICTURES.transpose(0, 2, 3, 1)
        write_folder(folder, {"cat": rows[:20], "dog": rows[20:35], "owl": rows[35:]})
        return {}, "32×32×3"
    boxes = {f"{k:03}.Bird": [(4 * n, 3 * n, 20, 15) for n in range(8)] for k in range(1, 4)}
    write_cub(folder, boxes, (60, 40))
    return {"side": 16, "channels": 1, "crop": "bounding-box"}, "16×16×1"


@pytest.mark.parametrize("kind", ["idx", "cifar", "folder", "cub"])
def test_image_sets_are_prepared_whole_whatever_the_chunks(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, shape = write_image_set(kind, tmp_path / "raw")
    sources = find(tmp_path / "raw", **options)
    truth = {}
    for key, label, pixels in zip(*(all_of(sources)[k] for k in (2, 1, 0)), strict=True):
        truth[key] = (label, pixels.tobytes())
    manifest = prepare(request_for_pictures(tmp_path / "raw", tmp_path / "to", options))
    assert verify(str(tmp_path / "to")) == []
    assert manifest.kind == "pixels"
    assert f"{manifest.side}×{manifest.side}×{manifest.channels}" == shape
    assert manifest.rejects.rows == 0
    assert sum(source.read for source in manifest.sources) == manifest.rows == len(truth)
    rows = rows_of(tmp_path / "to")
    assert {row["key_id"]: (row["label"], row["pixels"]) for row in rows} == truth
    monkeypatch.setattr(shards, "_run_round", one_by_one)  # the chunks are what differs, not who reads them
    prepare(request_for_pictures(tmp_path / "raw", tmp_path / "small", options, chunk_bytes=5_000))
    assert rows_of(tmp_path / "small") == rows


def test_bad_pictures_are_listed_with_their_file_and_a_bad_label_with_its_row(tmp_path: Path) -> None:
    options, _ = write_image_set("folder", tmp_path / "raw")
    for name in ("cat/0003.png", "owl/0001.png"):
        (tmp_path / "raw" / name).write_bytes(b"no picture")
    with pytest.raises(TooManyRejectsError, match=r"2 of 60 records are bad.*cat/0003\.png:1: not a PNG"):
        prepare(request_for_pictures(tmp_path / "raw", tmp_path / "to", options))
    request = request_for_pictures(
        tmp_path / "raw", tmp_path / "to", options, max_rejects=0.1, chunk_bytes=20_000
    )
    manifest = prepare(request)
    assert manifest.rows == 58
    assert [(s.kind, s.read, s.rejected) for s in manifest.sources] == [("image", 60, 2)]
    listed = pq.read_table(tmp_path / "to" / (manifest.rejects.path or "")).to_pylist()
    assert [(row["file"], row["line"], row["reason"]) for row in listed] == [
        (f"{tmp_path}/raw/{name}", 1, "not a PNG or JPEG picture")
        for name in ("cat/0003.png", "owl/0001.png")
    ]
    write_cifar(tmp_path / "bin", "data_batch_1.bin", PICTURES, np.where(np.arange(60) == 41, 99, LABELS))
    manifest = prepare(
        request_for_pictures(tmp_path / "bin", tmp_path / "to2", {}, max_rejects=0.1, chunk_bytes=30_000)
    )
    (bad,) = pq.read_table(tmp_path / "to2" / (manifest.rejects.path or "")).to_pylist()
    assert (bad["file"], bad["line"]) == (f"{tmp_path}/bin/data_batch_1.bin", 42)


def test_other_pictures_or_options_are_another_request(tmp_path: Path) -> None:
    options, _ = write_image_set("folder", tmp_path / "raw")
    first = request_for_pictures(tmp_path / "raw", tmp_path / "to", options)
    assert (
        request_for_pictures(tmp_path / "raw", tmp_path / "to", options).fingerprint() == first.fingerprint()
    )
    others = [request_for_pictures(tmp_path / "raw", tmp_path / "to", {"side": 16})]
    write_folder(tmp_path / "raw", {"cat": PICTURES.transpose(0, 2, 3, 1)[:21]})
    others.append(request_for_pictures(tmp_path / "raw", tmp_path / "to", options))
    assert first.fingerprint() not in {request.fingerprint() for request in others}


def test_shards_and_row_groups_of_larger_pictures_hold_fewer(tmp_path: Path) -> None:
    write_image_set("folder", tmp_path / "raw")
    for side, rows in ((8, 2048), (28, 682), (64, 130), (512, 64)):
        request = request_for_pictures(tmp_path / "raw", tmp_path / "to", {"side": side}, row_group_rows=None)
        assert request.group_rows == rows
    sources = tuple(replace(source, records=50_000) for source in request.sources)
    assert replace(request, sources=sources, shards=None).shards_per_split()[0] > 100


def edit(dataset: Path, change: dict) -> None:
    path = dataset / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_a_manifest_that_is_missing_newer_or_not_ours_is_refused(copy: Path) -> None:
    edit(copy, {"format_version": 99})
    with pytest.raises(ValueError, match="format version 99"):
        load_manifest(str(copy))
    edit(copy, {"format_version": 1, "format": "other"})
    with pytest.raises(ValueError, match="not a doodle_dist manifest"):
        load_manifest(str(copy))
    (copy / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        load_manifest(str(copy))
    (copy / "manifest.json").unlink()
    with pytest.raises(ValueError, match="not a prepared dataset"):
        load_manifest(str(copy))


@pytest.mark.parametrize("path", ["../outside.parquet", "/etc/passwd", "s3://other/x.parquet"])
def test_a_file_outside_the_prefix_is_refused(copy: Path, path: str) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["splits"]["train"]["shards"][0]["path"] = path
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="outside its prefix"):
        load_manifest(str(copy))


def first_shard(dataset: Path) -> tuple[Manifest, Path]:
    manifest = load_manifest(str(dataset))
    return manifest, dataset / manifest.splits["train"].shards[0].path


def test_missing_truncated_and_altered_files_are_named(copy: Path) -> None:
    manifest, path = first_shard(copy)
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    assert any("checksum" in problem and path.name in problem for problem in verify(str(copy)))
    path.write_bytes(data[:-10])
    assert any("bytes" in problem and path.name in problem for problem in verify(str(copy)))
    with pytest.raises(ValueError, match=path.name):
        check_files(str(copy), manifest)
    path.unlink()
    assert any("not found" in problem and path.name in problem for problem in verify(str(copy)))
    with pytest.raises(ValueError, match="missing"):
        check_files(str(copy), manifest)


def test_counts_and_strays_are_verified_too(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["splits"]["train"]["counts"][0] += 1
    (copy / "manifest.json").write_text(json.dumps(manifest))
    shutil.copy(first_shard(copy)[1], copy / "train" / "part-99999.parquet")
    problems = verify(str(copy))
    assert any("counts per category" in problem for problem in problems)
    assert any("part-99999.parquet is not named" in problem for problem in problems)


def test_the_rows_of_splits_and_shards_are_verified_too(copy: Path) -> None:
    text = (copy / "manifest.json").read_text()
    of_split, of_shard = json.loads(text), json.loads(text)
    of_split["splits"]["val"]["rows"] += 1
    (copy / "manifest.json").write_text(json.dumps(of_split))
    [problem] = verify(str(copy))
    assert "split val" in problem
    assert "rows" in problem
    shard = of_shard["splits"]["train"]["shards"][0]
    shard["rows"] += 1
    (copy / "manifest.json").write_text(json.dumps(of_shard))
    [problem] = verify(str(copy))
    assert f"{shard['path']}: {shard['rows'] - 1} rows" in problem


@pytest.mark.parametrize(
    ("gigabytes", "cores", "blocks"),
    [
        (0.05, 2, 8),  # little: a few
        (1.9, 2, 8),  # some seconds a task
        (1.9, 64, 59),  # no more than chunks
        (24, 2, 93),  # not an hour of silence between two of them
        (24, 64, 256),
    ],
)
def test_ray_tasks_are_long_and_every_core_has_some(gigabytes: float, cores: int, blocks: int) -> None:
    assert _ray_tasks(int(gigabytes * 1e9) // (32 << 20), shards._CHUNKS_PER_TASK, cores) == pytest.approx(
        blocks, abs=4
    )


@pytest.mark.parametrize(
    ("runs", "cores", "tasks"), [(1, 2, 8), (16, 2, 8), (191, 2, 47), (191, 16, 64), (191, 256, 191)]
)
def test_tasks_that_write_have_some_runs_each_and_every_core_has_some(
    runs: int, cores: int, tasks: int
) -> None:
    assert _ray_tasks(runs, shards._RUNS_PER_TASK, cores) == tasks
