"""The growth benchmark does the work that it times, and tells linear from quadratic."""

import gc
from pathlib import Path

import pytest

from doodle_dist.bench import growth
from doodle_dist.bench.growth import FASTER_THAN_LINEAR, Growth, exchange, planning, write_manifest
from doodle_dist.data.manifest import load_group_counts, load_manifest
from doodle_dist.data.stream_plan import plan_stream


def test_a_made_up_manifest_is_a_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path, 30)
    manifest = load_manifest(str(tmp_path))
    info = manifest.splits["train"]
    assert len(info.shards) == 30
    assert len(load_group_counts(str(tmp_path), info)) == sum(len(shard.row_groups) for shard in info.shards)
    plan = plan_stream(manifest, str(tmp_path), "train", lanes=8, global_batch=1024)
    assert growth._epoch_plan(plan) >= len(plan.group_rows), "every row group is read"


def test_a_manifest_is_loaded_without_looking_for_garbage_in_it(tmp_path: Path) -> None:
    write_manifest(tmp_path, 5_000)
    looks: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            looks.append(info["generation"])

    gc.collect()
    gc.callbacks.append(note)
    try:
        manifest = load_manifest(str(tmp_path))
    finally:
        gc.callbacks.remove(note)
    assert len(manifest.splits["train"].shards) == 5_000
    assert len(looks) < 5, "once afterwards, and not again and again as there are more objects"
    assert gc.isenabled()


@pytest.mark.slow
def test_each_size_is_timed() -> None:
    for one in [*planning((5, 50)), exchange((3, 30))]:
        assert len(one.sizes) == len(one.seconds) == 2
        assert all(seconds >= 0 for seconds in one.seconds)


@pytest.mark.parametrize(("power", "flagged"), [(1.0, False), (2.0, True)])
def test_what_grows_with_the_square_is_flagged(power: float, flagged: bool) -> None:
    sizes = [1_000, 10_000, 100_000]
    one = Growth(what="", per="shard", sizes=sizes, seconds=[size**power / 1e6 for size in sizes])
    assert (one.growth > FASTER_THAN_LINEAR) == flagged
