"""Ways between latents and between categories: they begin and end at samples, and keep to the distribution."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from doodle_dist.config.model import GeneratorConfig
from doodle_dist.evaluation.interpolate import (
    along_categories,
    along_latents,
    between_latents,
    great_circle,
    write_interpolation,
)
from doodle_dist.evaluation.sample import generate
from doodle_dist.pictures import to_pixels
from doodle_dist.run.snapshot import load_snapshot
from tests.runs import save_run

NAMES = ("cat", "dog", "fish")


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = tmp_path_factory.mktemp("gan")
    save_run(run, "doodle-gan-small", NAMES)
    return str(run)


def test_a_great_circle_turns_evenly_at_the_ends_lengths() -> None:
    a, b, t = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0]), torch.linspace(0, 1, 4)
    way = great_circle(a, b, t)
    angles = torch.atan2(way[:, 1], way[:, 0])
    assert torch.allclose(way.norm(dim=1), torch.full((4,), 3.0))
    assert torch.allclose(angles, t * math.pi / 2, atol=1e-6)
    longer = great_circle(a, 2 * b, t)
    assert torch.allclose(longer.norm(dim=1), 3 + 3 * t, atol=1e-6)


@pytest.mark.parametrize("b", [[1.0, 2.0], [2.0, 4.0], [-1.0, -2.0], [0.0, 0.0]])
def test_parallel_and_zero_vectors_have_a_way_too(b: list[float]) -> None:
    a, end = torch.tensor([1.0, 2.0]), torch.tensor(b)
    way = great_circle(a, end, torch.linspace(0, 1, 5))
    assert torch.isfinite(way).all()
    assert torch.allclose(way[0], a, atol=1e-5)
    assert torch.allclose(way[-1], end, atol=1e-5)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_halfway_latents_have_the_distribution_of_latents(distribution: str) -> None:
    config = GeneratorConfig.model_validate({"latent_dim": 4096, "latent_distribution": distribution})
    random = torch.Generator().manual_seed(0)
    draw = torch.rand if distribution == "uniform" else torch.randn
    a, b = (draw(4096, generator=random) for _ in range(2))
    if distribution == "uniform":
        a, b = 2 * a - 1, 2 * b - 1
    way = between_latents(config, a, b, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.allclose(way[0], a, atol=1e-4)
    assert torch.allclose(way[2], b, atol=1e-4)
    assert abs(float(way[1].std() / a.std()) - 1) < 0.06, "a straight line's middle has 0.71 of it"
    if distribution == "uniform":
        assert way.abs().max() <= 1


def test_a_way_within_a_category_goes_from_a_sample_to_the_next(gan: str) -> None:
    snapshot = load_snapshot(gan)
    way = along_latents(snapshot, 1, 6, row=1, seed=4)
    samples = to_pixels(generate(snapshot, torch.tensor([1] * 4), seed=4))
    assert way.shape == (6, 1, 28, 28)
    for end, sample in ((way[0], samples[2]), (way[-1], samples[3])):
        assert np.abs(end.astype(int) - sample).max() <= 1


def test_a_way_between_categories_shows_each_of_them_with_one_latent(gan: str) -> None:
    snapshot = load_snapshot(gan)
    way = along_categories(snapshot, (2, 0, 1), 4, row=0, seed=2)
    assert len(way) == 7
    latent = generate(snapshot, torch.tensor([2]), seed=2)
    assert np.abs(way[0].astype(int) - to_pixels(latent)[0]).max() <= 1
    assert len({picture.tobytes() for picture in way}) == 7


def test_a_generator_that_does_not_see_the_category_says_so(tmp_path: Path) -> None:
    save_run(tmp_path, "doodle-gan-small", NAMES, settings=("model.generator.conditioning=none",))
    for asked in (("cat", "dog"), ("cat",)):
        with pytest.raises(
            ValueError, match="a generator that doesn't see the category; leave out --categories"
        ):
            write_interpolation(str(tmp_path), categories=asked, output=tmp_path / "x.png")
    strips = Image.open(write_interpolation(str(tmp_path), rows=2, output=tmp_path / "x.png"))
    assert strips.height == 2 * 2 * (28 + 4), "two of any, and not two in each category; scale 2"


def test_strips_and_a_gif_there_and_back(gan: str, tmp_path: Path) -> None:
    strip = Image.open(write_interpolation(gan, rows=2, steps=5, output=tmp_path / "a.png"))
    one = Image.open(
        write_interpolation(gan, categories=("cat",), rows=1, steps=5, output=tmp_path / "b.png")
    )
    assert strip.height == 2 * 3 * one.height
    path = write_interpolation(gan, categories=("cat", "dog"), rows=3, steps=6, output=tmp_path / "c.gif")
    with Image.open(path) as moving:
        assert moving.n_frames == 2 * 6 - 2
        frames = []
        for k in range(moving.n_frames):
            moving.seek(k)
            frames.append(np.asarray(moving.convert("L")).astype(int))
    assert np.abs(frames[1] - frames[-1]).max() <= 2, "the way back is the way"
    assert np.abs(frames[0] - frames[5]).max() > 20


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 1}, "--steps 1: should be at least 2"),
        ({"rows": 0}, "-n 0: should be at least 1"),
        ({"steps": 1_000_000}, r"12,000,000 pictures are too many"),
        ({"categories": ("cat", "cat")}, "from cat to cat there is no way"),
        ({"categories": ("cat", "dgo")}, "unknown category 'dgo'; did you mean 'dog'"),
        ({"output": Path("x.mp4")}, r"x\.mp4: should end with \.png"),
    ],
)
def test_wrong_requests_are_one_line(gan: str, tmp_path: Path, options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        write_interpolation(gan, **({"output": tmp_path / "x.png"} | options))
