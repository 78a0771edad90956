"""The line on the terminal: what it says of a run, and that a busy board stops nothing."""

from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError

from doodle_dist.training import progress


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 1100.0)


FIGURES = {"drawings_seen": 320_000.0, "total": 1_000_000.0}


def test_a_line_says_how_far_how_fast_how_long_and_how_well() -> None:
    figures = FIGURES | {"speed/drawings_per_s": 3200.4, "loss/critic": 0.6931, "optim/lr": 1e-4}
    assert progress.line(figures, began_seen=0, began=1000.0) == (
        "320,000/1,000,000 drawings   32%  3,200/s  ETA 0:03:32  loss/critic 0.693"
    )


def test_the_time_left_counts_from_where_this_start_began() -> None:
    # 20,000 drawings in 100 s leave 680,000 for 3,400 s, whatever earlier starts did.
    assert "ETA 0:56:40" in progress.line(FIGURES, began_seen=300_000, began=1000.0)


def test_between_figures_the_time_left_counts_down() -> None:
    # 20,000 drawings in the first 60 s leave 680,000 for 2,040 s, of which 40 s are over.
    assert "ETA 0:33:20" in progress.line(FIGURES, began_seen=300_000, began=1000.0, since=1060.0)
    late = FIGURES | {"total": 320_001.0}
    assert "ETA 0:00:00" in progress.line(late, began_seen=300_000, began=1000.0, since=1060.0)


def test_the_last_batch_is_whole_and_no_more_than_all_is_told() -> None:
    figures = {"drawings_seen": 2_016.0, "total": 2_000.0}
    assert progress.line(figures, began_seen=2_016, began=1000.0) == "2,016/2,000 drawings  100%"


def test_nothing_is_made_up_before_the_first_figures() -> None:
    assert progress.line(FIGURES, began_seen=320_000, began=1100.0) == "320,000/1,000,000 drawings   32%"


def test_a_board_lays_newer_figures_over_older_ones() -> None:
    board = progress._Board()
    board.update({"drawings_seen": 1, "loss/x": 3.0})
    board.update({"drawings_seen": 2, "val/top1": 0.5})
    board.warn("gradient-norm at drawing 2: …")
    figures = {"drawings_seen": 2, "loss/x": 3.0, "val/top1": 0.5}
    said = ["gradient-norm at drawing 2: …"]
    assert board.read(0) == (figures, said)
    assert board.read(0) == (figures, said), "an answer that nobody got takes no warning with it"
    assert board.read(1) == (figures, []), "who has heard it isn't told again"


def test_a_board_that_does_not_answer_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        class read:  # noqa: N801
            remote = staticmethod(lambda heard: None)

    def out_of_time(*_: Any, **__: Any) -> None:
        raise GetTimeoutError("no answer")

    monkeypatch.setattr("ray.get", out_of_time)
    assert progress._read(Silent(), 0) == ({}, [])


def test_in_a_log_a_line_is_said_again_only_when_there_is_more_to_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = [1000.0, 1000.0, 1000.0, 2000.0, 3000.0]
    answers = [{"total": 4000.0, "drawings_seen": drawings} for drawings in seen]
    answers.append(answers[-1] | {"optim/lr": 1e-4})  # of which a line says nothing

    class Over:
        """An event that is set at the last answer."""

        def wait(self, _: float) -> bool:
            return len(answers) == 1

    monkeypatch.setattr(progress, "_PLAIN_EVERY_S", -1.0)
    monkeypatch.setattr(progress, "_read", lambda *_: (answers.pop(0), []))
    progress._follow(None, Over(), quiet=False)
    said = [line.split("/")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["1,000", "2,000", "3,000"]


@pytest.mark.parametrize("quiet", [False, True])
def test_a_warning_is_said_as_it_is_and_of_figures_nothing_to_who_asked_for_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    said = "worker 0 failed: [/pytorch/gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.0.0.2]:39251"

    class Over:
        def wait(self, _: float) -> bool:
            return True

    figures = {"total": 4000.0, "drawings_seen": 1000.0}
    monkeypatch.setattr(progress, "_read", lambda *_: (figures, [said, "/data/[old]/run is damaged"]))
    progress._follow(None, Over(), quiet=quiet)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [f"warning: {said}", "warning: /data/[old]/run is damaged"]
    assert len(lines) == (2 if quiet else 3)


def test_as_structured_logs_each_change_and_each_warning_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [
        ({"drawings_seen": 1.0}, []),
        ({"drawings_seen": 1.0}, ["loss at zero"]),
        ({"drawings_seen": 2.0}, []),
    ]

    class Over:
        """An event that is set at the last answer."""

        def wait(self, _: float) -> bool:
            return len(answers) == 1

    asked: list[int] = []

    def read(_: object, heard: int) -> tuple[dict[str, float], list[str]]:
        asked.append(heard)
        return answers.pop(0)

    monkeypatch.setattr(progress, "_read", read)
    with caplog.at_level("INFO", "doodle_dist"):
        progress._tell(None, Over())
    assert asked == [0, 0, 1], "after those that it has heard"
    told = [(record.levelname, record.getMessage(), record.fields) for record in caplog.records]  # type: ignore[attr-defined]
    assert told == [
        ("INFO", "progress", {"drawings_seen": 1.0}),
        ("WARNING", "loss at zero", {}),
        ("INFO", "progress", {"drawings_seen": 2.0}),
    ]


def test_a_board_that_is_away_for_a_moment_is_asked_to_stop_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [ActorUnavailableError("for a moment", b"0" * 16), True]

    class Board:
        class asked_to_stop:  # noqa: N801
            remote = staticmethod(lambda: "asked")

    def get(_: object) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("ray.wait", lambda refs, timeout: (refs, []))
    monkeypatch.setattr("ray.get", get)
    question = progress.StopQuestion(Board)
    assert [question() for _ in range(4)] == [False, False, True, True]


def test_a_board_that_is_gone_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Board:
        class asked_to_stop:  # noqa: N801
            remote = staticmethod(lambda: asked.append(1) or "asked")

    def gone(_: object) -> bool:
        raise ActorDiedError

    monkeypatch.setattr("ray.wait", lambda refs, timeout: (refs, []))
    monkeypatch.setattr("ray.get", gone)
    question = progress.StopQuestion(Board)
    assert [question() for _ in range(4)] == [False] * 4
    assert len(asked) == 1
