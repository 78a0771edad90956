"""`evaluate` end to end on tiny nets: the same for any number of parts, and every wrong request in one line."""

import io
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from doodle_dist import cli
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.evaluation import drawings, evaluate_gan
from doodle_dist.evaluation.classification_accuracy import accuracy_after_training_on
from doodle_dist.evaluation.drawings import by_number, chunks, labels_of, pictures_of, plan_drawings
from doodle_dist.evaluation.evaluate import evaluate_runs
from doodle_dist.evaluation.evaluate_gan import Protocol, Request
from doodle_dist.evaluation.features import (
    Eyes,
    Measured,
    load_evaluator,
    load_reader,
    measure_drawings,
    measure_samples,
    samples,
)
from doodle_dist.evaluation.neighbours import nearest_drawings
from doodle_dist.evaluation.results import ClassifierEvaluation, GanEvaluation, read_evaluation
from doodle_dist.evaluation.spread import Spread
from doodle_dist.metrics.moments import frechet, kernel_distance
from doodle_dist.models.classifiers import Classifier
from doodle_dist.run.snapshot import Snapshot, load_snapshot
from tests.datasets import prepare_here
from tests.evaluation.readers import PROJECTION
from tests.runs import save_run

CATEGORIES = ("cat", "dog", "fish")
COUNTS = {"cat": 500, "dog": 350, "fish": 150}
FEATURES = 6


@dataclass(frozen=True)
class World:
    """A dataset of three categories, and runs that know them."""

    data: str
    gan: str
    evaluator: str
    judge: str
    request: Request


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("evaluate")
    data = prepare_here(folder, COUNTS)
    few = (PROJECTION, f"model.classifier.feature_dim={FEATURES}")
    save_run(folder / "gan", "doodle-gan-small", CATEGORIES, data=data)
    save_run(folder / "evaluator", "classifier-small", CATEGORIES, seen=1, data=data, settings=few)
    save_run(folder / "judge", "classifier-small", CATEGORIES, seen=2, data=data, settings=few)
    places = [str(folder / name) for name in ("gan", "evaluator", "judge")]
    return World(data, *places, Request(evaluator=places[1], judge=places[2]))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small dataset has something to deal out."""
    monkeypatch.setattr(drawings, "_CHUNK", 50)


# --- drawings and samples dealt out ---------------------------------------------------------------------


@pytest.mark.usefixtures("small_chunks")
def test_parts_are_the_split_each_drawing_once_in_an_order_of_their_own(world: World) -> None:
    plan = plan_drawings(world.data, "test", CATEGORIES, extra_columns=("recognized", "countrycode"))
    whole = list(chunks(plan, plan.rows))
    assert np.array_equal(np.concatenate([c.numbers for c in whole]), np.arange(plan.rows))
    keys = np.concatenate([c.table["key_id"].to_numpy() for c in whole])
    stored = pa.concat_tables(pq.read_table(file) for file in Path(world.data, "test").glob("*.parquet"))
    assert sorted(keys) == sorted(stored["key_id"].to_numpy())
    dealt = {int(n): k for part in range(3) for c in chunks(plan, 120, part, 3) for n, k in _keys(c)}
    assert [dealt[n] for n in range(120)] == keys[:120].tolist()
    assert len(dealt) == 120
    assert np.array_equal(labels_of(plan, 120), np.concatenate([c.labels for c in whole])[:120])
    recognized = dict(zip(stored["key_id"].to_pylist(), stored["recognized"].to_pylist(), strict=True))
    for chunk in whole:
        read = zip(*(chunk.table[name].to_pylist() for name in ("key_id", "recognized")), strict=True)
        assert all(recognized[key] == value for key, value in read)
        assert set(chunk.table["countrycode"].to_pylist()) == {"DE"}
    pixels = np.concatenate([pictures_of(plan, c) for c in whole])
    assert all(np.array_equal(pixels[n], one) for n, one in by_number(plan, [3, 7, 140]).items())


def _keys(chunk: drawings.Chunk) -> zip:
    return zip(chunk.numbers.tolist(), chunk.table["key_id"].to_pylist(), strict=True)


def test_a_sample_is_a_function_of_its_number(world: World) -> None:
    snapshot = load_snapshot(world.gan)
    config = snapshot.experiment.model.generator
    assert config is not None
    labels = np.arange(12) % 3

    def draw(numbers: np.ndarray, seed: int = 0) -> np.ndarray:
        return samples(snapshot.generator, config, numbers, labels[numbers], seed).astype(int)

    whole = draw(np.arange(12))
    assert abs(draw(np.arange(5, 9)) - whole[5:9]).max() <= 1, "more than rounding"
    assert abs(draw(np.arange(12), seed=1) - whole).max() > 1
    assert len({picture.tobytes() for picture in whole}) == 12


@pytest.mark.usefixtures("small_chunks")
def test_one_part_and_four_come_to_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doodle_dist.evaluation.features._BATCH", 50)
    snapshot = load_snapshot(world.gan)
    config = snapshot.experiment.model.generator
    assert config is not None
    eyes = Eyes.of(
        load_evaluator(world.evaluator, (28, 1)), load_reader(world.judge, (28, 1)), CATEGORIES, 80
    )
    plan = plan_drawings(world.data, "train", CATEGORIES)
    labels = labels_of(plan, 130)

    def merged(parts: int) -> tuple[Measured, Measured]:
        sides = []
        for work in (
            partial(measure_drawings, plan, 130, eyes),
            partial(measure_samples, snapshot.generator, config, labels, 0, eyes),
        ):
            first, *others = (work(part, parts) for part in range(parts))
            for other in others:
                first.merge(other)
            sides.append(first)
        return sides[0], sides[1]

    (real, fake), (real4, fake4) = merged(1), merged(4)
    assert real.count == real4.count == fake4.count == 130
    for label in (None, 0, 1, 2):
        one = frechet(fake.moments.gaussian(label), real.moments.gaussian(label))
        four = frechet(fake4.moments.gaussian(label), real4.moments.gaussian(label))
        assert four == pytest.approx(one, rel=1e-6)
    kid, kid4 = kernel_distance(real.kernel, fake.kernel), kernel_distance(real4.kernel, fake4.kernel)
    assert kid4.value == pytest.approx(kid.value, rel=1e-6)
    assert torch.equal(fake.read, fake4.read)
    assert torch.equal(real.first(60), real4.first(60))


# --- a generator's figures ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(world: World) -> GanEvaluation:
    (one,) = evaluate_runs([world.gan], world.request)
    assert isinstance(one, GanEvaluation)
    return one


def test_an_untrained_generator_is_far_from_the_floor(world: World, found: GanEvaluation) -> None:
    test = load_manifest(world.data).splits["test"]
    assert found.samples == test.rows
    assert {name: c.samples for name, c in found.categories.items()} == dict(
        zip(CATEGORIES, test.counts, strict=True)
    )
    assert found.fid.value > 10 * found.fid.floor
    assert found.kid.value > 10 * abs(found.kid.floor)
    assert found.coverage.value < 0.1 < 0.8 < found.coverage.floor
    assert found.precision.value < 0.5 < found.precision.floor
    assert found.intra_fid is not None
    fids = [c.fid.value for c in found.categories.values() if c.fid]
    assert found.intra_fid.value == pytest.approx(sum(fids) / 3)
    assert found.evaluator.content_hash == load_snapshot(world.evaluator).sha256
    assert found.judge is not None
    assert found.judge.content_hash != found.evaluator.content_hash
    assert read_evaluation(world.gan) == found


class _Replay(nn.Module):
    """A generator that draws training drawings of the label: the i-th of a label for its i-th latent."""

    def __init__(self, pictures: Tensor, labels: Tensor, shift: int = 0) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.pictures, self.labels, self.shift = pictures, labels, shift
        self.drawn = [0, 0, 0]

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        rows = []
        for label in ((y + self.shift) % 3).tolist():
            of = torch.nonzero(self.labels == label).flatten()
            rows.append(of[self.drawn[label] % len(of)])
            self.drawn[label] += 1
        return self.pictures[torch.stack(rows)]


class _Classes(Classifier):
    """Reads a drawing's category by its nearest class mean of the training drawings."""

    def __init__(self, means: Tensor) -> None:
        super().__init__()
        self.dropout, self.head = nn.Dropout(0.0), nn.Linear(3, 3)
        self.means = nn.Parameter(means, requires_grad=False)

    def features(self, x: Tensor) -> Tensor:
        return -torch.cdist(x.flatten(1), self.means)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


def _with(snapshot: Snapshot, net: nn.Module) -> Snapshot:
    return replace(snapshot, net=net)


def test_the_ends_of_the_scales(world: World) -> None:
    """A generator of real drawings lies at the floor; wrong labels read as chance or less; one picture covers
    nothing."""
    protocol = Protocol(world.request, world.data, load_snapshot(world.gan))
    plan = protocol.train
    pixels = np.concatenate([pictures_of(plan, c) for c in chunks(plan, plan.rows)])
    pictures, labels = (
        torch.from_numpy(pixels).float() / 127.5 - 1,
        torch.from_numpy(labels_of(plan, plan.rows)),
    )
    means = torch.stack([pictures[labels == k].mean(0).flatten() for k in range(3)])
    assert protocol.judge is not None
    protocol.eyes = replace(protocol.eyes, judge=_Classes(means))
    snapshot = load_snapshot(world.gan)
    real = protocol._merged(partial(measure_drawings, protocol.held_out, len(protocol.labels), protocol.eyes))
    protocol.floor.read = real.read

    honest = protocol.evaluate(_with(snapshot, _Replay(pictures, labels)))
    assert honest.fid.value < 2 * honest.fid.floor + 0.01
    assert honest.coverage.value > 0.9
    assert honest.conditional_accuracy is not None
    assert honest.conditional_accuracy.ratio == pytest.approx(1, abs=0.1)
    assert abs(honest.kid.value) < 4 * (honest.kid.standard_error or 0) + abs(honest.kid.floor)

    wrong = protocol.evaluate(_with(snapshot, _Replay(pictures, labels, shift=1)))
    assert wrong.conditional_accuracy is not None
    assert wrong.conditional_accuracy.generated < 0.2
    assert wrong.intra_fid is not None
    assert honest.intra_fid is not None
    assert wrong.intra_fid.value > 5 * honest.intra_fid.value, "each category's own distance sees the labels"

    collapsed = protocol.evaluate(_with(snapshot, _Replay(pictures[:1].repeat(3, 1, 1, 1), torch.arange(3))))
    assert collapsed.coverage.value < 0.05
    assert collapsed.recall.value < 0.05
    assert collapsed.fid.value > 10 * collapsed.fid.floor


def test_several_runs_are_compared_and_again_from_what_was_written(
    world: World, found: GanEvaluation, tmp_path: Path
) -> None:
    save_run(tmp_path / "other", "doodle-gan-small", CATEGORIES, seen=77, data=world.data)
    other = str(tmp_path / "other")
    both = evaluate_runs([world.gan, other], world.request)
    assert both[0] == found
    assert both[1] != found
    assert evaluate_runs([world.gan, other], Request(evaluator="")) == both
    for asked in ({"request": Request(evaluator="", seed=3)}, {"which": "latest"}, {"data": world.data}):
        with pytest.raises(ValueError, match="the other options need one"):
            evaluate_runs([world.gan, other], **({"request": Request(evaluator="")} | asked))


def test_what_was_found_of_one_run_is_kept_where_the_next_one_fails(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [tmp_path / "first", tmp_path / "second"]
    for run in runs:
        save_run(run, "doodle-gan-small", CATEGORIES, seen=77, data=world.data)
    evaluated = Protocol.evaluate

    def evaluate(protocol: Protocol, snapshot: Snapshot) -> GanEvaluation:
        if (runs[0] / "evaluation.json").exists():
            raise StorageError("the store is away")
        return evaluated(protocol, snapshot)

    monkeypatch.setattr(Protocol, "evaluate", evaluate)
    with pytest.raises(StorageError):
        evaluate_runs([str(run) for run in runs], world.request)
    assert [(run / "evaluation.json").exists() for run in runs] == [True, False]


def test_a_classifier_learns_from_drawings_and_not_from_noise(world: World) -> None:
    train, test = (plan_drawings(world.data, split, CATEGORIES) for split in ("train", "test"))
    labels = labels_of(train, train.rows)
    pixels = np.concatenate([pictures_of(train, c) for c in chunks(train, train.rows)])
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)
    quick = [PROJECTION, "optim.classifier.lr=0.02", "model.classifier.dropout=0.0"]
    learned, blind = (
        accuracy_after_training_on(x, labels, test, CATEGORIES, epochs=4, settings=quick)
        for x in (pixels, noise)
    )
    assert learned > 0.9
    assert blind < 0.7, "half of the drawings are cats"


# --- nearest training drawings --------------------------------------------------------------------------


def _written_picture(world: World) -> np.ndarray:
    file = Path(world.gan) / "evaluation" / "neighbours.png"
    return np.asarray(Image.open(io.BytesIO(file.read_bytes())))


@pytest.mark.usefixtures("small_chunks", "found")
def test_the_nearest_training_drawings_are_drawn_under_the_samples(world: World) -> None:
    """A generator that draws training drawings is shown over its own pictures, whatever the number of parts."""
    assert _written_picture(world).shape[0] == 2 * 3 * 2 * (28 + 4), (
        "a row of samples and one below it, scale 2"
    )
    protocol = Protocol(world.request, world.data, load_snapshot(world.gan))
    pixels = np.concatenate(
        [pictures_of(protocol.train, c) for c in chunks(protocol.train, protocol.train.rows)]
    )
    labels = labels_of(protocol.train, protocol.train.rows)
    net, every = protocol.evaluator.net, protocol.train.rows
    copied = np.array([3, 60, 111, 7])
    halves = [
        nearest_drawings(protocol.train, every, net, pixels[copied], labels[copied], part, 2)
        for part in (0, 1)
    ]
    assert not any((half.distances < 1e-3).all() for half in halves), "neither half has all of them"
    both = halves[0].merged(halves[1])
    assert np.array_equal(both.pictures, pixels[copied])
    others = nearest_drawings(protocol.train, every, net, pixels[copied], (labels[copied] + 1) % 3)
    of_label = {k: {picture.tobytes() for picture in pixels[labels == k]} for k in range(3)}
    for picture, label in zip(others.pictures, (labels[copied] + 1) % 3, strict=True):
        assert picture.tobytes() in of_label[label], "of the label asked for, however near the others are"
    anyone = nearest_drawings(protocol.train, every, net, pixels[copied], None)
    assert np.array_equal(anyone.pictures, pixels[copied])


def test_samples_of_any_category_are_drawn_over_the_nearest_of_all(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator that doesn't see the category copies training drawings of others than were asked for."""
    save_run(tmp_path, "doodle-gan-small", CATEGORIES, settings=("model.generator.conditioning=none",))
    snapshot = load_snapshot(str(tmp_path))
    protocol = Protocol(world.request, world.data, snapshot)
    cats = plan_drawings(world.data, "train", ("cat",))
    (pixels,) = (pictures_of(cats, chunk) for chunk in chunks(cats, cats.rows))
    sheets = []
    monkeypatch.setattr(evaluate_gan, "samples", lambda _, __, numbers, *___: pixels[: len(numbers)])
    monkeypatch.setattr(
        evaluate_gan, "named_rows", lambda rows: sheets.append(rows) or Image.new("L", (1, 1))
    )
    protocol.neighbours(snapshot)
    ((*rows,),) = sheets
    assert [name for name, _ in rows] == ["any", "  nearest real"] * 3
    for (_, drawn), (_, nearest) in zip(rows[::2], rows[1::2], strict=True):
        assert np.array_equal(drawn, nearest)


# --- a classifier's figures -----------------------------------------------------------------------------


@pytest.mark.usefixtures("small_chunks")
def test_a_classifier_is_judged_whole_and_in_parts(world: World) -> None:
    (found,) = evaluate_runs([world.judge], Request(evaluator=""))
    assert isinstance(found, ClassifierEvaluation)
    assert found.drawings == sum(map(sum, found.confusion)) == load_manifest(world.data).splits["test"].rows
    assert found.top1 == pytest.approx(sum(found.confusion[k][k] for k in range(3)) / found.drawings)
    assert sum(bin.drawings for bin in found.reliability) == found.drawings
    assert list(found.by_country) == ["DE"]
    assert set(found.by_recognized) == {"True", "False"}
    assert sum(one.drawings for one in found.by_recognized.values()) == found.drawings
    rights = sum(one.drawings * one.accuracy for one in found.by_recognized.values())
    assert rights == pytest.approx(found.top1 * found.drawings)
    assert read_evaluation(world.judge) == found
    for name in ("confusion", "reliability", "confused"):
        assert (Path(world.judge) / "evaluation" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


# --- wrong requests -------------------------------------------------------------------------------------


def refused(world: World, match: str, **changed: object) -> None:
    with pytest.raises(ValueError, match=match):
        evaluate_runs([world.gan], replace(world.request, **changed))  # type: ignore[arg-type]


def test_too_few_samples_say_how_many_it_takes(world: World) -> None:
    refused(world, "--samples 6: a covariance of 6 features takes at least 7", samples=6)
    refused(world, r"--samples 20: \d of them are of '[a-z]+', .* takes at least 7; --samples \d+ has so many",
            samples=20)  # fmt: skip
    refused(world, r"--samples 100000: split test has \d+ drawings of these categories", samples=100_000)
    refused(world, "the reference, 5 training drawings, is too small", reference=5)
    refused(world, r"the reference, 30 training drawings, has \d of '[a-z]+'", reference=30)


def test_the_samples_that_are_advised_are_enough_and_one_less_is_not(world: World) -> None:
    plan = plan_drawings(world.data, "test", CATEGORIES)
    with pytest.raises(ValueError, match="has so many of each") as refusal:
        evaluate_gan._sample_labels(replace(world.request, samples=20), plan, CATEGORIES, FEATURES)
    advised = int(str(refusal.value).split("--samples ")[2].split()[0])
    labels = evaluate_gan._sample_labels(replace(world.request, samples=advised), plan, CATEGORIES, FEATURES)
    assert len(labels) == advised
    assert np.bincount(labels).min() == FEATURES + 1
    with pytest.raises(ValueError, match=f"--samples {advised} has so many of each"):
        evaluate_gan._sample_labels(replace(world.request, samples=advised - 1), plan, CATEGORIES, FEATURES)


def test_readers_that_do_not_fit_are_refused(world: World, tmp_path: Path) -> None:
    refused(world, "--evaluator is needed to evaluate a GAN", evaluator="")
    refused(world, "is of a GAN; a classifier's run is needed here", evaluator=world.gan)
    refused(world, "has the weights of the evaluator", judge=world.evaluator)
    refused(world, "--split train: should be val or test", split="train")
    refused(world, "has no split 'tset'", split="tset")
    save_run(tmp_path / "cats", "classifier-small", ("bird", "cat", "dogs", "fish"))
    refused(
        world, r"--judge \S+: unknown category 'dog'; did you mean 'dogs'\?", judge=str(tmp_path / "cats")
    )
    wide = ("model.classifier.name=resnet", "model.classifier.feature_dim=65")
    save_run(tmp_path / "wide", "classifier-small", CATEGORIES, settings=wide)
    refused(
        world, "its classifier has 65 features, and at most 64 are allowed", evaluator=str(tmp_path / "wide")
    )


def test_requests_of_the_other_kind_are_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (
        ["--evaluator", world.evaluator], ["--judge", world.judge], ["--samples", "100"], ["--reference", "50"],
        ["--seed", "1"], ["--no-per-category"], ["--cas"],
    ):  # fmt: skip
        with pytest.raises(SystemExit) as stop:
            cli.main(["evaluate", world.judge, *given])
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert said == f"doodle-dist: {given[0]} belongs to GAN runs; {world.judge} is of a classifier\n"
    with pytest.raises(ValueError, match="is of a classifier; a GAN's run is needed here"):
        evaluate_runs([world.gan, world.judge], world.request)
    with pytest.raises(ValueError, match="--checkpoint 'first': should be best or latest"):
        evaluate_runs([world.gan], world.request, which="first")


def test_runs_of_other_categories_are_refused_before_anything_is_measured(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_run(tmp_path / "fewer", "doodle-gan-small", ("cat", "dog"), data=world.data)
    with pytest.raises(ValueError, match=r"draws other categories or shapes than .*: evaluate each"):
        evaluate_runs([world.gan, str(tmp_path / "fewer")], world.request)
    assert capsys.readouterr().err == "", "no drawing was read"


# --- the command ----------------------------------------------------------------------------------------


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, list[str]]:
    """Exit code, stdout, and stderr without what was being done."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", *arguments])
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith(("reading", "drawing", "samples over"))]
    return int(stop.value.code or 0), out, lines


def test_the_command_prints_json_tables_and_one_line_of_what_is_wrong(
    world: World, found: GanEvaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [world.gan, "--evaluator", world.evaluator, "--judge", world.judge]
    code, out, _ = command(capsys, *asked, "--json")
    assert code == 0
    assert orjson.loads(out) == found.model_dump(mode="json")
    code, out, _ = command(capsys, *asked, "--no-per-category", "--samples", "20")
    assert code == 0
    assert f"n=20, evaluator {found.evaluator.short_hash}" in out
    assert "intra" not in out
    code, out, lines = command(capsys, *asked, "--samples", "20")
    assert (code, out) == (2, "")
    assert len(lines) == 1
    assert lines[0].startswith("doodle-dist: --samples 20: ")
    assert command(capsys, *asked, "--samples", "0")[0] == 2
    code, out, _ = command(capsys, world.judge, "--json")
    assert code == 0
    assert set(orjson.loads(out)) >= {"top1", "top3", "map3", "macro_f1", "calibration_error", "by_country"}


# --- through Ray ----------------------------------------------------------------------------------------


@pytest.mark.cluster
@pytest.mark.usefixtures("local_ray")
def test_two_ray_tasks_find_the_same(world: World, found: GanEvaluation) -> None:
    (two,) = evaluate_runs([world.gan], replace(world.request, spread=Spread(workers=2)))
    assert isinstance(two, GanEvaluation)
    for name in ("fid", "kid", "precision", "recall", "density", "coverage"):
        assert getattr(two, name).value == pytest.approx(getattr(found, name).value, rel=1e-5), name
        assert getattr(two, name).floor == pytest.approx(getattr(found, name).floor, rel=1e-5), name
    assert two.conditional_accuracy == found.conditional_accuracy
