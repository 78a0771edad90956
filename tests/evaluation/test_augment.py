"""`augment` through Ray on tiny nets: whole, gone on with, and with tasks that fail; wrong requests in one line."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from doodle_dist import cli
from doodle_dist.config.load import load_experiment
from doodle_dist.evaluation.augment import _prepared, _refuse_unconditional, run_experiment
from doodle_dist.evaluation.augment_drawings import Drawings
from doodle_dist.evaluation.augment_folder import Folder
from doodle_dist.evaluation.augment_request import Request, experiments_for, parse_ks, plan_jobs
from doodle_dist.evaluation.augment_results import GanCell
from tests.datasets import prepare_here
from tests.runs import SMALL

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prepare_here(tmp_path_factory.mktemp("augment"), {"cat": 90, "dog": 60})


def words(data: str, out: Path, *more: str) -> list[str]:
    small = [f"--set={s}" for s in SMALL["doodle-gan-small"]] + ["--classifier-set=model.classifier.width=4"]
    lengths = ["--gan-drawings=64", "--classifier-drawings=128", "--generated-per-category=4"]
    return ["augment", "--data", data, "--out", str(out), "--k=5,all", *small, *lengths, *more]


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main(list(words))
    return int(stop.value.code or 0), *capfd.readouterr()


def test_a_whole_experiment_and_going_on_with_it(
    data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], local_ray: None
) -> None:
    # As many at once as the four CPUs hold would be a process more for each; below, one task is left.
    code, out, err = run(capfd, *words(data, tmp_path, "--seeds=1", "--concurrent=2"))
    assert code == 0, err
    assert "can't be told from one seed at K = 5" in out
    assert "10/10 tasks  ETA 0:00:00" in err
    found = orjson.loads((tmp_path / "augment.json").read_bytes())
    assert {(c["k"], c["arm"]) for c in found["cells"]} == {
        (k, arm) for k in (5, None) for arm in ("real", "classic", "generated", "both")
    }
    assert {c["seen"] for c in found["cells"]} == {128}
    assert {c["drawings"] for c in found["cells"] if c["k"] == 5} == {10}
    assert (tmp_path / "augment.png").read_bytes().startswith(b"\x89PNG")

    lost = tmp_path / "cells" / "k5-seed0-both.json"
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    lost.unlink()
    code, out, err = run(capfd, *words(data, tmp_path, "--seeds=1", "--json"))
    assert code == 0, err
    again = orjson.loads(out)
    figures = [
        {(c["k"], c["arm"]): (c["accuracy"], c["macro_f1"]) for c in f["cells"]} for f in (found, again)
    ]
    assert figures[0] == figures[1], "the lost cell comes to the same again"
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    assert {file for file in after if after[file] != before[file]} == {lost}

    code, out, err = run(capfd, *words(data, tmp_path, "--seeds=1", "--share=0.25"))
    assert code == 2
    assert "share=0.5, and 0.25 is asked for" in err


def test_a_failed_task_is_told_and_the_others_are_done(
    data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], local_ray: None
) -> None:
    nowhere = f"--set=gan.critic_from={tmp_path}/no-run"
    code, out, err = run(capfd, *words(data, tmp_path / "out", "--seeds=1", "--concurrent=2", nowhere))
    assert code == 1
    assert "6 tasks failed" in err
    found = orjson.loads((tmp_path / "out" / "augment.json").read_bytes())
    assert {c["arm"] for c in found["cells"]} == {"real", "classic"}
    assert len(found["cells"]) == 4
    assert {f["cell"] for f in found["failed"]} == {
        f"k{k}-seed0-{arm}" for k in ("5", "all") for arm in ("gan", "generated", "both")
    }
    assert all("has no snapshot" in f["reason"] for f in found["failed"])
    assert "has no snapshot" in out
    assert not list((tmp_path / "out" / "cells").glob("*gan*")), "what failed is tried again next time"


def test_a_gan_s_cell_without_its_drawings_is_not_finished(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    cell = GanCell(k=5, seed=0, drawings=10, seen=64, per_category=3, seconds=1.0)
    labels = np.repeat(np.arange(2), 3)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 28, 28), dtype=np.uint8)
    assert folder.gan(5, 0) is None
    folder.keep_gan(cell, Drawings(pixels, labels, np.zeros(6, np.uint64)), ("cat", "dog"))
    assert folder.gan(5, 0) == cell
    assert np.array_equal(folder.generated(5, 0).pixels, pixels)
    (tmp_path / "cells" / "k5-seed0-gan.npz").unlink()
    assert folder.gan(5, 0) is None


def test_a_gan_comes_before_who_needs_it_and_seeds_one_after_another() -> None:
    jobs = plan_jobs((10, None), 3)
    assert len(set(jobs)) == len(jobs) == 2 * 3 * 5
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)
    done = set()
    for job in jobs:
        done.add((job.k, job.seed, job.arm))
        assert not job.needs_gan or (job.k, job.seed, None) in done


def test_ks_are_read_in_any_order() -> None:
    assert parse_ks("all, 30,10,30") == (10, 30, None)
    for text in ("", "0", "ten", "10,,20", "-5", "1.5"):
        with pytest.raises(ValueError, match=r"--k .*should be a number of drawings per category, or all"):
            parse_ks(text)


def test_the_runs_that_a_gan_takes_are_found_from_other_working_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = request("prepared", tmp_path / "out", overrides=["gan.judge=runs/judge"])
    assert here.gan.gan.judge == str(tmp_path / "runs" / "judge")
    assert here.gan.data.uri == str(tmp_path / "prepared")


def request(data: str, out: Path, gan: str = "doodle-gan-small", **changed: object) -> Request:
    words: dict = {"overrides": (), "classifier_overrides": (), "gan_drawings": 64, "classifier_drawings": 64}
    words = {name: changed.pop(name, value) for name, value in words.items()}
    classifier = str(changed.pop("classifier", "classifier-small"))
    return Request(*experiments_for(gan, classifier, data=data, **words), str(out), **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gan": "classifier-small"}, "PRESET classifier-small: should be a gan's preset"),
        ({"classifier": "dcgan"}, "--classifier dcgan: should be a classifier's preset"),
        ({"classifier": "doodle-cnn"}, r"--classifier doodle-cnn: its \[model.augment\] changes nothing"),
        ({"gan": "simple-gan"}, "PRESET simple-gan: its generator can't be asked for a category"),
        ({"ks": (10, 500)}, "--k 500: dog has [0-9]+ training drawings"),
        ({"ks": (30,), "at_most": 20}, r"--k 30: \w+ has 20 training drawings here \(at most 20"),
        ({"seeds": 0}, "--seeds 0: should be 1 to"),
        ({"overrides": ["train.epochs=2"]}, "--set train.epochs: --gan-drawings says how long"),
        (
            {"classifier_overrides": ["train.drawings=9"]},
            "--classifier-set train.drawings: --classifier-drawings",
        ),
        ({"overrides": ["seed=2"]}, "--set seed: each repetition has a seed of its own"),
        ({"share": 1.5}, "--share 1.5: should be above 0"),
        ({"per_category": 0}, "--generated-per-category 0"),
        ({"cpus": 0.0}, "--cpus 0: should be above 0"),
        ({"gpus": -1.0}, "--gpus -1: should be 0 or more"),
    ],
)
def test_a_wrong_request_is_one_line(data: str, tmp_path: Path, changed: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_experiment(request(data, tmp_path / "out", **changed))
    assert not (tmp_path / "out").exists()


def test_a_category_that_is_named_twice_is_one(data: str, tmp_path: Path) -> None:
    asked = request(data, tmp_path / "out", overrides=['data.categories=["cat","dog","cat"]'], ks=(10,))
    assert _prepared(asked).categories == ("cat", "dog")


def test_a_generator_whose_norms_see_the_category_can_be_asked_for_one() -> None:
    _refuse_unconditional(load_experiment("sngan-proj-small"), ("cat", "dog"), 28, 1)


def test_a_warm_up_made_for_a_longer_run_is_shortened(data: str, tmp_path: Path) -> None:
    optim = request(data, tmp_path, classifier_drawings=4000).classifier.optim.classifier
    preset = load_experiment("classifier-small").optim.classifier
    assert optim is not None
    assert preset is not None
    assert optim.warmup_drawings == 1000 < preset.warmup_drawings
    assert optim.model_copy(update={"warmup_drawings": preset.warmup_drawings}) == preset
