"""Folders of pictures: decoded, cropped and resized as asked; a bad picture is a bad record; bad folders."""

import io
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from doodle_dist.data import images, storage
from doodle_dist.data.decode import decode_picture
from doodle_dist.data.sources import categories_of, find_sources, plan_chunks
from doodle_dist.data.storage_errors import StorageError
from tests.image_sets import all_of, find, noise, pixels_of, read, write_cub, write_folder

CATS, DOGS = noise(5, 16, 16, 3), noise(3, 16, 16, 3, seed=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_folder(tmp_path / "root", {"cat": CATS, "big dog": DOGS})
    return tmp_path / "root"


def file_bytes(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, form, **options)
    return sink.getvalue()


# --- folders --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_bytes", [1, 2000, 1 << 30])
def test_every_picture_is_read_as_planes_whatever_the_chunks(root: Path, chunk_bytes: int) -> None:
    (source,) = found = find(root)
    assert (source.uri, source.kind, source.shape, source.records) == (str(root), "image", "16×16×3", 8)
    assert categories_of(found).names == ("big dog", "cat")
    pixels, labels, keys, lines = all_of(found, chunk_bytes=chunk_bytes)
    expected = np.concatenate([DOGS, CATS]).transpose(0, 3, 1, 2)
    assert np.array_equal(pixels.reshape(-1, 3, 16, 16), expected)
    assert labels == [0] * 3 + [1] * 5
    assert lines == list(range(8))
    assert len(set(keys)) == 8


def test_key_ids_depend_on_category_and_file_only(root: Path, tmp_path: Path) -> None:
    keys = dict(zip(find(root)[0].id_names, all_of(find(root))[2], strict=True))
    shutil.copytree(root, tmp_path / "else" / "where")
    (root / "big dog" / "0000.png").unlink()  # what else is there makes no difference
    for found in (find(tmp_path / "else" / "where"), find(root), find(f"{root}/*/*.png"), find(root / "cat")):
        assert set(zip(found[0].id_names, all_of(found)[2], strict=True)) <= set(keys.items())
    # fixed for good: datasets are split by these
    assert keys["cat/0000.png"] == 9086700405234115289
    assert images.key_ids([]).dtype == np.uint64


def test_a_categorys_folder_several_of_them_and_globs_are_one_source(root: Path) -> None:
    for uris, count in (
        ([root / "cat"], 5),
        ([root / "cat", root / "big dog"], 8),
        ([f"{root}/*/000[01].png"], 4),
    ):
        (source,) = find(*uris)
        assert (source.uri, source.records) == (str(root), count)


def test_pictures_of_other_categories_are_left_out(root: Path) -> None:
    found = find_sources([str(root)], ["cat"])
    categories = categories_of(found, ["cat"])
    assert found[0].records == 5
    assert categories.names == ("cat",)
    assert all_of(found, categories)[1] == [0] * 5
    write_folder(root.parent / "more", {"owl": noise(2, 24, 24, 3)})  # of another size, and not wanted
    assert find_sources([str(root.parent / "more"), str(root)], ["cat"]) == found
    with pytest.raises(ValueError, match="unknown category 'big dgo'; did you mean 'big dog'"):
        categories_of(find_sources([str(root)], ["big dgo"]), ["big dgo"])


def test_many_small_files_are_few_chunks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(plan_chunks(find(root)[0], 1 << 20)) == 1
    monkeypatch.setattr(images, "FILES_PER_CHUNK", 3)
    chunks = plan_chunks(find(root)[0], 1 << 20)
    assert [len(chunk.files) for chunk in chunks] == [3, 3, 2]
    assert len(all_of(find(root))[1]) == 8


def test_hidden_files_and_notes_are_no_pictures_but_underscores_are(root: Path) -> None:
    (root / "cat" / "._0000.png").write_bytes(b"resource fork")
    (root / "cat" / "notes.txt").write_text("x")
    shutil.copy(root / "cat" / "0000.png", root / "cat" / "_DSC1.PNG")
    assert find(root)[0].records == 9


def test_pictures_that_lie_elsewhere_than_in_a_categorys_folder_are_named(root: Path, tmp_path: Path) -> None:
    (root / "cat" / "more").mkdir()
    deeper = shutil.copy(root / "cat" / "0000.png", root / "cat" / "more" / "0000.png")
    with pytest.raises(ValueError, match=rf"{deeper} does not lie in {root}/<category>/"):
        find(root)
    Path(deeper).unlink()
    stray = shutil.copy(root / "cat" / "0000.png", root / "contact-sheet.png")
    with pytest.raises(ValueError, match=rf"{stray} does not lie in {root}/<category>/"):
        find(root)


def test_wrong_options_and_mixtures_are_one_line(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--class-names: only idx and CIFAR-10 files"):
        find(root, class_names=("a", "b"))
    with pytest.raises(ValueError, match=r"--crop bounding-box: .*root has no bounding_boxes\.txt"):
        find(root, side=8, crop="bounding-box")
    np.save(tmp_path / "cat.npy", np.zeros((1, 784), np.uint8))
    with pytest.raises(ValueError, match=r"28×28×1 and .*root of 16×16×3; prepare them as two datasets"):
        find(tmp_path / "cat.npy", root)
    with pytest.raises(ValueError, match="--side 32: only folders of pictures are cropped and resized, not"):
        find(tmp_path / "cat.npy", side=32)
    found = find(tmp_path / "cat.npy", root, side=28, channels=1)
    assert {source.shape for source in found} == {"28×28×1"}
    shutil.copytree(root, tmp_path / "copy")
    with pytest.raises(
        ValueError, match=r"both name pictures by 'big dog/0000\.png', so they would get the same"
    ):
        find(root, tmp_path / "copy")


def test_the_first_picture_tells_the_size_unless_it_is_given(root: Path) -> None:
    Image.new("RGB", (17, 16)).save(root / "cat" / "wide.png")
    batches = [batch for _, _, batch in read(find(root))]
    assert [bad.reason for batch in batches for bad in batch.rejects] == [
        "17×16 pixels where the first picture has 16×16; --side resizes"
    ]
    assert not [bad for _, _, batch in read(find(root, side=16)) for bad in batch.rejects]
    Image.new("RGB", (17, 16)).save(root / "big dog" / "0000.png")
    with pytest.raises(ValueError, match=r"big dog/0000\.png has 17×16 pixels; give --side N"):
        find(root)
    (root / "big dog" / "0000.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"0000\.png: not a PNG or JPEG picture; --side says how large"):
        find(root)


def bomb() -> bytes:
    """A PNG of a few bytes that claims 60,000 × 60,000 pixels."""

    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(b"\0")) + part(b"IEND", b"")
    )


def test_bad_pictures_are_bad_records_with_their_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = (root / "cat" / "0000.png").read_bytes()
    photo = file_bytes(Image.fromarray(CATS[0]).resize((64, 64)), "JPEG")
    big = file_bytes(Image.new("1", (9000, 8000)))
    bad = {
        "a.png": (b"", "not a PNG or JPEG picture"),
        "b.jpg": (b"hello", "not a PNG or JPEG picture"),
        "c.gif": (file_bytes(Image.new("L", (16, 16)), "GIF"), "not a PNG or JPEG picture"),
        "d.png": (good[: len(good) // 2], "damaged picture"),
        "e.jpg": (photo[: len(photo) // 2], "damaged picture"),
        "f.png": (good[:60] + bytes(20) + good[80:], "damaged picture"),
        "g.png": (bomb(), "more than 64 million pixels"),
        "h.png": (big, "more than 64 million pixels"),
        "i.png": (good + bytes(2000), "a file of more than 0 MB"),
    }
    for name, (data, _) in bad.items():
        (root / "cat" / name).write_bytes(data)
    monkeypatch.setattr(images, "MAX_FILE_BYTES", max(len(big), len(good), len(photo)) + 100)
    (root / "cat" / "i.png").write_bytes(good + bytes(images.MAX_FILE_BYTES))
    (source,) = found = find(root, side=16)
    (chunk,) = plan_chunks(source, 1 << 30)
    ((_, _, batch),) = read(found)
    assert len(batch) == 8
    assert batch.lines_read == 8 + len(bad)
    said = {chunk.place(1, reject.line): reject.reason for reject in batch.rejects}
    assert set(said) == {(str(root / "cat" / name), 1) for name in bad}
    for name, (_, reason) in bad.items():
        assert said[str(root / "cat" / name), 1].startswith(reason), name
        assert "\n" not in said[str(root / "cat" / name), 1]


def test_from_s3(s3_bucket: str, root: Path) -> None:
    for path in root.glob("*/*.png"):
        storage.write_atomic(f"{s3_bucket}/set/{path.parent.name}/{path.name}", path.read_bytes())
    found = find(f"{s3_bucket}/set")
    assert found[0].uri == f"{s3_bucket}/set"
    assert np.array_equal(all_of(found, chunk_bytes=2000)[0], all_of(find(root))[0])
    assert all_of(found)[2] == all_of(find(root))[2]


def test_a_file_that_has_gone_is_named(root: Path) -> None:
    found = find(root)
    (root / "cat" / "0001.png").unlink()
    with pytest.raises(StorageError, match=r"cat/0001\.png not found"):
        list(read(found))


# --- decoding -------------------------------------------------------------------------------------------


def test_a_centred_square_is_kept_and_resized_without_aliases() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255  # the centred square, and nothing beside it
    assert decode_picture(file_bytes(Image.fromarray(wide)), 10, 3).min() == 255
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255  # pixels of black and white by turns
    shrunk = decode_picture(file_bytes(Image.fromarray(board.astype(np.uint8))), 8, 1)
    assert np.abs(shrunk.astype(int) - 127).max() <= 12, "antialiased: a grey, not the board's own pixels"


def test_a_square_of_the_right_size_stays_as_it_is() -> None:
    picture = noise(1, 12, 20, 3)[0]
    kept = decode_picture(file_bytes(Image.fromarray(picture)), 12, 3)
    assert np.array_equal(kept, picture[:, 4:16].transpose(2, 0, 1))


def test_colours_greys_depths_and_transparency() -> None:
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert decode_picture(file_bytes(red), 8, 3)[:, 0, 0].tolist() == [255, 0, 0]
    assert decode_picture(file_bytes(red), 8, 1)[0, 0, 0] == 76  # 0.299 · 255
    grey = Image.new("L", (8, 8), 90)
    assert decode_picture(file_bytes(grey), 8, 3)[:, 3, 3].tolist() == [90, 90, 90]
    deep = Image.fromarray(np.full((8, 8), 0x80FF, np.uint16))
    assert decode_picture(file_bytes(deep), 8, 1)[0, 0, 0] == 0x80
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert decode_picture(file_bytes(clear), 8, 3).min() == 255
    palette = red.convert("P")
    assert decode_picture(file_bytes(palette), 8, 3)[:, 0, 0].tolist() == [255, 0, 0]
    ink = Image.new("CMYK", (8, 8), (0, 0, 0, 255))
    assert decode_picture(file_bytes(ink, "JPEG"), 8, 3).max() < 5


def test_a_cameras_orientation_is_applied() -> None:
    half = np.zeros((8, 8), np.uint8)
    half[:4] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    turned = decode_picture(file_bytes(Image.fromarray(half), exif=exif), 8, 1)[0]
    assert turned[:, 4:].min() == 255
    assert turned[:, :4].max() == 0


# --- bounding boxes -------------------------------------------------------------------------------------

# Pictures are 60 wide and 40 high: a square, a wide one, one in the corner, one wider than the picture is high
BOXES = {
    "001.Albatross": [(10, 10, 20, 20), (20, 5, 20, 10)],
    "002.Wren": [(50, 30, 10, 5), (5, 10, 50, 20)],
}


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    write_cub(tmp_path / "CUB_200_2011", BOXES, (60, 40))
    return tmp_path / "CUB_200_2011"


def test_boxes_are_cropped_square_and_within_the_picture(cub: Path) -> None:
    pixels, labels, _, _ = all_of(find(cub, side=20, channels=1, crop="bounding-box"))
    square, wide, corner, wider = pixels.reshape(4, 20, 20) > 127
    assert labels == [0, 0, 1, 1]
    assert square.all()
    assert wide[5:15].all()
    assert not wide[:4].any()
    assert not wide[16:].any()
    # x 50..60, y 30..35: the square about it is 10 wide, y 27.5..37.5
    assert corner[6:14].all()
    assert not corner[:4].any()
    assert not corner[16:].any()
    # 50 wide but 40 high: the largest square there is, about the box's middle
    assert wider[6:14].all()
    assert not wider[:4].any()
    inside = all_of(find(cub, side=20, channels=1))[0].reshape(4, 20, 20) > 127
    assert 0 < inside[0].mean() < 0.5, "without boxes it is the centred square"


def test_the_layout_is_found_from_three_places_with_the_same_ids(cub: Path) -> None:
    places = [find(place, side=8) for place in (cub, cub.parent, cub / "images")]
    assert [found[0].uri for found in places] == [str(cub / "images")] * 3
    assert len({tuple(all_of(found)[2]) for found in places}) == 1
    assert categories_of(places[0]).names == tuple(BOXES)


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("bounding_boxes.txt", "1 10.0 10.0", "1 ten 10.0", r"picture 1 has the box 'ten 10\.0 20\.0 20\.0'"),
        ("bounding_boxes.txt", "20.0 20.0", "0.0 20.0", "picture 1 has the box"),
        ("bounding_boxes.txt", "20.0 20.0", "nan 20.0", "picture 1 has the box"),
        ("bounding_boxes.txt", "1 10.0 10.0 20.0 20.0\n", "", "no box for picture 1, 001.Albatross/0.jpg"),
        ("bounding_boxes.txt", " 20.0 20.0", " 20.0", r"bounding_boxes\.txt:1: .* has not 5 fields"),
        (
            "images.txt",
            "1 001.Albatross/0.jpg",
            "1 001.Albatross/9.jpg",
            "names 001.Albatross/9.jpg, which is not in",
        ),
        ("images.txt", "1 001.Albatross/0.jpg", "1 0.jpg", "picture 1 is '0.jpg', expected <class>/<file>"),
        (
            "image_class_labels.txt",
            "1 1",
            "1 2",
            "picture 1 lies in 001.Albatross; by .* its class is 002.Wren",
        ),
        ("image_class_labels.txt", "1 1\n", "", "its class is unknown"),
    ],
)
def test_lists_that_are_wrong_are_named(cub: Path, name: str, old: str, new: str, expected: str) -> None:
    path = cub / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=expected) as error:
        find(cub, side=8, crop="bounding-box")
    assert str(cub) in str(error.value)
    assert "\n" not in str(error.value)


def test_lists_that_are_missing_and_a_side_that_is_not_given_are_named(cub: Path) -> None:
    with pytest.raises(ValueError, match="--crop bounding-box needs --side"):
        find(cub, crop="bounding-box")
    with pytest.raises(ValueError, match="has 60×40 pixels; give --side N"):
        find(cub)
    (cub / "bounding_boxes.txt").unlink()
    assert find(cub, side=8)[0].records == 4
    with pytest.raises(ValueError, match=r"--crop bounding-box: .*CUB_200_2011 has no bounding_boxes\.txt"):
        find(cub, side=8, crop="bounding-box")
    (cub / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"CUB_200_2011 has no classes\.txt"):
        find(cub, side=8)


def test_a_box_outside_the_picture_is_a_bad_record(cub: Path) -> None:
    path = cub / "bounding_boxes.txt"
    path.write_text(path.read_text().replace("1 10.0", "1 60.0"))
    ((_, _, batch),) = read(find(cub, side=8, crop="bounding-box"))
    assert [bad.reason for bad in batch.rejects] == ["its bounding box lies outside its 60×40 pixels"]
    assert len(batch) == 3


def test_the_cifar_folder(shared_data: Path) -> None:
    folder = shared_data / "cifar10"
    if not folder.is_dir():
        pytest.skip(f"no CIFAR-10 at {folder}")
    found = find(folder)
    assert (found[0].shape, found[0].records, len(found[0].categories)) == ("32×32×3", 400, 10)
    ((_, _, first), *_) = batches = list(read(found))
    assert sum(len(batch) for _, _, batch in batches) == 400
    with Image.open(folder / found[0].id_names[0]) as picture:
        expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(pixels_of(first)[0].reshape(3, 32, 32), expected)
