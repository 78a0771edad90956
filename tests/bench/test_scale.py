"""The scale model: what binds where the arithmetic says, counts against the real planner, errors from the files."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from doodle_dist import cli
from doodle_dist.bench import scale, scale_check
from doodle_dist.bench.scale import (
    ALL_REDUCE,
    ARITHMETIC,
    CORES,
    LAUNCHES,
    STORE_BYTES,
    STORE_REQUESTS,
    THREADS,
    predict,
    prepare_s,
    reading,
)
from doodle_dist.bench.scale_here import measure_here
from doodle_dist.bench.scale_inputs import Asked, Inputs, collect
from doodle_dist.bench.scale_work import Work, count_work
from doodle_dist.config.load import load_experiment
from doodle_dist.data import stream_plan, stream_rows
from doodle_dist.data.order import EpochOrder, lanes_of_rank
from doodle_dist.data.records import Source
from doodle_dist.data.shards import PrepareRequest
from doodle_dist.data.sources import categories_of
from doodle_dist.data.stream_plan import StreamPlan, windows
from tests.conftest import write_drawings

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
WORK = Work(parameters=10_000_000, flops_per_drawing=4e9, kernels_per_step=200)


def inputs_of(work: Work = WORK, **figures: float) -> Inputs:
    """The real inputs, some figures replaced."""
    inputs = collect(RESULTS, load_experiment("classifier-340"), work, Asked(price_per_gpu_hour=3))
    new = {name: getattr(inputs, name).model_copy(update={"value": value}) for name, value in figures.items()}
    return inputs.model_copy(update=new)


# Nothing but one part can bind.
FREE = {
    "parameters": 0.0,
    "kernels": 0.0,
    "gpu_rate": 1e15,
    "global_batch": 1 << 20,
    "raster_threads": 1e9,
    "cores_per_node": 1e9,
    "store_bandwidth": 1e18,
    "store_requests": 1e15,
}


@pytest.mark.parametrize(
    ("figures", "bound", "grows"),
    [
        ({"gpu_rate": 1e4}, ARITHMETIC, True),
        ({"kernels": 1e6}, LAUNCHES, False),
        ({"parameters": 1e9}, ALL_REDUCE, False),
        ({"raster_threads": 1}, THREADS, True),
        ({"cores_per_node": 1}, CORES, True),
        ({"store_bandwidth": 1e6}, STORE_BYTES, True),
        ({"store_requests": 10}, STORE_REQUESTS, False),
    ],
)
def test_the_part_that_is_short_binds_and_more_nodes_help_where_they_bring_more_of_it(
    figures: dict[str, float], bound: str, grows: bool
) -> None:
    inputs = inputs_of(**(FREE | figures))
    few, many = predict(inputs, 2, 8), predict(inputs, 8, 8)
    assert few.bottleneck == many.bottleneck == bound
    assert few.drawings_per_s == min(few.limits.values())
    gain = many.drawings_per_s / few.drawings_per_s
    assert gain == pytest.approx(4) if grows else 0.5 < gain < 1.01


def test_epochs_get_shorter_with_nodes_until_the_store_binds_where_the_arithmetic_says() -> None:
    inputs = inputs_of(**(FREE | {"gpu_rate": 1e4, "store_requests": 500.0}))
    epochs = [predict(inputs, nodes, 8) for nodes in range(1, 12)]
    for before, after in pairwise(epochs):
        if after.bottleneck == ARITHMETIC:
            assert after.epoch_s < before.epoch_s
        elif before.bottleneck == STORE_REQUESTS:
            assert after.epoch_s == pytest.approx(before.epoch_s, rel=0.05)
    a_second = 500.0 / (epochs[0].reading.requests / inputs.drawings.value)
    switch = next(epoch.nodes for epoch in epochs if epoch.bottleneck == STORE_REQUESTS)
    assert switch == int(a_second / (8 * 1e4)) + 1


def test_cost_and_cores_follow_from_time_and_speed() -> None:
    inputs = inputs_of(gpu_rate=1e4, kernels=0, parameters=0)
    epoch = predict(inputs, 2, 8)
    assert epoch.epoch_s == pytest.approx(50e6 / (16 * 1e4))
    assert epoch.cost == pytest.approx(epoch.epoch_s / 3600 * 16 * 3)
    assert epoch.cores_per_gpu == pytest.approx(1e4 * inputs.feed(2))
    assert predict(inputs.model_copy(update={"price": None}), 2, 8).cost is None


def test_one_gpu_adds_nothing_up_and_a_ring_sends_twice_at_most() -> None:
    inputs = inputs_of()
    gradients = 4 * inputs.parameters.value
    assert scale.all_reduce_s(inputs, 1, 1) == 0
    assert scale.all_reduce_s(inputs, 1, 8) == pytest.approx(1.75 * gradients / inputs.nvlink.value)
    between = scale.all_reduce_s(inputs, 1000, 1)
    assert between == pytest.approx(2 * gradients / inputs.network.value, rel=0.002)


@pytest.mark.parametrize("ranks", [1, 3, 8, 32])
@pytest.mark.parametrize("global_batch", [96, 1536])
def test_row_groups_read_are_those_that_the_planner_plans(ranks: int, global_batch: int) -> None:
    drawings, lanes = 4_000_000, 8 if ranks <= 8 else 32
    inputs = inputs_of(drawings=drawings, global_batch=global_batch, lanes=lanes)
    groups = (2048,) * (drawings // 2048)
    order = EpochOrder(groups, 0, 0, lanes, global_batch)
    plan = StreamPlan(
        "",
        "strokes",
        28,
        1,
        (),
        (),
        (),
        groups,
        drawings,
        None,
        0,
        lanes,
        global_batch,
        stream_plan.WINDOW_BYTES,
    )
    read = blocks = 0
    for rank in range(ranks):
        mine = lanes_of_rank(rank, ranks, lanes)
        for window in windows(plan, len(mine), 0, 0, 1):
            blocks += 1
            for lane in mine:
                (start, _), (_, stop) = (
                    order.lane_rows(lane, window.first),
                    order.lane_rows(lane, window.stop - 1),
                )
                read += sum(1 for _ in order.pieces(start, stop))
    asked = reading(inputs, ranks)
    assert asked.row_groups == pytest.approx(read, rel=0.05)
    assert asked.blocks == pytest.approx(blocks, rel=0.35 if ranks == 3 else 0.15, abs=ranks)
    assert asked.bytes >= drawings * inputs.bytes_per_row.value
    assert asked.bytes == pytest.approx(
        asked.row_groups * 2048 * inputs.bytes_per_row.value + asked.opens * inputs.bytes_per_open.value
    )


def test_prepare_asks_for_every_chunk_in_every_shard() -> None:
    few = inputs_of(cores_per_node=1e9)
    work_s = few.prepare_fixed.value
    twice = inputs_of(
        cores_per_node=1e9, drawings=2 * few.drawings.value, prepare_chunks=2 * few.prepare_chunks.value
    )
    assert prepare_s(twice, 1) - work_s == pytest.approx(4 * (prepare_s(few, 1) - work_s))
    slow = inputs_of(cores_per_node=1)
    assert prepare_s(slow, 1) > prepare_s(slow, 2)


def test_sizes_are_those_of_prepare_and_of_the_stream() -> None:
    inputs = inputs_of()
    sources = (Source("a.ndjson", 420 * 262_144 * 100, "ndjson"),)
    request = PrepareRequest(sources, categories_of(sources, ["cat"]), "", split_percents=(100.0, 0.0, 0.0))
    assert request.shards_per_split()[0] == 100
    each = int(50e6 * 473) // 340
    files = tuple(Source(f"{k:03}.ndjson", each, "ndjson") for k in range(340))
    whole = PrepareRequest(files, categories_of(sources, ["cat"]), "", split_percents=(100.0, 0.0, 0.0))
    assert len(whole.chunks()) == inputs.prepare_chunks.value
    assert request.group_rows == inputs.group_rows.value
    assert stream_rows.ShardReader().keep == inputs.open_shards.value


@pytest.mark.slow
def test_counted_flops_are_three_forwards_of_the_preset_that_says_them() -> None:
    work = count_work("classifier-340", 340)
    assert work.parameters == 11_336_468
    assert work.flops_per_drawing == pytest.approx(3 * 1.377e9, rel=0.01)
    assert count_work("classifier-340", 12).parameters < work.parameters


@pytest.mark.slow
def test_lazy_penalties_are_counted_as_often_as_they_come() -> None:
    every = {
        n: count_work("doodle-gan-small", 12, [f"gan.adversarial.penalty_every={n}"]).flops_per_drawing
        for n in (1, 2, 4)
    }
    assert every[1] - every[2] == pytest.approx(2 * (every[2] - every[4]), rel=0.01)


def test_what_is_measured_here_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_drawings(tmp_path / "raw", {"cat": 3000, "dog": 2500})
    monkeypatch.setattr("doodle_dist.bench.scale_here.measure_loopback", lambda: 1e9)
    here = measure_here(str(tmp_path / "raw"))
    assert here.drawings == 5500
    assert 8 + 24 < here.bytes_per_row < here.shard_bytes_per_drawing * 1.2
    assert here.requests_per_open >= 2
    assert here.requests_per_group >= 1


# --- the checks ---------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout's results and log, to be altered; one preset's speeds only, which takes less counting."""
    shutil.copytree(RESULTS, tmp_path / "benchmarks" / "results")
    shutil.copy(ROOT / "LOG.md", tmp_path)
    ladder = tmp_path / "benchmarks" / "results" / scale_check.LADDER
    rungs = json.loads(ladder.read_bytes())["rungs"]
    few = [rung for rung in rungs if rung["preset"] in ("sngan-proj-small", "doodle-gan-small")]
    ladder.write_text(json.dumps({"rungs": few}))
    return tmp_path


def checks_of(root: Path) -> dict[tuple[str, str], scale_check.Check]:
    results = root / "benchmarks" / "results"
    inputs = collect(results, load_experiment("classifier-340"), WORK, Asked())
    return {(one.what, one.source): one for one in scale_check.check(inputs, results, root / "LOG.md")}


@pytest.mark.slow
def test_errors_are_reckoned_from_the_files(checkout: Path) -> None:
    results = checkout / "benchmarks" / "results"
    before = checks_of(checkout)
    ingest = json.loads((results / "ingest.json").read_bytes())
    disk = ("stream to 2 workers, from disk", "ingest.json")
    assert before[disk].measured == ingest["results"][0]["stream_per_s"]
    ingest["results"][0]["stream_per_s"] *= 2
    (results / "ingest.json").write_text(json.dumps(ingest))
    log = (checkout / "LOG.md").read_text()
    assert "| 2,000,000 | 10.8 |" in log
    (checkout / "LOG.md").write_text(log.replace("| 2,000,000 | 10.8 |", "| 2,000,000 | 21.6 |"))
    after = checks_of(checkout)
    for row in (disk, ("prepare 2,000,000", "LOG.md")):
        assert after[row].measured == pytest.approx(2 * before[row].measured)
        assert after[row].predicted == before[row].predicted
        assert 1 + after[row].error == pytest.approx((1 + before[row].error) / 2)
    assert any("prepare" in what for what, _ in before)
    assert any(source.startswith("LOG.md") and what.startswith("train") for what, source in before)


@pytest.mark.slow
def test_a_preset_is_predicted_from_the_others_alone(checkout: Path) -> None:
    ladder = checkout / "benchmarks" / "results" / scale_check.LADDER
    before = checks_of(checkout)
    rungs = json.loads(ladder.read_bytes())["rungs"]
    for rung in rungs:
        if rung["preset"] == "sngan-proj-small":
            rung["drawings_per_s"] *= 3
    ladder.write_text(json.dumps({"rungs": rungs}))
    after = checks_of(checkout)
    own = ("train sngan-proj-small, 2 workers", "gan-ladder.json, drawings")
    other = ("train doodle-gan-small, 2 workers", "gan-ladder.json, drawings")
    assert after[own].predicted == before[own].predicted
    assert after[other].predicted > 2 * before[other].predicted


# --- the command --------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["bench", "scale", *arguments])
    said = capsys.readouterr()
    return exit_.value.code, said.out, said.err


@pytest.mark.slow
def test_the_command_prints_and_writes_one_document(
    capsys: pytest.CaptureFixture[str], checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    (checkout / "benchmarks" / "results" / scale_check.LADDER).unlink()
    arguments = ["--nodes", "1,32", "--root", str(checkout), "--step-drawings-per-s", "20000", "--json"]
    code, out, _ = run(capsys, *arguments, "-o", str(tmp_path / "out.json"))
    assert code == 0
    printed = json.loads(out)
    assert printed == json.loads((tmp_path / "out.json").read_bytes())
    assert [epoch["nodes"] for epoch in printed["epochs"]] == [1, 32]
    assert printed["inputs"]["gpu_rate"]["source"] == "given: --step-drawings-per-s"
    assert all(figure["source"] for figure in printed["inputs"].values() if figure)
    code, out, _ = run(capsys, *arguments[:-1])
    assert code == 0
    assert all(word in out for word in ("bottleneck", "data.lanes=256", "predicted", "measured"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nodes", "1,zwei"], "--nodes 1,zwei: should be numbers of nodes from 1 on"),
        (
            ["--root", "/nowhere"],
            "/nowhere/benchmarks/results holds no ingest.json; --root should be a checkout's folder, and `doodle-dist "
            "bench ingest DATA -o ingest.json` writes the file",
        ),
        (["face-critic"], "face-critic is a critic; allowed: presets of gan or classifier"),
        (["--nodes", "1000"], "train.global_batch=2048 leaves some of 8000 GPUs without a drawing"),
    ],
)
def test_a_wrong_request_is_one_line(
    capsys: pytest.CaptureFixture[str], checkout: Path, arguments: list[str], said: str
) -> None:
    (checkout / "benchmarks" / "results" / scale_check.LADDER).unlink()
    root = [] if "--root" in arguments else ["--root", str(checkout)]
    code, _, err = run(capsys, *root, *arguments)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
