"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real drawings (../shared/data or $DOODLE_DATA); the test skips without it."""
    folder = Path(os.environ.get("DOODLE_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "simplified").is_dir():
        pytest.skip(f"no real drawings at {folder}")
    return folder
