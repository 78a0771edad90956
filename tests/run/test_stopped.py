"""Why a run stopped itself is noted, and forgotten."""

from pathlib import Path

from doodle_dist.run.stopped import forget_reason, note_reason, noted_reason


def test_a_reason_is_noted_until_it_is_forgotten(tmp_path: Path) -> None:
    forget_reason(str(tmp_path))
    assert noted_reason(str(tmp_path)) == ""
    note_reason(str(tmp_path), "no more")
    assert noted_reason(str(tmp_path)) == "no more"
    forget_reason(str(tmp_path))
    assert noted_reason(str(tmp_path)) == ""
