"""Reading drawings and pictures: what is read, from which file and line, and what is said of the rest."""

import gzip
import io
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from PIL import Image

from doodle_dist.data.raster import rasterize
from doodle_dist.evaluation.classify import classify, classify_files, read_items
from doodle_dist.evaluation.foreign import as_training_picture
from doodle_dist.pictures import png
from doodle_dist.run.snapshot import load_snapshot
from tests.conftest import write_drawings
from tests.runs import save_run

NAMES = ("cat", "dog", "fish")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("judge")
    save_run(folder, "classifier-small", NAMES)
    return str(folder)


def strokes_of(line: bytes) -> list:
    return orjson.loads(line)["drawing"]


def test_every_line_of_a_file_is_read_in_order_whatever_its_length(run: str, tmp_path: Path) -> None:
    write_drawings(tmp_path, {"cat": 600})
    file = tmp_path / "cat.ndjson"
    lines = file.read_bytes().splitlines()
    snapshot = load_snapshot(run)
    found = list(classify(snapshot, read_items(snapshot, [str(file)]), top=2))
    assert [(reading.line, reading.word) for _, reading in found] == [(k, "cat") for k in range(1, 601)]
    for k in (0, 255, 256, 599):
        item, reading = found[k]
        raster = rasterize(strokes_of(lines[k]))
        assert np.array_equal(item.pixels[0], raster)
        with torch.no_grad():
            shares = snapshot.classifier(
                torch.from_numpy(raster.copy())[None, None].float() / 127.5 - 1
            ).softmax(1)[0]
        values, labels = shares.topk(2)
        assert [name for name, _ in reading.top] == [NAMES[label] for label in labels.tolist()]
        assert np.allclose([share for _, share in reading.top], values.numpy(), atol=1e-5)


def test_raw_compressed_and_unnamed_drawings_are_read_too(run: str, tmp_path: Path) -> None:
    simplified = [[[0, 255, 128], [0, 100, 200]]]
    raw = [[[10.5, 521.0, 266.5], [20.0, 220.5, 420.0], [0, 5, 9]]]
    records = [{"drawing": simplified}, {"drawing": raw, "word": 7}]
    file = tmp_path / "x.ndjson.gz"
    file.write_bytes(gzip.compress(b"\n".join(map(orjson.dumps, records))))
    one, two = read_items(load_snapshot(run), [str(file)])
    assert one.word is None
    assert two.word is None
    assert np.array_equal(one.pixels, two.pixels), "the raw drawing is the same, twice as large, and moved"


def test_a_bad_line_is_named_and_the_others_are_read(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_drawings(tmp_path, {"dog": 3})
    file = tmp_path / "dog.ndjson"
    one, two, three = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([one, b"{", two, b"", b'{"drawing": []}', b'{"word": "dog"}', three]))
    classify_files(run, [str(file)], as_json=True)
    out, err = capsys.readouterr()
    assert [orjson.loads(line)["line"] for line in out.splitlines()] == [1, 3, 7]
    assert [line.removeprefix(str(file)) for line in err.splitlines()] == [
        ":2: not JSON: unexpected end of data at column 2",
        ":5: empty drawing",
        ":6: not a JSON object with a drawing",
    ]


def test_pictures_are_made_as_the_training_drawings_or_taken_as_they_are(run: str, tmp_path: Path) -> None:
    house = [[[0, 0, 128, 255, 255, 0], [255, 110, 0, 110, 255, 255]]]
    big = 255 - rasterize(house, side=200)
    (tmp_path / "house.png").write_bytes(png(big))
    (tmp_path / "small.png").write_bytes(png(rasterize(house)))
    snapshot = load_snapshot(run)
    files = [str(tmp_path / "house.png"), str(tmp_path / "small.png")]
    made, small = read_items(snapshot, files)
    assert np.array_equal(made.pixels[0], as_training_picture(png(big), 28))
    assert np.array_equal(small.pixels[0], rasterize(house))
    as_it_is, _ = read_items(snapshot, files, as_is=True)
    expected = np.asarray(Image.fromarray(big).resize((28, 28), Image.Resampling.BICUBIC))
    assert np.array_equal(as_it_is.pixels[0], expected)


def test_the_answer_for_a_person_and_for_a_program(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_drawings(tmp_path, {"cat": 2})
    picture = tmp_path / "x.png"
    picture.write_bytes(png(rasterize([[[0, 255], [0, 255]]])))
    files = [str(tmp_path / "cat.ndjson"), str(picture)]
    classify_files(run, files, top=9, as_json=True, seen=tmp_path / "seen.png")
    answers = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["file"] for answer in answers] == [files[0], files[0], files[1]]
    assert "line" not in answers[2]
    for answer in answers:
        shares = [one["probability"] for one in answer["top"]]
        assert shares == sorted(shares, reverse=True)
        assert abs(sum(shares) - 1) < 1e-5
        assert {one["category"] for one in answer["top"]} == set(NAMES)
    assert Image.open(tmp_path / "seen.png").size == (3 * 30 + 2, 32)
    classify_files(run, files)
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{files[0]}:1 (cat): ")
    assert lines[2].startswith(f"{files[1]}: ")
    assert "of 2 drawings of the run's categories read as the word they carry" in last


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.png", b"not a picture", r"x\.png: not a PNG or JPEG picture"),
        ("x.gif", b"GIF89a", r"x\.gif: not a PNG or JPEG picture"),
        ("x.png", png(np.arange(1600, dtype=np.uint8).reshape(40, 40))[:90], r"x\.png: damaged picture"),
        ("x.png", png(np.zeros((40, 40), np.uint8)), r"x\.png: nothing is drawn in it"),
        ("x.ndjson", b"", r"x\.ndjson holds no drawing"),
        ("x.ndjson", b"\x89PNG\r\n", r"x\.ndjson holds no drawing"),
        ("x.ndjson.gz", b"plain", r"x\.ndjson\.gz"),
    ],
)
def test_a_file_that_is_none_is_named(run: str, tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        classify_files(run, [str(tmp_path / name)])


def test_only_a_classifier_reads(tmp_path: Path) -> None:
    save_run(tmp_path, "doodle-gan-small", NAMES)
    with pytest.raises(ValueError, match=r"is of a GAN; a classifier's run is needed"):
        classify_files(str(tmp_path), ["x.png"])


def test_a_jpeg_is_a_picture_whatever_its_name(run: str, tmp_path: Path) -> None:
    sink = io.BytesIO()
    Image.fromarray(255 - rasterize([[[0, 255, 90], [0, 255, 200]]], side=150)).save(sink, "JPEG")
    (tmp_path / "photo").write_bytes(sink.getvalue())
    (item,) = read_items(load_snapshot(run), [str(tmp_path / "photo")])
    assert item.pixels.shape == (1, 28, 28)
    assert item.pixels.max() > 200
