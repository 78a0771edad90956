"""Structured logs: every line is one JSON object, and says which run, rank and step it is of."""

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from doodle_dist import log
from doodle_dist.data.commands import rasterize_file, synthesize_files
from tests.imports import modules


def test_lines_say_run_rank_and_step_and_other_libraries_write_them_too(json_lines: io.StringIO) -> None:
    log.bind(run="judge", rank=1, step=40)
    log.tell("progress", {"drawings_seen": 640.0})
    logging.getLogger("s3fs").warning("a %s of two\nlines", "message")
    log.bind(step=41)
    log.tell("late", {"message": "hidden", "run": "another"}, logging.ERROR)
    first, second, third = [orjson.loads(text) for text in json_lines.getvalue().splitlines()]
    assert (first["run"], first["rank"], first["step"]) == ("judge", 1, 40)
    assert (first["message"], first["level"], first["drawings_seen"]) == ("progress", "info", 640.0)
    assert first["at"].endswith("Z")
    assert (second["logger"], second["message"]) == ("s3fs", "a message of two\nlines")
    assert (third["message"], third["run"], third["step"], third["level"]) == ("late", "judge", 41, "error")


def test_an_error_is_one_line_with_its_traceback(json_lines: io.StringIO) -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        logging.getLogger("x").exception("failed")
    [text] = json_lines.getvalue().splitlines()
    assert "ValueError: no such thing" in orjson.loads(text)["error"]


def test_asking_twice_writes_once(json_lines: io.StringIO) -> None:
    log.use_json(json_lines)
    log.tell("once")
    assert len(json_lines.getvalue().splitlines()) == 1
    assert log.is_json()


def test_what_a_person_is_told_is_a_line_of_json_too(json_lines: io.StringIO) -> None:
    log.bind(run="judge")
    log.say("stopping: the run is saved first")
    said = orjson.loads(json_lines.getvalue())
    assert (said["message"], said["level"], said["run"]) == (
        "stopping: the run is saved first",
        "info",
        "judge",
    )


def test_without_json_it_is_told_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    log.say("stopping: the run is saved first")
    assert capsys.readouterr().err == "stopping: the run is saved first\n"


def test_what_is_on_stderr_is_told_through_here() -> None:
    """But for the command line's last words, what shows a live line where no JSON is asked for, and a benchmark."""
    theirs = {name for name, file in modules().items() if "sys.stderr" in file.read_text()}
    assert theirs == {"log", "cli", "bench.loaders", "training.progress", "tuning.follow"}


def test_a_command_shows_no_bar_beside_json_and_tells_bad_records_in_it(
    json_lines: io.StringIO, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthesize_files(str(tmp_path), 20, 1, 0)
    (file,) = tmp_path.glob("*.ndjson")
    file.write_bytes(b"not a drawing\n" + file.read_bytes())
    rasterize_file(str(file), tmp_path / "out.npy", 28)
    told = capsys.readouterr()
    assert told.err == ""
    assert "20 drawings" in told.out
    [said] = [orjson.loads(text)["message"] for text in json_lines.getvalue().splitlines()]
    assert said.startswith(f"{file}:1: ")


def test_the_variable_is_json_or_text() -> None:
    assert log.wants_json({"DOODLE_LOG": "json"})
    assert not log.wants_json({"DOODLE_LOG": "text"})
    assert not log.wants_json({})
    with pytest.raises(ValueError, match="DOODLE_LOG='yaml': should be json or text"):
        log.wants_json({"DOODLE_LOG": "yaml"})


def test_a_command_that_fails_says_so_in_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "doodle_dist.cli", "config", "show", "no-such-preset"]
    for value, code in (("json", 2), ("yaml", 2)):
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"DOODLE_LOG": value}, check=False
        )
        assert done.returncode == code
        if value == "json":
            said = orjson.loads(done.stderr)
            assert "no-such-preset" in said["message"]
            assert (said["level"], said["exit_code"]) == ("error", 2)
        else:
            assert "should be json or text" in done.stderr
