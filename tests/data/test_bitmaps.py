"""Google's bitmaps: read by ranges, ids that depend on category and row only, and files that are not it."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest

from doodle_dist.data import bitmaps, storage
from doodle_dist.data.categories import Categories
from doodle_dist.data.records import Source
from doodle_dist.data.sources import find_sources
from tests.image_sets import noise

CATEGORIES = Categories(("apple", "cat"), others=frozenset({"dog"}))


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def read(path: Path | str, chunk_bytes: int = 1 << 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pixels, key ids, absolute rows) of a file, over all its chunks."""
    first, pixels, keys, rows = 0, [np.zeros((0, 784), np.uint8)], [], []
    for chunk in bitmaps.plan_chunks(Source(str(path), storage.size(str(path)), "bitmap"), chunk_bytes):
        read = 0
        for batch in bitmaps.read_chunk(chunk, CATEGORIES):
            assert batch.pixels.type.byte_width == 784
            pixels.append(np.frombuffer(b"".join(batch.pixels.to_pylist()), np.uint8).reshape(-1, 784))
            keys += batch.key_id.tolist()
            rows += (batch.line + first).tolist()
            read += batch.lines_read
            assert batch.recognized.all()
            assert set(batch.countrycode.to_pylist()) == {""}
        first += read
    return np.concatenate(pixels), np.array(keys, np.uint64), np.array(rows)


@pytest.mark.parametrize("chunk_bytes", [1, 784, 5000, 1 << 30])
def test_rows_are_read_whatever_the_chunks(tmp_path: Path, chunk_bytes: int) -> None:
    array = np.random.default_rng(0).integers(0, 256, (50, 784), np.uint8)
    path = tmp_path / "full_numpy_bitmap_cat.npy"
    path.write_bytes(npy(array))
    pixels, keys, rows = read(path, chunk_bytes)
    assert np.array_equal(pixels, array)
    assert np.array_equal(rows, np.arange(50))
    assert np.array_equal(keys, bitmaps.key_ids("cat", np.arange(50, dtype=np.uint64)))


def test_a_zipped_file_gives_the_same_pictures_and_ids(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (50, 784), np.uint8)
    (tmp_path / "cat.npy").write_bytes(npy(array))
    (tmp_path / "zipped").mkdir()
    (tmp_path / "zipped" / "cat.npy.gz").write_bytes(gzip.compress(npy(array)))
    [source] = find_sources([str(tmp_path / "zipped")])
    assert (source.kind, source.categories) == ("bitmap", ("cat",))
    for plain, zipped in zip(read(tmp_path / "cat.npy", 5000), read(source.uri, 5000), strict=True):
        assert np.array_equal(plain, zipped)
    (tmp_path / "zipped" / "cat.npy").write_bytes(npy(array))
    with pytest.raises(ValueError, match=r"cat\.npy is there twice, plain and as \.gz"):
        find_sources([str(tmp_path / "zipped")])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data[:-1], "is not a gzip file"),
        (lambda data: gzip.compress(data[:-1]), "is cut off or damaged: it ends at record 50 of 50"),
        (lambda data: gzip.compress(data)[:-20], "is cut off or damaged"),
        (lambda data: gzip.compress(data + b"x"), "has more bytes than its header says"),
        (lambda data: gzip.compress(data[:60]), "is not a .npy file"),
    ],
)
def test_damaged_zipped_files_are_refused(tmp_path: Path, change: object, expected: str) -> None:
    path = tmp_path / "cat.npy.gz"
    path.write_bytes(change(npy(noise(50, 784))))  # type: ignore[operator]
    with pytest.raises(ValueError, match=expected) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_key_ids_depend_on_category_and_row_only(tmp_path: Path) -> None:
    array = np.zeros((5, 784), np.uint8)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cat.npy").write_bytes(npy(array))
    (tmp_path / "full_numpy_bitmap_cat.npy").write_bytes(npy(array))
    (tmp_path / "apple.npy").write_bytes(npy(array))
    keys = [read(tmp_path / name)[1] for name in ("a/cat.npy", "full_numpy_bitmap_cat.npy", "apple.npy")]
    assert np.array_equal(keys[0], keys[1])
    assert not set(keys[0].tolist()) & set(keys[2].tolist())
    # fixed for good: datasets are split by these
    assert keys[0].tolist()[:2] == [15687922857948742306, 1353445587752833402]


@pytest.mark.slow
def test_key_ids_are_all_different_and_spread() -> None:
    rows = np.arange(1_000_000, dtype=np.uint64)
    keys = np.concatenate([bitmaps.key_ids(name, rows) for name in ("cat", "dog")])
    assert len(np.unique(keys)) == 2_000_000
    shares = np.bincount((keys % np.uint64(10)).astype(np.int64)) / len(keys)
    assert np.allclose(shares, 0.1, atol=0.002)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((5, 28, 28), np.uint8), r"holds uint8 \[5, 28, 28\]; expected uint8 \[N, 784\]"),
        (np.zeros((5, 785), np.uint8), r"holds uint8 \[5, 785\]"),
        (np.zeros((5, 784), np.float32), r"holds float32 \[5, 784\]"),
        (np.asfortranarray(np.zeros((5, 784), np.uint8)), "Fortran order"),
        (np.array([{"a": 1}], dtype=object), r"holds object \[1\]"),
        (np.zeros((), np.uint8), r"holds uint8 \[\]"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, expected: str) -> None:
    path = tmp_path / "cat.npy"
    path.write_bytes(npy(array))
    with pytest.raises(ValueError, match=expected) as error:
        bitmaps.plan_chunks(Source(str(path), path.stat().st_size, "bitmap"), 1000)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: b"", "is not a .npy file"),
        (lambda data: b"PK\x03\x04" + data, "is not a .npy file"),
        (lambda data: data[:60], "is not a .npy file"),
        (lambda data: data[:-1], "is cut off or damaged"),
        (lambda data: data + b"x", "is cut off or damaged"),
        (lambda data: data.replace(b"(50, 784)", b"open('x')"), "is not a .npy file"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, change: object, expected: str) -> None:
    path = tmp_path / "cat.npy"
    path.write_bytes(change(npy(np.zeros((50, 784), np.uint8))))  # type: ignore[operator]
    with pytest.raises(ValueError, match=expected) as error:
        bitmaps.plan_chunks(Source(str(path), path.stat().st_size, "bitmap"), 1000)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_categories(tmp_path: Path) -> None:
    data = npy(np.zeros((3, 784), np.uint8))
    for name in ("dog", "kat"):
        (tmp_path / f"{name}.npy").write_bytes(data)
    (chunk,) = bitmaps.plan_chunks(Source(str(tmp_path / "dog.npy"), len(data), "bitmap"), 1 << 20)
    assert [(len(b), b.skipped, b.lines_read) for b in bitmaps.read_chunk(chunk, CATEGORIES)] == [(0, 3, 3)]
    (chunk,) = bitmaps.plan_chunks(Source(str(tmp_path / "kat.npy"), len(data), "bitmap"), 1 << 20)
    with pytest.raises(ValueError, match="unknown category 'kat'; did you mean 'cat'"):
        list(bitmaps.read_chunk(chunk, CATEGORIES))


def test_no_rows(tmp_path: Path) -> None:
    (tmp_path / "cat.npy").write_bytes(npy(np.zeros((0, 784), np.uint8)))
    assert len(read(tmp_path / "cat.npy")[0]) == 0


def test_from_s3(s3_bucket: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, (50, 784), np.uint8)
    uri = f"{s3_bucket}/numpy_bitmap/cat.npy"
    storage.write_atomic(uri, npy(array))
    pixels, _, rows = read(uri, 7000)
    assert np.array_equal(pixels, array)
    assert len(rows) == 50


def test_googles_own_files(shared_data: Path) -> None:
    path = shared_data / "google_bitmaps" / "full_numpy_bitmap_cat.npy"
    pixels, keys, _ = read(path, 400_000)
    assert np.array_equal(pixels, np.load(path, allow_pickle=False))
    assert len(np.unique(keys)) == 2000
