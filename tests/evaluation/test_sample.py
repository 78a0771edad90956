"""Grids of samples: the same for the same seed, refused in one line, and neighbours that are the nearest."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from doodle_dist.data import shards
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.shards import PrepareRequest, prepare
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.data.stream import Window, pictures, plan_stream, read_window
from doodle_dist.evaluation.sample import _Neighbours, generate, write_samples
from doodle_dist.evaluation.snapshot import load_snapshot
from tests.conftest import write_drawings
from tests.runs import save_run


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = tmp_path_factory.mktemp("gan")
    save_run(run, "doodle-gan-small", ("cat", "dog", "fish"))
    return str(run)


def test_a_seed_is_a_picture(gan: str, tmp_path: Path) -> None:
    names = ("a", "b", "c")
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


def test_the_sheet_has_a_row_for_each_category_asked_for(gan: str, tmp_path: Path) -> None:
    all_three = Image.open(write_samples(gan, count=2, output=tmp_path / "all.png"))
    one = Image.open(write_samples(gan, categories=("dog",), count=2, output=tmp_path / "one.png"))
    assert all_three.height == 3 * one.height


def test_wrong_requests_are_one_line(gan: str, tmp_path: Path) -> None:
    output = tmp_path / "x.png"
    with pytest.raises(ValueError, match=r"--categories: unknown category 'fihs'; did you mean 'fish'\?"):
        write_samples(gan, categories=("fihs",), output=output)
    with pytest.raises(ValueError, match="--checkpoint 'first': should be best or latest"):
        write_samples(gan, which="first", output=output)
    save_run(tmp_path / "judge", "classifier-small")
    with pytest.raises(ValueError, match="a GAN's run is needed"):
        write_samples(str(tmp_path / "judge"), output=output)
    with pytest.raises(ValueError, match="a classifier's run is needed"):
        write_samples(gan, output=output, judge=gan)
    assert not output.exists()


def test_neighbours_are_the_nearest_training_drawings_of_the_category(
    gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_ray(
        _: str, __: str, ___: str, total: int, task: Callable[[int], object], *____: object
    ) -> None:
        for number in range(total):
            task(number)

    monkeypatch.setattr(shards, "_run_round", without_ray)
    write_drawings(tmp_path / "raw", {"cat": 60, "dog": 60, "fish": 60})
    sources = tuple(find_sources([str(tmp_path / "raw")]))
    data = str(tmp_path / "data")
    prepare(PrepareRequest(sources, categories_of(sources), data, (80.0, 10.0, 10.0), row_group_rows=32))
    save_run(tmp_path / "judge", "classifier-small", ("cat", "dog", "fish"))
    judge = str(tmp_path / "judge")
    snapshot = load_snapshot(gan)
    drawn = generate(snapshot, torch.tensor([1, 1, 1]), seed=0)
    found = _Neighbours(snapshot, judge, data).of(drawn, "dog")

    plan = plan_stream(load_manifest(data), data, "train", categories=("dog",), lanes=1, global_batch=4096)
    dogs = pictures(plan, read_window(plan, range(1), Window(0, 0, 1)))
    features = load_snapshot(judge).classifier.features
    distance = torch.cdist(features(drawn), features(torch.from_numpy(dogs.copy()).float() / 127.5 - 1))
    reached = torch.cdist(features(drawn), features(torch.from_numpy(found.copy()).float() / 127.5 - 1))
    assert torch.allclose(reached.diagonal(), distance.min(dim=1).values, atol=1e-5)
    everyone = {dog.tobytes() for dog in dogs}
    assert all(picture.tobytes() in everyone for picture in found)
    with_rows = Image.open(write_samples(gan, count=2, output=tmp_path / "n.png", judge=judge, data=data))
    without = Image.open(write_samples(gan, count=2, output=tmp_path / "o.png"))
    assert with_rows.height == 2 * without.height
    assert np.asarray(with_rows).min() < 255
