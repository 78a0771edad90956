"""Which checkpoint of a run is loaded, and what is said where there is none."""

from pathlib import Path

import orjson
import pytest
import ray
import torch
from safetensors.torch import load_file

from doodle_dist.data import storage
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.run.snapshot import best_device, load_snapshot
from tests.runs import save_run, sweep_before_reading

PRESET = "classifier-small"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for seen, score in ((1000, 0.5), (2000, 0.9), (3000, 0.7)):
        save_run(tmp_path / "run", PRESET, seen=seen, score=score)
    return tmp_path / "run"


def test_the_best_is_by_score_and_the_latest_by_drawings(run: Path) -> None:
    assert load_snapshot(str(run)).uri == str(run / "checkpoint_002000")
    assert load_snapshot(str(run), which="latest").uri == str(run / "checkpoint_003000")
    assert load_snapshot(str(run / "checkpoint_001000")).metrics == {"drawings_seen": 1000, "score": 0.5}


def test_without_scores_the_latest_is_the_best(tmp_path: Path) -> None:
    for seen in (2000, 3000, 1000):
        save_run(tmp_path, PRESET, seen=seen)
    assert load_snapshot(str(tmp_path)).metrics["drawings_seen"] == 3000


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None])
def test_a_score_that_is_not_finite_is_the_worst(run: Path, score: float | None) -> None:
    save_run(run, PRESET, seen=4000, score=score)
    assert load_snapshot(str(run)).metrics["drawings_seen"] == 2000
    assert load_snapshot(str(run), which="latest").metrics["drawings_seen"] == 4000


def test_the_net_is_the_saved_one_ready_for_inference(run: Path) -> None:
    snapshot = load_snapshot(str(run))
    saved = load_file(run / "checkpoint_002000" / "snapshot.safetensors")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in snapshot.net.state_dict().items())
    assert not snapshot.net.training
    assert not any(p.requires_grad for p in snapshot.net.parameters())
    assert snapshot.categories == ("cat", "dog")


@pytest.mark.parametrize("missing", ["meta.json", "experiment.json", "snapshot.safetensors"])
def test_a_half_written_checkpoint_is_passed_over(run: Path, missing: str) -> None:
    (run / "checkpoint_003000" / missing).unlink()
    assert load_snapshot(str(run), which="latest").metrics["drawings_seen"] == 2000


def test_a_meta_file_cut_short_is_passed_over_too(run: Path) -> None:
    meta = run / "checkpoint_003000" / "meta.json"
    meta.write_bytes(meta.read_bytes()[:20])
    assert load_snapshot(str(run), which="latest").metrics["drawings_seen"] == 2000


def test_damaged_weights_are_named(run: Path) -> None:
    weights = run / "checkpoint_003000" / "snapshot.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"checkpoint_003000/snapshot\.safetensors is damaged"):
        load_snapshot(str(run), which="latest")


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=f"{place} has no snapshot: it is no run"):
            load_snapshot(str(place))


def test_a_store_that_is_away_is_not_taken_for_an_empty_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(uri: str) -> bool:
        raise StorageError(f"{uri}: the store is unreachable")

    monkeypatch.setattr("doodle_dist.data.storage.exists", away)
    with pytest.raises(StorageError, match="unreachable"):
        load_snapshot("s3://bucket/run")


def test_a_net_of_the_other_kind_is_refused(run: Path, tmp_path: Path) -> None:
    save_run(tmp_path / "gan", "doodle-gan-small")
    with pytest.raises(ValueError, match=r"is of a classifier; a GAN's run is needed"):
        _ = load_snapshot(str(run)).generator
    with pytest.raises(ValueError, match=r"is of a classifier; a GAN's run is needed"):
        _ = load_snapshot(str(run)).generator_config
    with pytest.raises(ValueError, match=r"is of a GAN; a classifier's run is needed"):
        _ = load_snapshot(str(tmp_path / "gan")).classifier


def change(file: Path, **fields: object) -> None:
    file.write_bytes(orjson.dumps(orjson.loads(file.read_bytes()) | fields))


def test_another_version_is_refused_and_none_at_all_is_the_first(run: Path) -> None:
    meta = run / "checkpoint_002000" / "meta.json"
    assert orjson.loads(meta.read_bytes())["format_version"] == 1
    change(meta, format_version=7)
    with pytest.raises(
        ValueError, match=r"meta\.json has format version 7; this release reads up to 1: install"
    ):
        load_snapshot(str(run))
    without = orjson.loads(meta.read_bytes())
    del without["format_version"]
    meta.write_bytes(orjson.dumps(without))
    assert load_snapshot(str(run)).metrics["drawings_seen"] == 2000


@pytest.mark.parametrize(
    ("file", "fields", "said"),
    [
        ("meta.json", {"categories": None}, r"meta\.json: categories is missing or no list"),
        ("meta.json", {"format_version": "new"}, r"meta\.json is no snapshot's description"),
        (
            "experiment.json",
            {"tempo": 3},
            r"experiment\.json is damaged, or of another release: tempo: Extra inputs",
        ),
        (
            "meta.json",
            {"categories": ["a", "b", "c"]},
            r"holds other weights than its experiment\.json describes: ",
        ),
    ],
)
def test_what_does_not_fit_is_named(run: Path, file: str, fields: dict[str, object], said: str) -> None:
    change(run / "checkpoint_002000" / file, **fields)
    with pytest.raises(ValueError, match=said):
        load_snapshot(str(run))


def test_an_experiment_cut_short_is_named(run: Path) -> None:
    file = run / "checkpoint_002000" / "experiment.json"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"experiment\.json is damaged, or of another release: Invalid JSON"):
        load_snapshot(str(run))


def test_a_checkpoint_is_one_once_it_is_committed(run: Path) -> None:
    newest = run / "checkpoint_000000004000_f0001_1a2b3c4d"
    save_run(run, PRESET, seen=4000, score=0.99).rename(newest)
    assert load_snapshot(str(run)).metrics["drawings_seen"] == 2000
    with pytest.raises(ValueError, match="has no snapshot"):
        load_snapshot(str(newest))
    (newest / "commit.json").write_bytes(b"{}")
    assert load_snapshot(str(run)).uri == load_snapshot(str(newest)).uri == str(newest)


@pytest.mark.parametrize("file", ["meta.json", "experiment.json", "snapshot.safetensors"])
def test_a_checkpoint_that_is_swept_while_it_is_read_is_none(
    run: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    swept = run / "checkpoint_002000"
    sweep_before_reading(str(swept), file, monkeypatch)
    assert load_snapshot(str(run)).metrics["drawings_seen"] == 3000
    assert not swept.exists()


def test_a_file_that_is_listed_and_never_there_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        storage, "read_if_there", lambda uri: None if "snapshot" in uri else Path(uri).read_bytes()
    )
    with pytest.raises(StorageError, match="checkpoint_002000: not all of it is there"):
        load_snapshot(str(run))


def _devices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The best devices of a machine with GPUs: here, given no GPU where something is given, and given the second."""
    found = []
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        for given in ([], [1]):
            patch.setattr(ray, "get_gpu_ids", lambda given=given: given)
            found.append(best_device().type)
    return found


@pytest.mark.cluster
def test_a_task_takes_no_gpu_that_it_was_not_given(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _devices(monkeypatch) == ["cuda", "cuda"], "a driver is given none, and takes what there is"
    assert ray.get(ray.remote(lambda: _devices(pytest.MonkeyPatch())).remote()) == ["cpu", "cuda"]
