"""idx files: pictures with their labels whatever the chunks, names for the labels, and files that are not it."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from doodle_dist.data import storage
from doodle_dist.data.bitmaps import key_ids
from doodle_dist.data.categories import Categories
from doodle_dist.data.sources import categories_of
from tests.image_sets import all_of, find, idx_bytes, noise, pixels_of, read, write_idx

DIGITS = tuple("0123456789")
PIXELS = noise(60, 28, 28)
LABELS = np.arange(60) % 10


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("chunk_bytes", [1, 5000, 1 << 30])
def test_every_picture_is_read_with_its_label(tmp_path: Path, suffix: str, chunk_bytes: int) -> None:
    write_idx(tmp_path, "train", PIXELS, LABELS, suffix)
    (source,) = found = find(tmp_path)
    assert (source.kind, source.side, source.channels, source.records) == ("idx", 28, 1, 60)
    assert source.size == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert categories_of(found).names == DIGITS
    pixels, labels, keys, lines = all_of(found, chunk_bytes=chunk_bytes)
    assert np.array_equal(pixels, PIXELS.reshape(60, 784))
    assert labels == LABELS.tolist()
    assert lines == list(range(60))
    assert keys == key_ids("train-images-idx3-ubyte", np.arange(60, dtype=np.uint64)).tolist()


def test_key_ids_depend_on_the_files_name_and_the_row_only(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", "train", PIXELS, LABELS)
    write_idx(tmp_path / "b" / "c", "train", PIXELS, LABELS, ".gz")
    for part, other in (("images", "idx3"), ("labels", "idx1")):
        path = tmp_path / "d" / f"train-{part}.{other}-ubyte"  # as some copies are named
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((tmp_path / "a" / f"train-{part}-{other}-ubyte").read_bytes())
    write_idx(tmp_path / "a2", "t10k", PIXELS, LABELS)
    plain, packed, dotted, others = (
        set(all_of(find(tmp_path / name))[2]) for name in ("a", "b/c", "d", "a2")
    )
    assert plain == packed == dotted
    assert len(plain) == 60
    assert not plain & others
    # fixed for good: datasets are split by these
    assert all_of(find(tmp_path / "a"))[2][:2] == [8524519136016723090, 17745382210717765984]


def test_both_files_of_a_folder_are_read_and_labels_may_be_packed_or_not(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", PIXELS, LABELS)
    write_idx(tmp_path, "t10k", PIXELS[:7], LABELS[:7], ".gz")
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.with_suffix("").write_bytes(gzip.decompress(labels.read_bytes()))
    labels.unlink()
    found = find(tmp_path)
    assert [source.records for source in found] == [7, 60]
    assert len(set(all_of(found)[2])) == 67


def test_names_come_from_the_option_or_the_file_beside_or_are_digits(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", PIXELS, LABELS, ".gz")
    names = tuple(f"{chr(ord('z') - k)}/{k}" for k in range(10))  # sorted, they come the other way round
    (tmp_path / "classes.txt").write_text("\r\n".join(names) + "\r\n\n")
    found = find(tmp_path)
    assert categories_of(found).names == tuple(sorted(names))
    assert all_of(found)[1] == (9 - LABELS).tolist()
    assert categories_of(find(tmp_path, class_names=tuple("abcdefghij"))).names == tuple("abcdefghij")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a", "b", "a"), "'a' is there twice"),
        (("a", ""), "name 2 is empty"),
        (tuple(map(str, range(257))), "257 classes; labels are bytes, so at most 256"),
    ],
)
def test_names_that_are_none_are_refused(tmp_path: Path, names: tuple[str, ...], expected: str) -> None:
    write_idx(tmp_path, "train", PIXELS, LABELS)
    with pytest.raises(ValueError, match=f"^--class-names.*{expected}"):
        find(tmp_path, class_names=names)
    (tmp_path / "classes.txt").write_text("\n".join(names) + "\nlast\n")
    with pytest.raises(ValueError, match=rf"classes\.txt.*{expected.replace('257', '258')}"):
        find(tmp_path)


def test_a_label_without_a_name_is_a_bad_record_and_one_not_wanted_is_skipped(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", PIXELS[:5], np.array([0, 12, 1, 255, 2]))
    found = find(tmp_path)
    (_, _, batch), *_ = read(found, categories_of(found, ["0", "2"]))
    assert batch.label.tolist() == [0, 1]
    assert batch.line.tolist() == [0, 4]
    assert (batch.skipped, batch.lines_read) == (1, 5)
    assert [(bad.line, bad.reason) for bad in batch.rejects] == [
        (1, "label 12 has no name; there are 10, for 0 to 9"),
        (3, "label 255 has no name; there are 10, for 0 to 9"),
    ]
    assert np.array_equal(pixels_of(batch), PIXELS[[0, 4]].reshape(2, 784))
    with pytest.raises(ValueError, match="categories: unknown category 'cat'"):
        categories_of(found, ["1", "cat"])


def test_none_wanted_of_a_chunk(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", PIXELS[:5], np.zeros(5))
    found = find(tmp_path)
    assert [(len(b), b.skipped) for _, _, b in read(found, categories_of(found, ["7"]))] == [(0, 5)]


HEAD = struct.pack(">BBBB3I", 0, 0, 8, 3, 60, 28, 28)
BAD_IMAGES: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda data: b"", "begins with 0x, no idx file's magic number"),
    (
        lambda data: b"\x89PNG" + data[4:],
        r"begins with 0x89504e47, no idx file's magic number; expected an idx",
    ),
    (
        lambda data: b"\0\0\x0d\3" + data[4:],
        "holds float32 with 3 dimensions; expected an idx file of uint8 with 3",
    ),
    (lambda data: b"\0\0\x08\4" + data[4:], "holds uint8 with 4 dimensions"),
    (lambda data: data[:10], "ends within its header"),
    (
        lambda data: data[:-1],
        r"has 47,055 bytes, its header says 60×28×28 values, 47,056 bytes: it is cut off",
    ),
    (lambda data: data + b"x", "is cut off or damaged"),
    (
        lambda data: idx_bytes(np.zeros((60, 28, 30), np.uint8)),
        "holds pictures of 28×30; expected square ones",
    ),
    (lambda data: idx_bytes(np.zeros((60, 0, 0), np.uint8)), "holds pictures of 0×0"),
    (lambda data: idx_bytes(np.zeros((59, 28, 28), np.uint8)), r"holds 59 pictures and .*ubyte 60 labels"),
]


@pytest.mark.parametrize(("spoil", "expected"), BAD_IMAGES)
def test_other_files_are_refused(tmp_path: Path, spoil: Callable[[bytes], bytes], expected: str) -> None:
    path = write_idx(tmp_path, "train", PIXELS, LABELS)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match=expected) as error:
        find(tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_labels_that_are_missing_or_none_are_named(tmp_path: Path) -> None:
    path = write_idx(tmp_path, "train", PIXELS, LABELS)
    labels = tmp_path / "train-labels-idx1-ubyte"
    data = labels.read_bytes()
    for spoilt, expected in (
        (data[:-1], "67 bytes, its header says 60 values"),
        (HEAD, "uint8 with 3 dimensions; expected"),
    ):
        labels.write_bytes(spoilt)
        with pytest.raises(ValueError, match=expected) as error:
            find(tmp_path)
        assert str(labels) in str(error.value)
    labels.unlink()
    with pytest.raises(
        ValueError, match=r"has no labels: expected train-labels-idx1-ubyte or .*gz beside it"
    ):
        find(path)


@pytest.mark.parametrize(
    ("part", "spoil", "expected"),
    [
        ("images-idx3", lambda data: data[:-100], "is cut off or damaged: the gzip file is cut off"),
        (
            "images-idx3",
            lambda data: data[:-8] + b"\0\0\0\0" + data[-4:],
            "is damaged .*incorrect data check",
        ),
        ("images-idx3", lambda data: gzip.compress(gzip.decompress(data)[:-1]), "it ends at record 60 of 60"),
        (
            "images-idx3",
            lambda data: gzip.compress(gzip.decompress(data) + b"x"),
            "has more bytes than its header",
        ),
        ("labels-idx1", lambda data: data[:-9], "is cut off or damaged: the gzip file is cut off"),
    ],
)
def test_packed_files_that_are_damaged_are_refused_when_read(
    tmp_path: Path, part: str, spoil: Callable[[bytes], bytes], expected: str
) -> None:
    write_idx(tmp_path, "train", PIXELS, LABELS, ".gz")
    path = tmp_path / f"train-{part}-ubyte.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match=expected) as error:
        all_of(find(tmp_path))
    assert str(path) in str(error.value)


def test_the_checksum_at_the_end_of_a_larger_file_is_looked_at(tmp_path: Path) -> None:
    path = write_idx(tmp_path, "train", noise(200, 28, 28), np.arange(200) % 10, ".gz")
    data = path.read_bytes()
    path.write_bytes(data[:-8] + bytes(4) + data[-4:])
    with pytest.raises(ValueError, match=r"cut off or damaged: the gzip file is damaged.*CRC check failed"):
        all_of(find(tmp_path))


def test_a_file_that_is_no_gzip_is_named(tmp_path: Path) -> None:
    path = write_idx(tmp_path, "train", PIXELS, LABELS, ".gz")
    path.write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is not a gzip file"):
        find(tmp_path)


def test_no_pictures(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", PIXELS[:0], LABELS[:0])
    write_idx(tmp_path, "t10k", PIXELS[:0], LABELS[:0], ".gz")
    assert sum(len(batch) for _, _, batch in read(find(tmp_path))) == 0


def test_from_s3(s3_bucket: str, tmp_path: Path) -> None:
    for suffix, stem in (("", "train"), (".gz", "t10k")):
        write_idx(tmp_path, stem, PIXELS, LABELS, suffix)
    for path in tmp_path.iterdir():
        storage.write_atomic(f"{s3_bucket}/mnist/{path.name}", path.read_bytes())
    pixels, labels, keys, _ = all_of(find(f"{s3_bucket}/mnist"), chunk_bytes=9000)
    assert np.array_equal(pixels, np.tile(PIXELS.reshape(60, 784), (2, 1)))
    assert labels == LABELS.tolist() * 2
    assert len(set(keys)) == 120


def test_mnists_own_test_files(shared_data: Path) -> None:
    folder = shared_data / "mnist"
    if not folder.is_dir():
        pytest.skip(f"no MNIST at {folder}")
    found = find(folder)
    pixels, labels, keys, _ = all_of(found, Categories(DIGITS))
    raw = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert pixels.tobytes() == raw[16:]
    # the published counts of the digits 0 to 9 in the test set
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert len(set(keys)) == 10_000
