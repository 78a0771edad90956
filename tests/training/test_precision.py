"""Which precision `auto` means where."""

import pytest
import torch

from doodle_dist.training.precision import Precision, autocast_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("precision", "has_amx", "expected"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, None),
        ("fp32", True, None),
        ("bf16", False, torch.bfloat16),
    ],
)
def test_on_a_cpu(
    precision: str, has_amx: bool, expected: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_amx})
    assert autocast_dtype(precision, CPU) == expected


@pytest.mark.parametrize(("has_it", "expected"), [(True, torch.bfloat16), (False, None)])
def test_on_a_gpu(has_it: bool, expected: torch.dtype | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda *, including_emulation: has_it or including_emulation
    )
    assert autocast_dtype("auto", GPU) == expected
    assert autocast_dtype("fp32", GPU) is None


def test_a_cpu_of_another_kind_has_no_such_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "arm64"})
    assert autocast_dtype("auto", CPU) is None


@pytest.mark.parametrize(
    ("setting", "device", "kept"), [("fp32", GPU, False), ("fp32", CPU, True), ("auto", GPU, True)]
)
def test_fp32_is_that_in_a_gpus_convolutions_too(
    setting: str, device: torch.device, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    Precision(setting, device)
    assert torch.backends.cudnn.allow_tf32 is kept
    Precision("auto", GPU)
    assert torch.backends.cudnn.allow_tf32, "of the next trial in this process"
