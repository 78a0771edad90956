"""Exported nets: the file computes what the run's net does, and its card says what it is."""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from safetensors import safe_open

from doodle_dist.config.load import from_toml
from doodle_dist.errors import WorkFailedError
from doodle_dist.evaluation import export
from doodle_dist.evaluation.export import OPSETS, Exported, export_run
from doodle_dist.evaluation.model_card import model_card
from doodle_dist.run.snapshot import build_net, load_snapshot
from tests.runs import save_run

NAMES = ("cat", "dog", "fish")
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="the extra `export` is not installed",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    save_run(folder / "judge", "classifier-small", NAMES, score=0.5)
    save_run(folder / "gan", "doodle-gan-small", NAMES)
    # Its convolutions have groups.
    save_run(folder / "blind", "doodle-gan", NAMES, settings=("model.generator.conditioning=none",))
    return folder


@pytest.mark.parametrize("name", ["judge", "gan"])
def test_safetensors_hold_all_that_builds_the_net(runs: Path, tmp_path: Path, name: str) -> None:
    done = export_run(str(runs / name), "safetensors", tmp_path / "net.safetensors")
    assert done.largest_difference == 0
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        about, names = file.metadata(), set(file.keys())
    assert about["format_version"] == "1"
    assert tuple(orjson.loads(about["categories"])) == NAMES
    snapshot = load_snapshot(str(runs / name))
    assert from_toml(about["config"]) == snapshot.experiment
    net = build_net(from_toml(about["config"]), 3, int(about["side"]), int(about["channels"]))
    assert names == set(net.state_dict())


def test_no_name_is_cut_and_no_file_beside_it_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("v1.2", "v1.3"):
        save_run(tmp_path / "runs" / name, "classifier-small", NAMES)
        done = export_run(f"runs/{name}", "safetensors")
        assert (done.file, done.card) == (f"{name}.safetensors", f"{name}.safetensors.md")
    (tmp_path / "README.md").write_text("of something else")
    export_run("runs/v1.2", "safetensors", Path("README.safetensors"))
    assert (tmp_path / "README.md").read_text() == "of something else"
    monkeypatch.chdir(tmp_path / "runs" / "v1.2")
    assert export_run(".", "safetensors").file == "v1.2.safetensors"


# Exported once for all tests that look at the file: each takes seconds.
OPSET_OF = {"judge": OPSETS[-1], "gan": OPSETS[0], "blind": OPSETS[0]}


@pytest.fixture(scope="module")
def onnx_of(runs: Path) -> Callable[[str], Exported]:
    @cache
    def of(name: str) -> Exported:
        return export_run(str(runs / name), "onnx", runs / f"{name}.onnx", opset=OPSET_OF[name])

    return of


@pytest.mark.slow
@needs_onnx
@pytest.mark.parametrize("name", list(OPSET_OF))
def test_onnx_computes_the_same_for_any_batch(
    runs: Path, onnx_of: Callable[[str], Exported], name: str
) -> None:
    import onnxruntime

    done = onnx_of(name)
    assert done.largest_difference < 1e-5
    session: Any = onnxruntime.InferenceSession(done.file, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    assert names == (["picture"] if name == "judge" else ["z", "label"])
    snapshot = load_snapshot(str(runs / name))
    for count in (1, 33):
        x = torch.rand(count, 1, 28, 28) * 2 - 1 if name == "judge" else torch.randn(count, 64)
        inputs = (x,) if name == "judge" else (x, torch.arange(count) % 3)
        (answer,) = session.run(None, {n: t.numpy() for n, t in zip(names, inputs, strict=True)})
        with torch.no_grad():
            assert np.allclose(answer, snapshot.net(*inputs).numpy(), atol=1e-4)
    about = session.get_modelmeta().custom_metadata_map
    assert orjson.loads(about["categories"]) == list(NAMES)
    assert about["weights_sha256"] == snapshot.sha256
    if name == "blind":
        z = np.zeros((3, 64), np.float32)
        (answer,) = session.run(None, {"z": z, "label": np.arange(3)})
        assert np.array_equal(answer[0], answer[2]), "it takes a label, and doesn't look at it"


@needs_onnx
def test_the_opset_is_the_one_asked_for(
    runs: Path, onnx_of: Callable[[str], Exported], tmp_path: Path
) -> None:
    import onnx

    for name in ("judge", "gan"):
        model = onnx.load(onnx_of(name).file)
        versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        assert versions == [OPSET_OF[name]]
    for opset in (OPSETS[0] - 1, OPSETS[-1] + 1):
        with pytest.raises(ValueError, match=rf"--opset {opset}: should be 18 to {OPSETS[-1]}"):
            export_run(str(runs / "judge"), "onnx", tmp_path / "net.onnx", opset=opset)


@pytest.mark.slow
@needs_onnx
def test_a_file_that_differs_is_refused(
    onnx_of: Callable[[str], Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    # What the exporter made of other weights; an export of its own would take seconds.
    model = onnx.load(onnx_of("gan").file)
    del model.metadata_props[:]
    save_run(tmp_path / "other", "doodle-gan-small", NAMES, seen=77)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: SimpleNamespace(model_proto=model))
    with pytest.raises(WorkFailedError, match=r"net\.onnx differs from the net by"):
        export_run(str(tmp_path / "other"), "onnx", tmp_path / "net.onnx")


def test_without_the_extra_one_line_says_what_to_install(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None if name != "onnx" else object())
    with pytest.raises(ValueError, match=r"onnxscript and onnxruntime: pip install 'doodle_dist\[export\]'"):
        export_run(str(runs / "judge"), "onnx", tmp_path / "net.onnx")


def test_wrong_requests_are_one_line(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--format 'pickle': should be safetensors or onnx"):
        export_run(str(runs / "judge"), "pickle")
    with pytest.raises(ValueError, match="has no snapshot"):
        export_run(str(tmp_path), "safetensors")
    with pytest.raises(ValueError, match=r"net\.onnx: --format is safetensors; give --format onnx, or"):
        export_run(str(runs / "judge"), "safetensors", tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_the_card_names_data_metrics_licence_and_every_setting(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "judge", "classifier-small", NAMES, score=0.5)
    meta = orjson.loads((folder / "meta.json").read_bytes())
    data = {"uri": "s3://b/data", "manifest_sha256": "ab" * 32, "sources": ["ndjson"], "drawings": 12_345}
    meta["metrics"] |= {"val/top1": 0.75, "val_category/cat": 0.5}
    (folder / "meta.json").write_bytes(orjson.dumps(meta | {"data": data}))
    export_run(str(tmp_path / "judge"), "safetensors", tmp_path / "out" / "net.safetensors")
    card = (tmp_path / "out" / "net.safetensors.md").read_text()
    for said in (
        "license: apache-2.0",
        "tags: [quickdraw, classifier, classifier-small]",
        "Labels, from 0: cat, dog, fish.",
        "`s3://b/data`, 12,345 drawings, from sources of kind ndjson",
        f"sha256 {'ab' * 32}",
        "| val/top1 | 0.7500 |",
        "Google, Inc., made available under CC BY 4.0",
        f"the snapshot's weights: sha256 {load_snapshot(str(folder)).sha256}",
    ):
        assert said in card, said
    assert "val_category" not in card
    config = re.search(r"```toml\n(.*?)```", card, re.DOTALL)
    assert config is not None
    assert from_toml(config[1]) == load_snapshot(str(folder)).experiment
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    found: dict[str, Any] = {}
    exec(code[1].replace('"net.safetensors"', f"{str(tmp_path / 'out' / 'net.safetensors')!r}"), found)
    picture = torch.rand(2, 1, 28, 28) * 2 - 1
    with torch.no_grad():
        assert torch.equal(found["net"](picture), load_snapshot(str(folder)).net(picture))


def test_the_card_says_of_a_metric_that_it_was_not_finite(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "judge", "classifier-small", NAMES, score=float("nan"))
    assert "| score | not finite |" in model_card(load_snapshot(str(folder)), "net", "safetensors", 18, 0.0)


def test_other_pictures_are_not_called_googles(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "judge", "classifier-small", NAMES)
    meta = orjson.loads((folder / "meta.json").read_bytes())
    (folder / "meta.json").write_bytes(orjson.dumps(meta | {"data": {"sources": ["cifar"]}}))
    export_run(str(folder), "safetensors", tmp_path / "net.safetensors")
    card = (tmp_path / "net.safetensors.md").read_text()
    assert "Google" not in card
    assert "tags: [classifier, classifier-small]" in card
    assert "under the licences of their makers" in card


def test_the_card_of_a_net_for_colour_pictures_speaks_of_no_ink(runs: Path) -> None:
    for name in ("gan", "judge"):
        snapshot = load_snapshot(str(runs / name))
        assert "white ink on black" in model_card(snapshot, "net", "safetensors", 18, 0.0)
        card = model_card(replace(snapshot, channels=3), "net", "safetensors", 18, 0.0)
        assert "in [-1, 1], RGB" in card
        assert "ink" not in card.partition("## Trained on")[0]
