"""The `data` commands' own requests, where no Ray is needed to refuse them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from doodle_dist import ray_cluster
from doodle_dist.config.load import load_run
from doodle_dist.data import commands
from doodle_dist.data.commands import fetch_files, prepare_dataset, synthesize_files, verify_dataset
from doodle_dist.data.manifest import check_files, load_manifest
from doodle_dist.data.schema import Manifest, RejectsInfo, SplitInfo
from doodle_dist.ray_cluster import Need, NotEnoughResourcesError
from doodle_dist.training.plan import with_absolute_locations
from tests.datasets import prepare_here
from tests.image_sets import noise, write_cifar, write_idx


@pytest.mark.parametrize("to", ["", " "])
def test_an_empty_destination_is_refused_and_not_the_working_directory(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--to "$UNSET"` is empty."""
    (source := tmp_path / "raw" / "cat.ndjson").parent.mkdir()
    source.write_text('{"word": "cat", "key_id": "1", "drawing": [[[0, 255], [0, 9]]], "recognized": true}\n')
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(ValueError, match="--to is empty"):
        synthesize_files(to, 10, 1, 0)
    with pytest.raises(ValueError, match="--to is empty"):
        fetch_files(to, "cat", "simplified", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="--to is empty"):
        prepare_dataset([str(source)], to)
    assert not list(here.iterdir())


def test_prepare_waits_for_a_node_as_long_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_resources(need: Need, wait_s: float) -> None:
        raise NotEnoughResourcesError(f"{need.bundles} in {wait_s} s")

    monkeypatch.setattr(ray_cluster, "connect", lambda *_, **__: False)
    monkeypatch.setattr(ray_cluster, "check_resources", check_resources)
    (tmp_path / "cat.ndjson").write_text('{"word": "cat", "key_id": "1", "drawing": [[[0, 255], [0, 9]]]}')
    with pytest.raises(NotEnoughResourcesError, match=r"\[\{'CPU': 1\.0\}\] in 60 s"):
        prepare_dataset([str(tmp_path / "cat.ndjson")], str(tmp_path / "out"), wait_s=60)


def test_a_dataset_is_whole_by_any_spelling_of_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = prepare_here(tmp_path, {"cat": 40})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for spelled in ("../data", f"file://{uri}", f"{tmp_path}/here/../data"):
        assert verify_dataset(spelled), spelled
        experiment = with_absolute_locations(load_run("classifier-small", [], {"data.uri": spelled}))
        check_files(experiment.data.uri, load_manifest(experiment.data.uri))


def test_a_file_of_two_categories_is_rasterised_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.ndjson"
    line = '{"word":"%s","countrycode":"US","recognized":true,"key_id":"%d","drawing":[[[0,255],[0,255]]]}\n'
    file.write_text(line % ("cat", 1) + line % ("dog", 2))
    seen = []
    monkeypatch.setattr(commands, "read_chunk", lambda chunk, categories: seen.append(categories) or iter(()))
    with pytest.raises(ValueError, match="no drawings"):
        commands.rasterize_file(str(file), tmp_path / "out", 28)
    assert {"cat", "dog"} <= set(seen[0].labels)


@pytest.mark.parametrize("write", [write_cifar, write_idx])
def test_pictures_in_the_working_directory_are_refused_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., Path]
) -> None:
    is_cifar = write is write_cifar
    pixels = noise(10, 3, 32, 32) if is_cifar else noise(10, 28, 28)
    file = write(tmp_path, "data_batch_1.bin" if is_cifar else "train", pixels, np.arange(10))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^{file.name} holds pictures already$"):
        commands.rasterize_file(file.name, tmp_path / "out.npy", 28)


def test_a_dataset_whose_only_drawing_is_held_out_is_shown(tmp_path: Path) -> None:
    none = SplitInfo(
        rows=0, counts=(0,), recognized=0, shards=(), group_counts="x.npy", group_counts_sha256=""
    )
    one = none.model_copy(update={"rows": 1, "counts": (1,)})
    manifest = Manifest(
        kind="strokes",
        categories=("cat",),
        split_percents=(98, 1, 1),
        splits={"train": none, "val": one, "test": none},
        sources=(),
        rejects=RejectsInfo(rows=0),
        plan="",
    )
    (tmp_path / "manifest.json").write_bytes(orjson.dumps(manifest.model_dump()))
    commands.inspect_dataset(str(tmp_path), tmp_path / "sheet.png", 3)
    assert (tmp_path / "sheet.png").exists()
