"""Bad input as a person meets it, one test for each kind: what is said, the exit code, and nothing lost.

A bad record goes to the rejects with file, line and reason, and the work goes on; a bad file, manifest or
request is one readable line that names it and what was expected, and exit code 2, or 1 where the work was
under way. Each command runs in this process, on one Ray for all. The readers' and the manifest's own tests
have the finer cases; kills and other processes are in tests/cluster.
"""

import gzip
import json
import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image

from doodle_dist import cli
from doodle_dist.data import blocks, filesystems, shards, storage, storage_errors
from doodle_dist.data.categories import Categories
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.sources import find_sources
from doodle_dist.data.strokes import pack_strokes
from tests.conftest import write_drawings
from tests.datasets import one_by_one
from tests.image_sets import noise, write_folder, write_idx
from tests.runs import save_run
from tests.s3 import S3Server

pytestmark = pytest.mark.cluster


@dataclass
class Answer:
    """What a command said: its exit code, its output, and the last line on stderr."""

    code: int
    out: str
    line: str


Command = Callable[..., Answer]


@pytest.fixture
def doodle_dist(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command line. On failure there is one line of ours on stderr, beside progress bars, and no more."""

    def run(*arguments: str | Path) -> Answer:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        code = int(stop.value.code or 0)
        out, err = capfd.readouterr()
        lines = [
            line for line in err.splitlines() if line.strip() and not line.startswith(("reading", "writing"))
        ]
        assert "Traceback" not in err
        if code:
            assert len(lines) == 1, err
            assert lines[0].startswith("doodle-dist: ")
        return Answer(code, out, lines[0] if lines else "")

    return run


@pytest.fixture
def prepare(doodle_dist: Command, tmp_path: Path, local_ray: None) -> Command:
    def run(*arguments: str) -> Answer:
        return doodle_dist(
            "data", "prepare", "--source", tmp_path / "raw", "--to", tmp_path / "data", *arguments
        )

    return run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    folder = tmp_path_factory.mktemp("bad-input")
    write_drawings(folder / "raw", {"cat": 120, "dog": 120})
    with pytest.raises(SystemExit) as stop:
        cli.main(
            ["data", "prepare", "--source", f"{folder}/raw", "--to", f"{folder}/data", "--split", "80,10,10"]
        )
    assert stop.value.code == 0
    return folder / "data"


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    shutil.copytree(dataset, tmp_path / "copy")
    return tmp_path / "copy"


def rejects(dataset: Path) -> list[tuple[str, int, str]]:
    """(file, line, reason) as the manifest's list of rejects has them."""
    path = load_manifest(str(dataset)).rejects.path
    listed = pq.read_table(dataset / path).to_pylist() if path else []
    return [(Path(row["file"]).name, row["line"], row["reason"]) for row in listed]


# --- records: they go to the rejects, and the work goes on ---------------------------------------------


def changed(line: bytes, **fields: object) -> bytes:
    return orjson.dumps(orjson.loads(line) | fields)


BAD_RECORDS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("not JSON", lambda line: b"this is no JSON"),
    ("x and y differ in length (3 and 2)", lambda line: changed(line, drawing=[[[1, 2, 3], [4, 5]]])),
    ("coordinate 256 outside 0..255", lambda line: changed(line, drawing=[[[1, 256], [4, 5]]])),
    ("coordinate -1 outside 0..255", lambda line: changed(line, drawing=[[[1, 2], [-1, 5]]])),
    ("coordinate is not a number", lambda line: changed(line, drawing=[[[1, "a"], [4, 5]]])),
    ("empty drawing", lambda line: changed(line, drawing=[])),
    ("unknown category 'catt'; did you mean 'cat'?", lambda line: changed(line, word="catt")),
    ("unknown category 'qqqqqq'", lambda line: changed(line, word="qqqqqq")),
    ("came before", lambda line: line),  # a key_id twice
    ("the file ends within this line", lambda line: line[:70]),  # cut, the last of the file
]


def test_bad_records_are_listed_and_all_good_ones_are_there(prepare: Command, tmp_path: Path) -> None:
    write_drawings(tmp_path / "raw", {"cat": 100})
    file = tmp_path / "raw" / "cat.ndjson"
    lines = file.read_bytes().splitlines()
    dot = changed(lines[0], key_id="5000", drawing=[[[7], [9]]])  # a point is a legal stroke
    bad = [spoil(changed(lines[k])) for k, (_, spoil) in enumerate(BAD_RECORDS)]
    file.write_bytes(b"\n".join([*lines, dot, *bad]))
    answer = prepare("--max-rejects", "1", "--split", "100,0,0")
    assert answer.code == 0
    assert "101 drawings" in answer.out
    assert "10 bad records" in answer.out
    kept = pq.read_table(tmp_path / "data" / "train" / "part-00000.parquet")
    assert sorted(kept["key_id"].to_pylist()) == [*range(1, 101), 5000]
    assert kept["strokes"].to_pylist()[kept["key_id"].to_pylist().index(5000)] == pack_strokes([[[7], [9]]])
    found = rejects(tmp_path / "data")
    assert [(name, line) for name, line, _ in found] == [("cat.ndjson", 102 + k) for k in range(len(bad))]
    for (reason, _), (_, line, said) in zip(BAD_RECORDS, found, strict=True):
        assert reason in said, f"line {line}"


def test_lines_are_counted_over_the_blocks_of_a_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks.line_blocks, "__defaults__", (2000,))
    write_drawings(tmp_path / "raw", {"cat": 60})
    file = tmp_path / "raw" / "cat.ndjson"
    lines = file.read_bytes().splitlines()
    lines[20] = lines[50] = b"bad"
    lines.append(lines[40])  # a key_id twice
    file.write_bytes(b"\n".join(lines) + b"\n")
    monkeypatch.setattr(shards, "_run_round", one_by_one)
    sources = tuple(find_sources([str(tmp_path / "raw")]))
    request = shards.PrepareRequest(
        sources, Categories(("cat",)), str(tmp_path / "data"), (100.0, 0.0, 0.0), max_rejects=1.0
    )
    shards.prepare(request)
    assert [line for _, line, _ in rejects(tmp_path / "data")] == [21, 51, 61]


@pytest.mark.parametrize("name", ["cat.ndjson", "cat.ndjson.gz"])
def test_a_file_that_is_cut_off_is_refused_however_few_bad_records_that_makes(
    prepare: Command, tmp_path: Path, name: str
) -> None:
    write_drawings(tmp_path / "raw", {"cat": 3000})
    file = tmp_path / "raw" / "cat.ndjson"
    whole = file.read_bytes()
    file.unlink()
    packed = gzip.compress(whole) if name.endswith("gz") else whole
    (tmp_path / "raw" / name).write_bytes(packed[: len(packed) // 2 + 9])
    answer = prepare()
    assert answer.code == 1
    assert re.search(rf"{name}:1\d\d\d: the .*: what came after is missing; get the file again", answer.line)
    assert not (tmp_path / "data" / "manifest.json").exists()
    assert prepare("--max-rejects", "1").code == 0
    assert len(rejects(tmp_path / "data")) == 1


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ('{"word":"cat","key_id":"9","recognized":true,"drawing":[]}', "empty drawing"),
        ('{"word":"cat"}', "key_id is missing"),
        ('{"word":"catt","key_id":"9","recognized":true,"drawing":[[[1],[2]]]}', "unknown category 'catt'"),
    ],
)
def test_a_last_record_that_is_whole_and_bad_is_no_cut_file_s_without_a_newline(
    prepare: Command, tmp_path: Path, last: str, reason: str
) -> None:
    write_drawings(tmp_path / "raw", {"cat": 60})
    file = tmp_path / "raw" / "cat.ndjson"
    file.write_bytes(file.read_bytes() + last.encode())
    assert prepare("--max-rejects", "0.05").code == 0
    [(name, line, said)] = rejects(tmp_path / "data")
    assert (name, line) == ("cat.ndjson", 61)
    assert said.startswith(reason)


def test_a_binary_file_cut_in_the_middle_keeps_what_is_whole(prepare: Command, tmp_path: Path) -> None:
    drawings = [struct.pack("<Q2sbI", k, b"US", 1, 0) + pack_strokes([[[1, 9], [2, 8]]]) for k in range(40)]
    data = b"".join(drawings)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "cat.bin").write_bytes(data[: len(data) // 2 + 5])
    answer = prepare("--max-rejects", "0.1", "--split", "100,0,0")
    assert answer.code == 1
    assert "get the file again" in answer.line
    answer = prepare("--max-rejects", "1", "--split", "100,0,0")
    assert answer.code == 0
    assert "20 drawings" in answer.out
    at = len(data) // 2
    assert rejects(tmp_path / "data") == [("cat.bin", 21, f"the file ends inside the record at byte {at}")]


def test_with_the_categories_that_were_missing_in_it_the_command_begins_anew(
    prepare: Command, tmp_path: Path
) -> None:
    """What was a bad record is now one that isn't wanted."""
    write_drawings(tmp_path / "some", {"cat": 60, "dog": 60})
    lines = [(tmp_path / "some" / f"{name}.ndjson").read_bytes() for name in ("cat", "dog")]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mixed.ndjson").write_bytes(b"".join(lines))
    answer = prepare()
    assert answer.code == 1
    assert "unknown category 'dog'" in answer.line
    answer = prepare("--categories", "cat")
    assert answer.code == 0, answer.line
    assert rejects(tmp_path / "data") == []
    assert prepare("--categories", "cat").code == 0, "it is done"


def test_more_rejects_than_allowed_stop_the_work_and_more_leave_goes_on(
    prepare: Command, tmp_path: Path
) -> None:
    write_drawings(tmp_path / "raw", {"cat": 50})
    with (tmp_path / "raw" / "cat.ndjson").open("ab") as file:
        file.write(b"{}\n")
    answer = prepare()
    assert answer.code == 1
    assert "1 of 51 records are bad, more than --max-rejects 0.001 allows" in answer.line
    assert "cat.ndjson:51: word is missing" in answer.line
    assert prepare("--max-rejects", "0.05").code == 0


# --- files and requests: one line, exit code 2, before anything starts ---------------------------------


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((5, 28, 28), np.uint8), "uint8 [5, 28, 28]; expected uint8 [N, 784]"),
        (np.zeros((5, 784), np.float32), "float32 [5, 784]; expected uint8 [N, 784]"),
        # Not print: a process in which Ray has shown progress has another in its place, and it can't be pickled.
        (np.array([len], dtype=object), "object [1]; expected uint8 [N, 784]"),
    ],
)
def test_an_npy_of_another_shape_or_type_or_with_objects_is_refused(
    prepare: Command, tmp_path: Path, array: np.ndarray, named: str
) -> None:
    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw" / "cat.npy", array, allow_pickle=True)
    answer = prepare()
    assert answer.code == 2
    assert f"{tmp_path}/raw/cat.npy holds {named}" in answer.line


def test_sources_that_are_empty_missing_or_unknown_are_named(doodle_dist: Command, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    asked = ["data", "prepare", "--to", tmp_path / "data", "--source"]
    for source, named in ((tmp_path / "raw", "raw holds no files"), (tmp_path / "no", "no not found")):
        answer = doodle_dist(*asked, source)
        assert (answer.code, named in answer.line) == (2, True), answer.line
    (tmp_path / "raw" / "a.txt").write_text("x")
    answer = doodle_dist(*asked, tmp_path / "raw")
    assert answer.code == 2
    assert "a.txt has an unknown extension; expected one of .ndjson" in answer.line
    assert not (tmp_path / "data").exists()


def test_sources_without_a_drawing_are_said_to_hold_none(prepare: Command, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "cat.ndjson").write_bytes(b"")
    answer = prepare()
    assert answer.code == 2
    assert "the sources hold no drawings of cat" in answer.line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["data", "prepare", "--source", "x"], "'--to'"),
        (
            ["data", "prepare", "--source", "x", "--to", "y", "--channels", "2"],
            "should be 1 (grey) or 3 (RGB)",
        ),
        (
            ["data", "prepare", "--source", "x", "--to", "y", "--side", "7"],
            "'--side': Input should be greater than or equal to 8",
        ),
        (["data", "prepare", "--source", "x", "--to", "y", "--crop", "box"], "one of centre, bounding-box"),
        (["data", "fetch", "--to", "y", "--format", "jpeg"], "one of simplified, raw, binary, bitmap"),
        (["trian"], "Did you mean 'train'?"),
        (["train", "doodle-gan-smal"], "did you mean doodle-gan-small?"),
        (["train", "--set", "optim.genrator.lr=1"], "did you mean optim.generator?"),
        (["train", "--workers", "many"], "--workers 'many' is neither a number of workers nor MIN:MAX"),
        (["train", "--workers", "9", "--data", "x"], "scaling.workers=9 is more than data.lanes=8"),
        (["config", "validate", "mine.toml"], "preset mine.toml: no such file"),
        (["sample", "nowhere"], "nowhere has no snapshot: it is no run"),
        (["data", "verify", "ftp://host/x"], "unknown scheme; use a local path, s3://"),
    ],
)
def test_a_wrong_request_names_what_is_wrong_and_the_nearest(
    doodle_dist: Command, arguments: list[str], named: str
) -> None:
    answer = doodle_dist(*arguments)
    assert answer.code == 2
    assert named in answer.line


@pytest.mark.parametrize("asked", ["cat,dgo", "dgo"])
def test_an_unknown_category_names_the_nearest(prepare: Command, tmp_path: Path, asked: str) -> None:
    write_drawings(tmp_path / "raw", {"cat": 3})
    answer = prepare("--categories", asked)
    assert answer.code == 2
    assert "categories: unknown category 'dgo'; did you mean 'dog'?" in answer.line


def test_an_image_set_is_prepared_verified_and_shown(
    prepare: Command, doodle_dist: Command, tmp_path: Path
) -> None:
    write_folder(tmp_path / "raw", {"red": noise(30, 20, 30, 3), "other": noise(9, 20, 30, 3, seed=1)})
    answer = prepare()
    assert answer.code == 2
    assert "raw/other/0000.png has 30×20 pixels; give --side N" in answer.line
    assert prepare("--side", "16", "--categories", "red").code == 0
    assert doodle_dist("data", "verify", tmp_path / "data").code == 0
    answer = doodle_dist("data", "inspect", tmp_path / "data", "-o", tmp_path / "sheet.png")
    assert answer.code == 0
    assert "30 drawings as pixels 16×16×3, 1 categories" in answer.out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.mode == "RGB"
    file = write_idx(tmp_path / "mnist", "train", noise(5, 28, 28), np.arange(5))
    answer = doodle_dist("data", "rasterize", file, tmp_path / "x.npy")
    assert answer.code == 2
    assert "train-images-idx3-ubyte holds pictures already" in answer.line


def test_a_picture_that_cannot_be_written_is_named(
    doodle_dist: Command, dataset: Path, tmp_path: Path
) -> None:
    answer = doodle_dist("data", "inspect", dataset, "-o", tmp_path / "no" / "x.png")
    assert answer.code == 2
    assert f"{tmp_path}/no/x.png: No such file or directory" in answer.line


def test_a_sample_of_an_unknown_category_names_the_nearest(doodle_dist: Command, tmp_path: Path) -> None:
    save_run(tmp_path / "run", "doodle-gan-small", ("cat", "dog"))
    answer = doodle_dist("sample", tmp_path / "run", "--categories", "dgo", "-o", tmp_path / "x.png")
    assert answer.code == 2
    assert "--categories: unknown category 'dgo'; did you mean 'dog'?" in answer.line


# --- manifests: every command that reads a dataset looks at them first ---------------------------------


def edit_manifest(dataset: Path, change: Callable[[dict], object]) -> None:
    path = dataset / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def shard(dataset: Path) -> Path:
    return dataset / load_manifest(str(dataset)).splits["train"].shards[0].path


MANIFESTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda d: (d / "manifest.json").unlink(), "is not a prepared dataset: it has no manifest.json"),
    (lambda d: (d / "manifest.json").write_text("{"), "manifest.json is not JSON"),
    (
        lambda d: edit_manifest(d, lambda m: m.update(format_version=2)),
        "manifest.json has format version 2; this release reads up to 1",
    ),
    (
        lambda d: edit_manifest(d, lambda m: m["splits"]["train"]["shards"][0].update(path="../x.parquet")),
        "names a file outside its prefix: '../x.parquet'",
    ),
    (lambda d: shard(d).unlink(), "part-00000.parquet is missing"),
    (lambda d: shard(d).write_bytes(shard(d).read_bytes()[:-1]), "the manifest says"),
    (lambda d: (d / "train" / "group_counts.npy").unlink(), "group_counts.npy is missing"),
]


@pytest.mark.parametrize(("spoil", "named"), MANIFESTS)
def test_training_on_a_spoilt_dataset_is_refused_before_it_starts(
    doodle_dist: Command, copy: Path, tmp_path: Path, spoil: Callable[[Path], object], named: str
) -> None:
    spoil(copy)
    answer = doodle_dist("train", "classifier-small", "--data", copy, "--storage", tmp_path / "runs")
    assert answer.code == 2
    assert str(copy) in answer.line
    assert named in answer.line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("key", ["gan.judge", "gan.critic_from"])
def test_a_run_that_training_needs_and_nobody_has_is_refused_before_it_starts(
    doodle_dist: Command, dataset: Path, tmp_path: Path, key: str
) -> None:
    places = ["--data", dataset, "--storage", tmp_path / "runs"]
    answer = doodle_dist("train", *places, "--set", f"{key}={tmp_path}/nowhere")
    assert answer.code == 2
    assert f"{key}={tmp_path}/nowhere: there is no run with a checkpoint" in answer.line


def test_counts_that_were_altered_are_refused_where_they_are_needed(doodle_dist: Command, copy: Path) -> None:
    counts = copy / "train" / "group_counts.npy"
    counts.write_bytes(counts.read_bytes()[:-2] + b"\1\1")
    answer = doodle_dist("train", "classifier-small", "--data", copy, "--set", 'data.categories=["cat"]')
    assert answer.code == 2
    assert "train/group_counts.npy: its checksum differs" in answer.line


def test_verify_names_what_was_altered_whatever_the_working_directory(
    doodle_dist: Command, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy.parent)
    assert doodle_dist("data", "verify", "copy").code == 0
    data = shard(copy).read_bytes()
    shard(copy).write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "verify", "copy"])
    assert stop.value.code == 1


# --- places ---------------------------------------------------------------------------------------------


def test_an_object_store_that_is_away_refuses_the_key_or_lacks_the_bucket(
    doodle_dist: Command, s3_env: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = doodle_dist("sample", "s3://lacking/run")
    assert answer.code == 2
    assert "lacking" in answer.line
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    filesystems.forget_filesystems()
    answer = doodle_dist("data", "prepare", "--source", f"{s3_bucket}/raw", "--to", "unused")
    assert answer.code == 2
    assert f"{s3_bucket}/raw: the store at {s3_env.endpoint} refused the key" in answer.line
    assert "wrong" not in answer.line
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setattr(filesystems, "MAX_ATTEMPTS", 1)
    filesystems.forget_filesystems()
    answer = doodle_dist("sample", f"{s3_bucket}/run")
    assert answer.code == 2
    assert "the store at http://127.0.0.1:9 is unreachable" in answer.line


def test_no_space_left_stops_the_work_under_way_and_names_the_place(
    doodle_dist: Command, tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    write_drawings(tmp_path / "raw", {"cat": 30})
    to = tmp_path / "data"
    written = storage.write_atomic

    def write(uri: str, data: bytes) -> None:
        if uri.endswith("manifest.json"):
            with storage_errors.errors_about(uri), open("/dev/full", "wb", buffering=0) as device:
                device.write(data)
        written(uri, data)

    monkeypatch.setattr(storage, "write_atomic", write)
    answer = doodle_dist("data", "prepare", "--source", tmp_path / "raw", "--to", to)
    assert answer.code == 1
    assert f"no space left on {to}/manifest.json" in answer.line
    monkeypatch.undo()
    assert doodle_dist("data", "prepare", "--source", tmp_path / "raw", "--to", to).code == 0


def test_an_error_inside_a_task_keeps_its_own_words(
    doodle_dist: Command, tmp_path: Path, local_ray: None
) -> None:
    write_drawings(tmp_path / "raw", {"cat": 30})
    to = tmp_path / "data"
    (to / "train").mkdir(parents=True)
    (to / "train" / "part-00000.parquet").mkdir()  # where a shard is to be written lies a folder
    answer = doodle_dist("data", "prepare", "--source", tmp_path / "raw", "--to", to)
    assert answer.code == 1
    assert f"{to}/train/part-00000.parquet" in answer.line
    assert "UDF" not in answer.line


# --- runs that are used ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    save_run(folder / "judge", "classifier-small", ("cat", "dog"))
    save_run(folder / "gan", "doodle-gan-small", ("cat", "dog"))
    (folder / "text.png").write_text("this is no picture")
    (folder / "empty.ndjson").write_text("\n")
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("sample gan -n 0", "-n 0: should be at least 1"),
        ("sample gan -n 1000000 -o x.png", "a grid of 2,000,000 drawings is too large"),
        ("sample gan --categories cat,dgo", "--categories: unknown category 'dgo'; did you mean 'dog'?"),
        ("sample gan --truncation 9", "--truncation 9: should be above 0 and at most 4"),
        ("sample judge", "is of a classifier; a GAN's run is needed here"),
        ("interpolate gan --categories cta,dog", "--categories: unknown category 'cta'; did you mean 'cat'?"),
        ("interpolate judge", "is of a classifier; a GAN's run is needed here"),
        ("classify judge text.png", "text.png: not a PNG or JPEG picture"),
        ("classify judge empty.ndjson", "empty.ndjson holds no drawing"),
        ("classify judge nowhere.png", "nowhere.png not found"),
        ("classify gan text.png", "is of a GAN; a classifier's run is needed here"),
        ("export judge --format h5", "--format 'h5': should be safetensors or onnx"),
        ("export nowhere", "nowhere has no snapshot"),
        ("runs list nowhere", "nowhere holds no runs"),
        ("runs show text.png", "text.png is no run"),
    ],
)
def test_what_can_not_be_drawn_read_or_exported(
    doodle_dist: Command, runs: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, said: str
) -> None:
    monkeypatch.chdir(runs)
    before = sorted(runs.rglob("*"))
    answer = doodle_dist(*arguments.split())
    assert answer.code == 2
    assert said in answer.line
    assert sorted(runs.rglob("*")) == before, "nothing was written"


@pytest.mark.parametrize("command", ["sample gan", "interpolate gan", "export gan", "classify judge x.png"])
def test_a_snapshot_that_is_cut_off_or_of_a_newer_release(
    doodle_dist: Command, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    monkeypatch.chdir(tmp_path / "runs")
    (folder,) = Path(command.split()[1]).iterdir()
    weights, meta = folder / "snapshot.safetensors", folder / "meta.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    answer = doodle_dist(*command.split())
    assert answer.code == 2
    assert f"{weights} is damaged, or still being written" in answer.line
    weights.write_bytes(whole)
    meta.write_bytes(orjson.dumps(orjson.loads(meta.read_bytes()) | {"format_version": 2}))
    answer = doodle_dist(*command.split())
    assert answer.code == 2
    assert "meta.json has format version 2; this release reads up to 1: install a newer one" in answer.line


# --- clusters -------------------------------------------------------------------------------------------


def test_more_workers_than_the_cluster_has_is_said_at_once_and_after_waiting(
    doodle_dist: Command, dataset: Path, local_ray: None, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", "classifier-small", "--data", str(dataset), "--workers", "8"]
    answer = doodle_dist(*asked)
    assert answer.code == 2
    assert "--workers 8: 8 workers of 1 CPUs take 8 CPUs" in answer.line
    assert "the cluster has 4 CPUs" in answer.line
    with pytest.raises(SystemExit) as stop:
        cli.main([*asked, "--wait", "0.5"])
    assert stop.value.code == 2
    out, err = capfd.readouterr()
    assert out == "", "stdout is for answers"
    waiting, *_, refused = err.strip().splitlines()
    assert waiting.startswith("waiting for an autoscaler: 8 workers of 1 CPUs")
    assert refused.startswith("doodle-dist: --workers 8")


def test_an_address_where_no_cluster_listens_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from doodle_dist.ray_cluster import _refuse_dead_address

    with pytest.raises(ValueError, match=r"no Ray cluster answers at 127\.0\.0\.1:9 \(Connection refused\)"):
        _refuse_dead_address("127.0.0.1:9")
    for other in ("", "auto", "local", "ray://127.0.0.1:9"):
        _refuse_dead_address(other)
