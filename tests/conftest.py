"""Fixtures for all tests."""

import gc
import io
import logging
import os
import tempfile

# Before anything imports torch: tests run side by side, and threads that wait for each other's cores cost tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray Train looks every two seconds whether its workers are done: for runs as short as these, oftener.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
# A folder of the tests' own for Ray, by a short name, since sockets lie in it. In the usual one `ray start` may have
# noted a cluster that has been killed since: Ray Train's cleaner of placement groups asks for that one, and each run
# waits 12 s for the cleaner at its end.
os.environ.setdefault("RAY_TMPDIR", os.path.join(tempfile.gettempdir(), "ray-tests"))
# Triton's kernels run by its interpreter where there is no GPU: read when somebody imports it, as parts of torch do.
if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")
# A process less for each run: no node of these is about to be taken away (in `make faults` one is). Commands that have
# a process of their own keep it: AS_TYPED of tests/cluster/test_commands.py.
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.s3 import S3Server

pytest_plugins = ["tests.s3"]

# Nobody reads here what Ray's workers print. Its log monitor looks for new files ten times a second, and through all
# that it knows; a session has hundreds: 3 to 5 % of a core.
os.environ.setdefault("RAY_LOG_MONITOR_MANY_FILES_THRESHOLD", "1")
os.environ.setdefault("LOG_NAME_UPDATE_INTERVAL_S", "600")
# And nobody looks at its nodes: the dashboard's agent reads every process's memory each five seconds.
os.environ.setdefault("REPORTER_UPDATE_INTERVAL_MS", "600000")

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("doodle_dist", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=25)
settings.load_profile("doodle_dist")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Python's garbage collector rests meanwhile, and leaves what was imported alone afterwards: it all stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


LONGEST = Path(__file__).parent / "cluster" / "test_tune.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file comes first of all: while one process has it, the other has others."""
    items.sort(key=lambda item: item.path != LONGEST)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real drawings (../shared/data or $DOODLE_REAL_DATA); the test skips without it."""
    folder = Path(os.environ.get("DOODLE_REAL_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "simplified").is_dir():
        pytest.skip(f"no real drawings at {folder}")
    return folder


@pytest.fixture
def json_lines() -> Iterator[io.StringIO]:
    """Where JSON lines go; the root logger and what is bound are as before in the end."""
    from doodle_dist import log

    root, stream = logging.getLogger(), io.StringIO()
    handlers, bound = list(root.handlers), dict(log._bound)
    log.use_json(stream)
    yield stream
    root.handlers = handlers
    log._bound.clear()
    log._bound.update(bound)


def write_drawings(folder: Path, counts: dict[str, int], first_key: int = 1) -> None:
    """Official simplified ndjson, a file a category: each category wiggles about a place of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(first_key)
    for place, (word, count) in enumerate(sorted(counts.items())):
        lines = []
        for _ in range(count):
            middle = 40 + 50 * (place % 4)
            points = np.clip(rng.normal(middle, 25, (2, 12)), 0, 255).astype(int)
            record = {
                "word": word,
                "countrycode": "DE",
                "timestamp": "2017-03-01 00:00:00.00000 UTC",
                "recognized": bool(rng.random() < 0.9),
                "key_id": str(first_key),
                "drawing": [points[:, :6].tolist(), points[:, 6:].tolist()],
            }
            lines.append(orjson.dumps(record))
            first_key += 1
        (folder / f"{word}.ndjson").write_bytes(b"\n".join(lines) + b"\n")


def start_ray(*, dashboard: bool, environ: dict[str, str]) -> None:
    """A Ray of four CPUs, on fewer cores on purpose; ``environ`` is its workers'."""
    from doodle_dist import ray_cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        ray_cluster.start_ray(4, dashboard=dashboard)
    ray_cluster.quiet_ray_data()


@pytest.fixture(scope="session")
def ray_environ(request: pytest.FixtureRequest) -> dict[str, str]:
    """What leads Ray's workers to the S3 server, where there is one."""
    try:
        server: S3Server = request.getfixturevalue("s3_server")
    except pytest.skip.Exception:
        return {}
    return server.environ


@pytest.fixture(scope="session")
def local_ray(ray_environ: dict[str, str]) -> Iterator[None]:
    """One Ray for all tests that need one; whoever needs its dashboard starts another in its place."""
    import ray

    if not ray.is_initialized():
        start_ray(dashboard=False, environ=ray_environ)
    yield
    ray.shutdown()


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def here(local_ray: None, capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run a command line in this process, on the Ray that it has: the same code as a process of its own runs."""

    def run(*arguments: str) -> Answer:
        from doodle_dist import cli

        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main(list(arguments))
        return Answer(int(stop.value.code or 0), *capfd.readouterr())

    return run
