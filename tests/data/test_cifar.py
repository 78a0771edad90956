"""CIFAR-10's binary version: planes and labels whatever the chunks, told apart from Quick, Draw!'s ``.bin``."""

import struct
from pathlib import Path

import numpy as np
import pytest

from doodle_dist.data import cifar, locations, storage
from doodle_dist.data.sources import categories_of
from doodle_dist.data.strokes import pack_strokes
from tests.image_sets import all_of, find, noise, read, write_cifar

PIXELS = noise(40, 3, 32, 32)
LABELS = np.arange(40) % 10
DRAWING = struct.pack("<Q2sbI", 7, b"US", 1, 0) + pack_strokes([[[1, 9], [2, 8]]])


@pytest.mark.parametrize("chunk_bytes", [1, 10_000, 1 << 30])
def test_every_picture_is_read_with_its_label_and_planes(tmp_path: Path, chunk_bytes: int) -> None:
    write_cifar(tmp_path, "data_batch_1.bin", PIXELS[:25], LABELS[:25])
    write_cifar(tmp_path, "test_batch.bin", PIXELS[25:], LABELS[25:])
    (tmp_path / "readme.html").write_text("notes")
    found = find(tmp_path)
    assert [(s.kind, s.shape, s.records) for s in found] == [
        ("cifar", "32×32×3", 25),
        ("cifar", "32×32×3", 15),
    ]
    assert categories_of(found).names == cifar.NAMES
    pixels, labels, keys, lines = all_of(found, chunk_bytes=chunk_bytes)
    assert np.array_equal(pixels.reshape(-1, 3, 32, 32), PIXELS)
    assert labels == LABELS.tolist()
    assert lines == [*range(25), *range(15)]
    assert len(set(keys)) == 40
    # fixed for good: datasets are split by these
    assert keys[:2] == [13558832795012785869, 15583539633522129207]


def test_key_ids_do_not_depend_on_where_the_file_lies(tmp_path: Path) -> None:
    for folder in ("a", "b/c"):
        write_cifar(tmp_path / folder, "data_batch_1.bin", PIXELS, LABELS)
    assert all_of(find(tmp_path / "a"))[2] == all_of(find(tmp_path / "b" / "c" / "data_batch_1.bin"))[2]


def test_names_come_from_the_option_or_the_file_beside(tmp_path: Path) -> None:
    write_cifar(tmp_path, "data_batch_1.bin", PIXELS, LABELS)
    names = tuple("jihgfedcba")
    (tmp_path / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    found = find(tmp_path)
    assert categories_of(found).names == tuple("abcdefghij")
    assert all_of(found)[1] == (9 - LABELS).tolist()
    assert all_of(find(tmp_path, class_names=tuple("0123456789")))[1] == LABELS.tolist()


def test_a_label_above_nine_is_a_bad_record_and_one_not_wanted_is_skipped(tmp_path: Path) -> None:
    write_cifar(tmp_path, "data_batch_1.bin", PIXELS[:4], np.array([3, 10, 0, 5]))
    found = find(tmp_path)
    ((_, _, batch),) = read(found, categories_of(found, ["cat", "dog"]))
    assert batch.label.tolist() == [0, 1]
    assert batch.skipped == 1
    assert [(bad.line, bad.reason) for bad in batch.rejects] == [
        (1, "label 10 has no name; there are 10, for 0 to 9")
    ]


def test_which_bin_files_are_cifars(tmp_path: Path) -> None:
    names = ("my_batch_a.bin", "cat.bin", "test_batch.bin")
    for name in names:
        write_cifar(tmp_path, name, PIXELS, LABELS)
    kinds = {
        locations.basename(source.uri): source.kind for source in (find(tmp_path / name)[0] for name in names)
    }
    assert kinds == {"my_batch_a.bin": "cifar", "cat.bin": "binary", "test_batch.bin": "cifar"}
    (tmp_path / "batches.meta.txt").write_text("\n".join(cifar.NAMES))
    assert find(tmp_path / "cat.bin")[0].kind == "cifar"
    for name in (
        "cat.bin",
        "cat_batch.bin",
    ):  # of another length they are Quick, Draw!'s, whatever lies beside
        (tmp_path / name).write_bytes(DRAWING)
        assert find(tmp_path / name)[0].kind == "binary"


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b""])
def test_a_file_of_another_length_is_refused(tmp_path: Path, change: object) -> None:
    path = write_cifar(tmp_path, "data_batch_1.bin", PIXELS, LABELS)
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"no multiple of 3,073, CIFAR-10's record: it is cut off") as error:
        find(tmp_path)
    assert str(path) in str(error.value)


def test_a_packed_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"data_batch_1\.bin\.gz: .*gunzip it first"):
        find(tmp_path)


def test_from_s3(s3_bucket: str, tmp_path: Path) -> None:
    data = write_cifar(tmp_path, "data_batch_1.bin", PIXELS, LABELS).read_bytes()
    storage.write_atomic(f"{s3_bucket}/cifar-10-batches-bin/data_batch_1.bin", data)
    storage.write_atomic(
        f"{s3_bucket}/cifar-10-batches-bin/batches.meta.txt", b"\n".join(map(str.encode, "zyxwvutsrq"))
    )
    pixels, labels, _, _ = all_of(find(f"{s3_bucket}/cifar-10-batches-bin"), chunk_bytes=40_000)
    assert np.array_equal(pixels.reshape(-1, 3, 32, 32), PIXELS)
    assert labels == (9 - LABELS).tolist()
