"""The audit: later attempts supersede earlier ones, and what is wrong is named."""

import re
from pathlib import Path

import numpy as np
import pytest

from doodle_dist.training.audit import AuditWriter, check_audit, next_attempt, read_audit

KEYS = np.arange(100, 112, dtype=np.uint64)


def write(run: Path, attempt: int, steps: dict[int, tuple[int, list[int]]], rank: int = 0) -> None:
    writer = AuditWriter(str(run), attempt, rank)
    for step, (epoch, keys) in steps.items():
        writer.add(step, epoch, ((rank, len(keys)),), np.array(keys, np.uint64))
    writer.flush()


def epoch_of(first: int, epoch: int) -> dict[int, tuple[int, list[int]]]:
    return {first + k: (epoch, KEYS[4 * k : 4 * k + 4].tolist()) for k in range(3)}


def test_a_clean_run_over_two_ranks(tmp_path: Path) -> None:
    write(tmp_path, 0, {k: (0, keys[:2]) for k, (_, keys) in epoch_of(0, 0).items()}, rank=0)
    write(tmp_path, 0, {k: (0, keys[2:]) for k, (_, keys) in epoch_of(0, 0).items()}, rank=1)
    result = check_audit(str(tmp_path), KEYS)
    assert (result.steps, result.rows, result.complete_epochs, result.problems) == (3, 12, 1, ())


def test_a_later_attempt_supersedes_the_steps_it_repeats(tmp_path: Path) -> None:
    write(tmp_path, 0, {0: (0, [100, 101, 102, 103]), 1: (0, [104, 105, 106, 107]), 2: (0, [1, 1, 1, 1])})
    assert next_attempt(str(tmp_path)) == 1
    write(tmp_path, 1, {1: (0, [107, 106, 105, 104]), 2: (0, [108, 109, 110, 111])})
    assert check_audit(str(tmp_path), KEYS).problems == ()
    assert read_audit(str(tmp_path))["key_id"].to_pylist()[4:8] == [107, 106, 105, 104]


def test_attempts_are_counted_wherever_the_run_lies(tmp_path: Path) -> None:
    run = tmp_path / "attempt-two" / "attempt-0007"
    write(run, 0, epoch_of(0, 0))
    assert next_attempt(str(run)) == 1
    assert check_audit(str(run), KEYS).problems == ()


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ({**epoch_of(0, 0), 2: (0, [108, 109, 110, 108]), **epoch_of(3, 1)}, "108"),
        ({**epoch_of(0, 0), 2: (0, [108, 109, 110]), **epoch_of(3, 1)}, "1 of 12 drawings never seen"),
        ({**epoch_of(0, 0), 2: (0, [108, 109, 110, 7])}, "not of the split, such as 7"),
        ({0: epoch_of(0, 0)[0], 2: epoch_of(0, 0)[2]}, r"steps without a record: \[1\]"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, steps: dict[int, tuple[int, list[int]]], named: str) -> None:
    write(tmp_path, 0, steps)
    problems = check_audit(str(tmp_path), KEYS).problems
    assert problems
    assert any(re.search(named, problem) for problem in problems)


def test_a_run_without_an_audit_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.audit=true"):
        read_audit(str(tmp_path))
