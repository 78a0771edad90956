"""Grids of samples: the same for the same seed, refused in one line, and neighbours that are the nearest."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from doodle_dist.config.model import GeneratorConfig
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.records import PictureOptions
from doodle_dist.data.sources import find_sources
from doodle_dist.data.stream_pictures import pictures
from doodle_dist.data.stream_plan import Window, plan_stream
from doodle_dist.data.stream_rows import read_window
from doodle_dist.evaluation.drawings import chunks, pictures_of, plan_drawings
from doodle_dist.evaluation.sample import (
    _Neighbours,
    _write_array,
    generate,
    labels_asked_for,
    latents_of,
    stream_samples,
    write_samples,
)
from doodle_dist.models.base import Generator
from doodle_dist.pictures import to_images, to_pixels
from doodle_dist.run.snapshot import load_snapshot
from tests.datasets import prepare_here
from tests.runs import save_run

NAMES = ("cat", "dog", "fish")


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = tmp_path_factory.mktemp("gan")
    save_run(run, "doodle-gan-small", NAMES)
    return str(run)


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run whose generator doesn't see the category."""
    run = tmp_path_factory.mktemp("blind")
    save_run(run, "doodle-gan-small", NAMES, settings=("model.generator.conditioning=none",))
    return str(run)


def test_a_seed_is_a_picture(gan: str, tmp_path: Path) -> None:
    names = ("a.png", "b.png", "c.png")
    for name, seed in zip(names, (1, 1, 2), strict=True):
        write_samples(gan, count=3, seed=seed, output=tmp_path / name)
    one, again, other = ((tmp_path / name).read_bytes() for name in names)
    assert one == again
    assert one != other


def test_a_category_of_a_seed_does_not_depend_on_the_batches(
    gan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, labels = load_snapshot(gan), torch.arange(3).repeat_interleave(4)
    whole = generate(snapshot, labels, seed=0)
    assert whole.shape == (12, 1, 28, 28)
    monkeypatch.setattr("doodle_dist.evaluation.sample._BATCH", 5)
    assert torch.allclose(generate(snapshot, labels, seed=0), whole, atol=1e-5)


def test_a_drawing_stays_as_it_is_with_more_of_them_or_other_categories(gan: str) -> None:
    snapshot = load_snapshot(gan)
    config = snapshot.experiment.model.generator
    assert config is not None
    many = latents_of(config, 1, 700, seed=5)
    assert torch.equal(latents_of(config, 1, 3, seed=5), many[:3])
    assert torch.equal(latents_of(config, 1, 30, seed=5, first=250), many[250:280]), "across blocks"
    assert len(torch.unique(many, dim=0)) == 700
    assert not torch.equal(latents_of(config, 2, 3, seed=5), many[:3])
    both = generate(snapshot, torch.tensor([2, 1, 2, 1]), seed=5)
    alone = generate(snapshot, torch.tensor([1, 1]), seed=5)
    assert torch.allclose(both[[1, 3]], alone, atol=1e-5)
    later = generate(snapshot, torch.tensor([1]), seed=5, first=1)
    assert torch.allclose(later, alone[1:], atol=1e-5)


def test_two_that_write_the_same_array_at_once_write_into_a_file_each(gan: str, tmp_path: Path) -> None:
    snapshot, output = load_snapshot(gan), tmp_path / "x.npy"

    def batches(value: int, meanwhile: bool) -> Iterator[tuple[str, np.ndarray]]:
        yield "cat", np.full((2, 1, 28, 28), value, np.uint8)
        if meanwhile:
            _write_array(output, batches(2, False), snapshot, 4)
            assert (np.load(output) == 2).all()
        yield "dog", np.full((2, 1, 28, 28), value, np.uint8)

    _write_array(output, batches(1, True), snapshot, 4)
    assert (np.load(output) == 1).all(), "who is done last"
    assert [file.name for file in tmp_path.iterdir()] == ["x.npy"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        _write_array(tmp_path / "nowhere" / "x.npy", batches(1, False), snapshot, 4)


def test_an_array_and_a_folder_hold_the_same_pictures_white_on_black(gan: str, tmp_path: Path) -> None:
    asked = {"categories": ("dog", "cat"), "count": 300, "seed": 3}
    write_samples(gan, output=tmp_path / "x.npy", **asked)
    array = np.load(tmp_path / "x.npy", allow_pickle=False)
    assert (array.shape, array.dtype) == ((600, 28, 28), np.uint8)
    about = json.loads((tmp_path / "x.json").read_bytes())
    assert (about["categories"], about["drawings_per_category"], about["seed"]) == (["dog", "cat"], 300, 3)
    write_samples(gan, output=tmp_path / "x", **asked)
    files = sorted((tmp_path / "x" / "cat").iterdir())
    assert len(files) == 300
    for k in (0, 255, 256, 299):
        assert np.array_equal(np.asarray(Image.open(files[k])), array[300 + k])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x", "x.json", "x.npy"]


def test_a_folder_of_samples_can_be_prepared(gan: str, tmp_path: Path) -> None:
    write_samples(gan, output=tmp_path / "x", count=2)
    (source,) = find_sources([str(tmp_path / "x")], options=PictureOptions(channels=1))
    assert (source.kind, source.categories, source.records) == ("image", ("cat", "dog", "fish"), 6)


def test_pictures_of_an_earlier_call_are_not_left_among_the_new_ones(gan: str, tmp_path: Path) -> None:
    folder = write_samples(gan, output=tmp_path / "x", count=5)
    before = {file: file.read_bytes() for file in folder.rglob("*.png")}
    for asked in ({"count": 3}, {"count": 3, "categories": ("dog",), "seed": 1}):
        with pytest.raises(ValueError, match=r"x/(cat|dog) has other pictures already, such as 0000003\.png"):
            write_samples(gan, output=folder, **asked)
    assert {file: file.read_bytes() for file in folder.rglob("*.png")} == before, "nothing was drawn"
    write_samples(gan, output=folder, count=6, seed=1)
    assert len(list(folder.rglob("*.png"))) == 3 * 6
    assert all(file.read_bytes() != picture for file, picture in before.items()), "all are of the last call"


def test_a_category_can_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    for name in ("../cat", "a/b", "..", ".cat"):
        run = tmp_path / str(hash(name))
        save_run(run, "doodle-gan-small", ("dog", name))
        with pytest.raises(ValueError, match="can't be a folder's name"):
            write_samples(str(run), output=tmp_path / "x", count=1)
    assert not (tmp_path / "x").exists()


def test_a_million_samples_are_drawn_a_batch_at_a_time(gan: str) -> None:
    drawn = stream_samples(load_snapshot(gan), {"cat": 0, "dog": 1}, 1_000_000, seed=1)
    parts = [next(drawn) for _ in range(3)]
    assert [(name, len(pixels)) for name, pixels in parts] == [("cat", 256)] * 3
    assert not np.array_equal(parts[0][1], parts[1][1])


def test_a_file_that_is_not_finished_is_not_there(
    gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Iterator[tuple[str, np.ndarray]]:
        yield "cat", np.zeros((2, 1, 28, 28), np.uint8)
        raise OSError(28, "No space left on device", "x.npy")

    monkeypatch.setattr("doodle_dist.evaluation.sample.stream_samples", lambda *_, **__: broken())
    with pytest.raises(OSError, match="No space"):
        write_samples(gan, output=tmp_path / "x.npy")
    assert list(tmp_path.iterdir()) == []


def test_a_lower_truncation_stays_closer_to_the_middle(gan: str) -> None:
    config = load_snapshot(gan).experiment.model.generator
    assert config is not None
    assert latents_of(config, 0, 300, seed=0, truncation=0.5).abs().max() <= 0.5
    assert latents_of(config, 0, 300, seed=0).abs().max() > 3


def test_the_sheet_has_a_row_for_each_category_asked_for(gan: str, tmp_path: Path) -> None:
    all_three = Image.open(write_samples(gan, count=2, output=tmp_path / "all.png"))
    one = Image.open(write_samples(gan, categories=("dog",), count=2, output=tmp_path / "one.png"))
    assert all_three.height == 3 * one.height
    lines = Image.open(write_samples(gan, categories=("dog",), count=40, output=tmp_path / "many.png"))
    assert lines.height < 3 * one.height, "three lines of at most sixteen"
    assert lines.width < 1100


def test_wrong_requests_are_one_line(gan: str, tmp_path: Path) -> None:
    output = tmp_path / "x.png"
    with pytest.raises(ValueError, match=r"--categories: unknown category 'fihs'; did you mean 'fish'\?"):
        write_samples(gan, categories=("fihs",), output=output)
    for count, seed, truncation, said in (
        (0, 0, None, "-n 0: should be at least 1"),
        (1, -1, None, "--seed -1: should be 0 to"),
        (1, 2**64, None, "--seed 18446744073709551616: should be 0 to"),
        (1, 0, 0.0, "--truncation 0: should be above 0"),
        (1, 0, float("nan"), "--truncation nan: should be above 0"),
        (1_000_000, 0, None, r"a grid of 3,000,000 drawings is too large .* -o samples.npy"),
    ):
        with pytest.raises(ValueError, match=said):
            write_samples(gan, count=count, seed=seed, truncation=truncation, output=output)
    with pytest.raises(ValueError, match=r"x.jpg: should end with .png"):
        write_samples(gan, output=tmp_path / "x.jpg")
    with pytest.raises(ValueError, match="--neighbours are shown in a grid"):
        write_samples(gan, output=tmp_path / "x.npy", judge=gan)
    with pytest.raises(ValueError, match="--checkpoint 'first': should be best or latest"):
        write_samples(gan, which="first", output=output)
    save_run(tmp_path / "judge", "classifier-small")
    with pytest.raises(ValueError, match="a GAN's run is needed"):
        write_samples(str(tmp_path / "judge"), output=output)
    with pytest.raises(ValueError, match="a classifier's run is needed"):
        write_samples(gan, output=output, judge=gan)
    assert not output.exists()


# --- generators that don't see the category -------------------------------------------------------------


def test_drawings_of_a_generator_that_does_not_see_the_category_are_of_any(
    blind: str, tmp_path: Path
) -> None:
    sheet = Image.open(write_samples(blind, count=2, output=tmp_path / "x.png"))
    assert sheet.height == 2 * (28 + 4), "one row, scale 2"
    write_samples(blind, count=2, output=tmp_path / "x")
    files = sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "x").rglob("*.png"))
    assert files == ["x/any/0000000.png", "x/any/0000001.png"]
    write_samples(blind, count=2, output=tmp_path / "x.npy")
    assert np.load(tmp_path / "x.npy").shape == (2, 28, 28)
    assert json.loads((tmp_path / "x.json").read_bytes())["categories"] == ["any"]
    with pytest.raises(ValueError, match="a generator that doesn't see the category; leave out --categories"):
        write_samples(blind, categories=("cat",), output=tmp_path / "y.png")


def test_of_one_category_every_drawing_is(tmp_path: Path) -> None:
    save_run(tmp_path, "doodle-gan-small", ("cat",), settings=("model.generator.conditioning=none",))
    snapshot = load_snapshot(str(tmp_path))
    assert labels_asked_for(snapshot) == labels_asked_for(snapshot, ("cat",)) == {"cat": 0}


def test_a_category_that_is_called_any_is_one(tmp_path: Path) -> None:
    save_run(tmp_path, "doodle-gan-small", ("all", "any", "some"))
    snapshot = load_snapshot(str(tmp_path))
    assert labels_asked_for(snapshot, ("any",)) == {"any": 1}
    assert labels_asked_for(snapshot) == {"all": 0, "any": 1, "some": 2}


class Shades(Generator):
    """Reads the label in a way of its own: a flat picture, lighter with each category."""

    published_width = 1

    def __init__(
        self, config: GeneratorConfig, *, num_categories: int, side: int = 28, channels: int = 1
    ) -> None:
        super().__init__(config, num_categories=num_categories, side=side, channels=channels)
        self.lightest = torch.nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        flat = z.new_ones(len(z), self.channels, self.side, self.side)
        return flat * (self.lightest * (y + 1) / self.num_categories)[:, None, None, None]

    def sees_label(self) -> bool:
        return True


def test_a_generator_of_ones_own_says_that_it_sees_the_category(tmp_path: Path) -> None:
    name = f"model.generator.name={Shades.__module__}:Shades"
    save_run(tmp_path, "doodle-gan-small", NAMES, settings=(name,))
    write_samples(str(tmp_path), count=1, output=tmp_path / "x.npy")
    assert json.loads((tmp_path / "x.json").read_bytes())["categories"] == list(NAMES)
    assert np.load(tmp_path / "x.npy")[:, 0, 0].tolist() == [170, 213, 255]


def test_neighbours_of_any_are_the_nearest_of_all_training_drawings(blind: str, tmp_path: Path) -> None:
    data = prepare_here(tmp_path, {"cat": 60, "dog": 60, "fish": 60}, (80.0, 10.0, 10.0))
    save_run(tmp_path / "judge", "classifier-small", NAMES)
    plan = plan_drawings(data, "train", NAMES)
    copied = np.concatenate([pictures_of(plan, chunk) for chunk in chunks(plan, 20)])
    (found,) = _Neighbours(load_snapshot(blind), str(tmp_path / "judge"), data).of([("any", copied)])
    assert np.array_equal(found, copied), "whatever the category"


def test_neighbours_are_the_nearest_training_drawings_of_the_category(gan: str, tmp_path: Path) -> None:
    data = prepare_here(tmp_path, {"cat": 60, "dog": 60, "fish": 60}, (80.0, 10.0, 10.0))
    save_run(tmp_path / "judge", "classifier-small", ("cat", "dog", "fish"))
    judge = str(tmp_path / "judge")
    snapshot = load_snapshot(gan)
    drawn = generate(snapshot, torch.tensor([1, 1, 1]), seed=0)
    rows = [("dog", to_pixels(drawn)), ("cat", to_pixels(drawn[:2]))]
    found, cats = _Neighbours(snapshot, judge, data).of(rows)
    assert cats.shape == (2, 1, 28, 28)
    drawn = to_images(to_pixels(drawn), torch.device("cpu"))

    plan = plan_stream(load_manifest(data), data, "train", categories=("dog",), lanes=1, global_batch=4096)
    dogs = pictures(plan, read_window(plan, range(1), Window(0, 0, 1)))
    features = load_snapshot(judge).classifier.features
    distance = torch.cdist(features(drawn), features(torch.from_numpy(dogs.copy()).float() / 127.5 - 1))
    reached = torch.cdist(features(drawn), features(torch.from_numpy(found.copy()).float() / 127.5 - 1))
    assert torch.allclose(reached.diagonal(), distance.min(dim=1).values, atol=1e-5)
    everyone = {dog.tobytes() for dog in dogs}
    assert all(picture.tobytes() in everyone for picture in found)
    assert not any(picture.tobytes() in everyone for picture in cats)
    with_rows = Image.open(write_samples(gan, count=2, output=tmp_path / "n.png", judge=judge, data=data))
    without = Image.open(write_samples(gan, count=2, output=tmp_path / "o.png"))
    assert with_rows.height == 2 * without.height
    assert np.asarray(with_rows).min() < 255


def test_a_judge_of_another_shape_is_refused(
    gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_run(tmp_path / "judge", "classifier-small", ("cat", "dog", "fish"))
    other = replace(load_snapshot(str(tmp_path / "judge")), side=32)
    monkeypatch.setattr("doodle_dist.evaluation.features.load_snapshot", lambda *_, **__: other)
    with pytest.raises(ValueError, match="reads pictures of side 32"):
        _Neighbours(load_snapshot(gan), "judge", "")
