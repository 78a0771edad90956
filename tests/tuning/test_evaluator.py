"""The evaluator that searches train first, where two begin at once."""

import threading
from pathlib import Path

import pytest

from doodle_dist.config.load import load_run
from doodle_dist.training import lease
from doodle_dist.training.lease import held, newest_lease
from doodle_dist.tuning import evaluator
from doodle_dist.tuning.evaluator import evaluator_uri, train_if_missing
from tests.datasets import prepare_here
from tests.runs import save_run


@pytest.mark.slow
def test_an_evaluator_that_another_search_trains_is_waited_for_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seconds in {"LEASE_S": 5.0, "BEAT_S": 0.2}.items():
        monkeypatch.setattr(lease, name, seconds)
    dataset = prepare_here(tmp_path, {"cat": 60, "dog": 60})
    runs = str(tmp_path / "runs")
    experiment = load_run("doodle-gan-small", (), {"data.uri": dataset, "storage": runs, "run": "search"})
    uri = evaluator_uri(experiment)
    has_begun, may_end = threading.Event(), threading.Event()

    def other_search() -> None:
        with held(uri, lambda _: None):
            has_begun.set()
            may_end.wait(30)
            save_run(Path(uri), "classifier-small", seen=1_000_000)

    thread = threading.Thread(target=other_search)
    thread.start()
    has_begun.wait(10)
    threading.Timer(2.0, may_end.set).start()
    holder = newest_lease(uri)
    assert not train_if_missing(uri, experiment, workers=1, quiet=True, debug=False)
    thread.join()
    told = capsys.readouterr().err.strip().splitlines()
    assert told == [f"waiting for the evaluator, which another search trains: {holder}"]


@pytest.mark.parametrize("quiet", [True, False])
def test_a_person_is_told_what_is_trained_before_the_trials(
    quiet: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(*_: object, **__: object) -> None:
        raise RuntimeError("it began")

    monkeypatch.setattr(evaluator.train_driver, "train", train)
    dataset = prepare_here(tmp_path, {"cat": 60, "dog": 60})
    options = {"data.uri": dataset, "storage": str(tmp_path / "runs"), "run": "search"}
    experiment = load_run("doodle-gan-small", (), options)
    uri = evaluator_uri(experiment)
    with pytest.raises(RuntimeError, match="it began"):
        train_if_missing(uri, experiment, workers=1, quiet=quiet, debug=False)
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == (0 if quiet else 1)
    assert all(uri in line and "--judge RUN" in line for line in told)
