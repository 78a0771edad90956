"""What the Triton rasteriser asks of a machine, seen without a GPU; where triton is not installed, without it too."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch


@pytest.fixture
def raster_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, on a stand-in for triton where there is none; forgotten in the end."""
    if importlib.util.find_spec("triton") is None:
        language = SimpleNamespace(constexpr=int)
        triton = SimpleNamespace(
            jit=lambda kernel: kernel,
            language=language,
            knobs=SimpleNamespace(runtime=SimpleNamespace(interpret=False)),
        )
        monkeypatch.setitem(sys.modules, "triton", triton)
        monkeypatch.setitem(sys.modules, "triton.language", language)
    else:
        monkeypatch.setattr("triton.knobs.runtime.interpret", False)
    name = "doodle_dist.data.raster_cuda"
    before = sys.modules.pop(name, None)
    yield importlib.import_module(name)
    del sys.modules[name]
    if before is not None:
        sys.modules[name] = before


def program(folder: Path, name: str) -> None:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def no_compiler(raster_cuda: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU, as torch sees it, and with Python's headers, whose PATH is an empty folder."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    headers = tmp_path / "headers"
    headers.mkdir()
    (headers / "Python.h").touch()
    monkeypatch.setattr(raster_cuda.sysconfig, "get_path", lambda *_: str(headers))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)


def test_a_gpu_without_a_c_compiler_is_refused_before_anything_starts(
    raster_cuda: ModuleType, no_compiler: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an image whose compilers were purged. At the first kernel it would be a RuntimeError, tried again."""
    with pytest.raises(
        ValueError, match=r"data\.rasterize=device: .*no compiler .*allowed here: worker, tasks"
    ):
        raster_cuda.check_device(torch.device("cuda"), 28)
    monkeypatch.setenv("CC", "gcc-14")
    program(tmp_path, "gcc")
    with pytest.raises(ValueError, match="no compiler"):
        raster_cuda.check_device(torch.device("cuda"), 28)
    program(tmp_path, "gcc-14")
    raster_cuda.check_device(torch.device("cuda"), 28)
    monkeypatch.delenv("CC")
    raster_cuda.check_device(torch.device("cuda"), 28)


def test_a_python_without_its_headers_is_refused_likewise(
    raster_cuda: ModuleType, no_compiler: None, tmp_path: Path
) -> None:
    program(tmp_path, "gcc")
    (tmp_path / "headers" / "Python.h").unlink()
    with pytest.raises(ValueError, match=r"there is no .*headers/Python\.h .*allowed here: worker, tasks"):
        raster_cuda.check_device(torch.device("cuda"), 28)


def test_data_rasterize_names_the_compiler_too(
    raster_cuda: ModuleType, no_compiler: None, tmp_path: Path
) -> None:
    from doodle_dist.data.commands import rasterize_file

    with pytest.raises(ValueError, match=r"--device cuda: .*no compiler.*allowed: cpu"):
        rasterize_file("drawings.ndjson", tmp_path / "out.npy", 28, "cuda")


def test_bench_raster_has_no_row_of_a_gpu_where_triton_cannot_start(
    raster_cuda: ModuleType, no_compiler: None
) -> None:
    from doodle_dist.bench.raster import measure_gpu

    assert measure_gpu(np.zeros(0, np.uint8), np.zeros(1, np.int32)) is None
