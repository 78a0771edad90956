"""Every preset, made narrow and short, trains with two workers of Ray Train, resumes with one, and its snapshot works.
One that doesn't resume has one worker.

On real data: Google's bitmaps, strokes, MNIST and a CIFAR-10 folder; Fashion-MNIST and CUB-200-2011 on files of
the official layout that the test makes. `make presets` runs all of them, `make test` two.
"""

from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from doodle_dist import train as driver
from doodle_dist.config.load import build, load_experiment, overlay, preset_names
from doodle_dist.data.categories import parse_categories
from doodle_dist.data.records import PictureOptions
from doodle_dist.data.shards import PrepareRequest, prepare
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.evaluation.audit_check import check_run
from doodle_dist.evaluation.sample import generate
from doodle_dist.run.snapshot import load_snapshot
from tests.image_sets import noise, write_cub, write_idx

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("local_ray")]

# preset -> its data and what makes it small; widths that differ from both nets being 8 wide.
PRESETS: dict[str, tuple[str, list[str]]] = {
    "simple-gan": ("doodles", []),
    "dcgan": ("doodles", []),
    "doodle-wgan-gp": ("doodles", []),
    "cdcgan": ("doodles", []),
    "cdcgan-small": ("doodles", []),
    "face-gan": ("doodles", []),
    "face-critic": ("doodles", []),
    "bird-dcgan": ("birds", []),
    "acgan": ("birds", []),
    "bird-wgan": ("birds", ["gan.updates.burst_updates=3", "gan.updates.burst_first=2"]),
    "bird-wgan-gp": ("birds", []),
    "mnist-dcgan": ("mnist", []),
    "fashion-dcgan": ("fashion", []),
    "cifar10-dcgan": ("cifar10", []),
    "mnist-simple": ("mnist", []),
    "mnist-simple-tricks": ("mnist", []),
    "sngan-proj": ("doodles", []),
    "sngan-proj-small": ("doodles", []),
    "doodle-gan": ("doodles", []),
    "doodle-gan-small": ("doodles", []),
    "classifier-small": ("doodles", []),
    "evaluator": ("doodles", []),
    "doodle-cnn": ("doodles", []),
    "classifier-340": ("strokes", ["model.classifier.feature_dim=16"]),
    "classifier-340-small": ("strokes", ["model.classifier.feature_dim=16"]),
}
# A GAN of larger pictures in colour, which resumes, and a critic, for every `make test`; whether each resumes there
# too. A classifier does in tests/cluster/test_train.py; every kind of data is read in tests/data.
ALWAYS = {"face-critic": False, "acgan": True}
WIDTHS = {
    "gan": ["model.generator.width=8", "model.critic.width=8"],
    "critic": ["model.critic.width=8"],
    "classifier": ["model.classifier.width=4"],
}
SHAPES = {"birds": (3, 64), "cifar10": (3, 32)}
BATCH = 16
KAGGLE_340 = parse_categories("kaggle-340")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("presets")


def _prepared(folder: Path, name: str, shared_data: Path) -> str:
    """The dataset of that name, prepared once."""
    to, options, wanted = folder / name, PictureOptions(), None
    if (to / "manifest.json").exists():
        return str(to)
    raw = folder / f"{name}-raw"
    match name:
        case "doodles":
            names = ("cat", "eye", "face", "fish")
            uris = [shared_data / "google_bitmaps" / f"full_numpy_bitmap_{n}.npy" for n in names]
        case "kaggle-340":
            uris, wanted = [shared_data / "simplified"], KAGGLE_340
        case "strokes":
            uris = [shared_data / "simplified" / f"{n}.ndjson" for n in ("cat", "crayon", "map")]
        case "mnist":
            uris = [shared_data / "mnist"]
        case "cifar10":
            uris = [shared_data / "cifar10"]
        case "fashion":
            write_idx(raw, "train", noise(600, 28, 28), np.arange(600) % 10)
            options = PictureOptions(class_names=tuple("abcdefghij"))
            uris = [raw]
        case "birds":
            write_cub(raw, {f"{k:03d}.Bird_{k}": [(10, 20, 60, 50)] * 80 for k in range(1, 4)}, (100, 80))
            options = PictureOptions(side=64, crop="bounding-box")
            uris = [raw]
    sources = tuple(find_sources([str(uri) for uri in uris], wanted, options))
    prepare(
        PrepareRequest(
            sources, categories_of(sources, wanted), str(to), (80.0, 10.0, 10.0), row_group_rows=32
        )
    )
    return str(to)


def chosen() -> list[object]:
    """Each preset, and whether it resumes: `make presets` has all of them do so."""
    of_presets = [name for name in PRESETS if not ALWAYS.get(name)]
    return [
        *(pytest.param(name, resumes, id=name) for name, resumes in ALWAYS.items()),
        *(pytest.param(name, True, id=f"{name}-resumed", marks=pytest.mark.presets) for name in of_presets),
    ]


def test_every_preset_is_tried() -> None:
    assert sorted(PRESETS) == preset_names()


@pytest.mark.presets
@pytest.mark.parametrize("preset", ["cdcgan", "doodle-gan"])
def test_340_categories(preset: str, folder: Path, shared_data: Path) -> None:
    options = {
        "data.uri": _prepared(folder, "kaggle-340", shared_data),
        "train.global_batch": 64,
        "train.drawings": 640,
        "scaling.workers": 2,
        "storage": str(folder / "runs"),
        "run": f"{preset}-340",
    }
    experiment = load_experiment(preset, WIDTHS["gan"])
    driver.train(build(overlay(experiment.model_dump(exclude_unset=True), options)), quiet=True)
    snapshot = load_snapshot(str(folder / "runs" / f"{preset}-340"))
    assert snapshot.categories == tuple(sorted(KAGGLE_340))
    drawn = generate(snapshot, torch.arange(340), seed=0)
    assert drawn.shape == (340, 1, 28, 28)
    assert len({picture.numpy().tobytes() for picture in drawn}) == 340


@pytest.mark.parametrize(("preset", "resumes"), chosen())
def test_a_preset_trains_resumes_and_is_used(
    preset: str, resumes: bool, folder: Path, shared_data: Path
) -> None:
    kind, small = PRESETS[preset]
    task = load_experiment(preset).task
    experiment = load_experiment(preset, [*WIDTHS[task], *small])
    name = f"{preset}-resumed" if resumes else preset
    lengths = (6 * BATCH, 10 * BATCH) if resumes else (10 * BATCH,)
    for workers, drawings in zip((2, 1) if resumes else (1,), lengths, strict=True):
        options = {
            "data.uri": _prepared(folder, kind, shared_data),
            "data.lanes": 4,
            "data.audit": True,
            "train.global_batch": BATCH,
            "train.drawings": drawings,
            "train.log_every_drawings": BATCH,
            "train.checkpoint_every_drawings": 3 * BATCH,
            "train.held_out_drawings": 64,
            "scaling.workers": workers,
            "storage": str(folder / "runs"),
            "run": name,
        }
        tree = overlay(experiment.model_dump(exclude_unset=True), options)
        result = driver.train(build(tree), quiet=True)
        assert result.metrics["drawings_seen"] == drawings
    assert ray.is_initialized()
    run = str(folder / "runs" / name)
    assert not check_run(run, "").problems
    snapshot = load_snapshot(run, which="latest")
    assert snapshot.metrics["drawings_seen"] == 10 * BATCH
    channels, side = SHAPES.get(kind, (1, 28))
    labels = torch.arange(len(snapshot.categories))
    if snapshot.kind == "gan":
        drawn = generate(snapshot, labels, seed=0)
        assert drawn.shape == (len(labels), channels, side, side)
        assert drawn.abs().max() <= 1
        assert drawn.std() > 0
        grids = sorted(path.name for path in (folder / "runs" / name / "samples").iterdir())
        assert grids[-1] == f"{10 * BATCH:012d}.png"
    else:
        logits = snapshot.net(
            torch.zeros(3, channels, side, side), *([labels[:3]] if task == "critic" else [])
        )
        assert logits.shape == ((3,) if task == "critic" else (3, len(snapshot.categories)))
        assert torch.isfinite(logits).all()
