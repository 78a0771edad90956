"""`doodle-dist export`: a run's net as one file, safetensors or ONNX, checked, with a model card beside it.

ONNX takes the optional extra `export` (onnx, onnxruntime, onnxscript); nothing else of the package does.
"""

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from doodle_dist.config.load import to_toml
from doodle_dist.data import locations
from doodle_dist.errors import WorkFailedError
from doodle_dist.evaluation.model_card import model_card
from doodle_dist.run.checkpoints import SNAPSHOT_VERSION
from doodle_dist.run.snapshot import Snapshot, build_net, load_snapshot

FORMATS = {"safetensors": ".safetensors", "onnx": ".onnx"}
# What torch's exporter writes by itself; lower ones are translations that it doesn't promise.
OPSETS = range(18, 24)
_NEEDS = ("onnx", "onnxscript", "onnxruntime")
# Batches that the file is run with, to see that their size is free.
_CHECKED_BATCHES = (1, 2, 7)
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Exported:
    """What was written: the file, its card, and the largest difference of its outputs from the run's net."""

    file: str
    card: str
    bytes: int
    largest_difference: float
    checked: str


def export_run(
    run: str, format: str, output: Path | None = None, *, opset: int = 18, which: str = "best"
) -> Exported:
    """Write a run's snapshot as one file, named after the run unless ``output`` is given, with its card, ``.md`` more.

    Raises ValueError for a format, an opset or an extra that is missing, WorkFailedError where the file's outputs
    differ from the net's.
    """
    if format not in FORMATS:
        raise ValueError(f"--format {format!r}: should be {' or '.join(FORMATS)}")
    for other, suffix in FORMATS.items():
        if output is not None and output.suffix == suffix and other != format:
            raise ValueError(f"-o {output}: --format is {format}; give --format {other}, or another name")
    if format == "onnx":
        _check_onnx(opset)
    snapshot = load_snapshot(locations.absolute(run), which=which)
    output = output or Path(locations.basename(locations.absolute(run)) + FORMATS[format])
    output.parent.mkdir(parents=True, exist_ok=True)
    if format == "onnx":
        difference = _write_onnx(snapshot, output, opset)
        with_what = f"onnxruntime against torch, opset {opset}, batches of {_listed(_CHECKED_BATCHES)}"
    else:
        difference = _write_safetensors(snapshot, output)
        with_what = "read back and run against the run's net"
    if not difference <= _TOLERANCE:
        raise WorkFailedError(
            f"{output} differs from the net by {difference:g} (at most {_TOLERANCE:g} is rounding): don't use it"
        )
    card = output.with_name(f"{output.name}.md")
    card.write_text(model_card(snapshot, output.name, format, opset, difference), encoding="utf-8")
    return Exported(str(output), str(card), output.stat().st_size, difference, with_what)


def print_export(exported: Exported, *, as_json: bool) -> None:
    if as_json:
        print(orjson.dumps(asdict(exported)).decode())
        return
    print(f"{exported.file}  {exported.bytes:,} bytes")
    print(f"largest difference {exported.largest_difference:.2g} ({exported.checked})")
    print(exported.card)


def example_inputs(snapshot: Snapshot, count: int) -> dict[str, Tensor]:
    """Inputs of the snapshot's net by name, random but always the same."""
    random = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % len(snapshot.categories)
    pictures = torch.rand((count, snapshot.channels, snapshot.side, snapshot.side), generator=random) * 2 - 1
    match snapshot.kind:
        case "gan":
            latent = snapshot.generator_config.latent_dim
            return {"z": torch.randn((count, latent), generator=random), "label": labels}
        case "classifier":
            return {"picture": pictures}
        case "critic":
            return {"picture": pictures, "label": labels}


def output_name(snapshot: Snapshot) -> str:
    """What the net gives: pictures, or logits."""
    return "picture" if snapshot.kind == "gan" else "logits"


def metadata(snapshot: Snapshot) -> dict[str, str]:
    """What a file says of itself: all that is needed to build the net and to know what its numbers mean."""
    return {
        "format": "doodle_dist",
        "format_version": str(SNAPSHOT_VERSION),
        "kind": snapshot.kind,
        "categories": orjson.dumps(list(snapshot.categories)).decode(),
        "side": str(snapshot.side),
        "channels": str(snapshot.channels),
        "config": to_toml(snapshot.experiment),
        "weights_sha256": snapshot.sha256,
        "data_manifest_sha256": snapshot.data.get("manifest_sha256", ""),
    }


def _write_safetensors(snapshot: Snapshot, output: Path) -> float:
    tensors = {name: tensor.contiguous() for name, tensor in snapshot.net.state_dict().items()}
    output.write_bytes(save(tensors, metadata(snapshot)))
    again = build_net(snapshot.experiment, len(snapshot.categories), snapshot.side, snapshot.channels).eval()
    with safe_open(output, "pt") as file:
        again.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    inputs = example_inputs(snapshot, _CHECKED_BATCHES[-1])
    with torch.no_grad():
        return float((again(*inputs.values()) - snapshot.net(*inputs.values())).abs().max())


# --- ONNX -----------------------------------------------------------------------------------------------


def _check_onnx(opset: int) -> None:
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"--format onnx needs {_listed(missing)}: pip install 'doodle_dist[export]'")
    if opset not in OPSETS:
        raise ValueError(f"--opset {opset}: should be {OPSETS[0]} to {OPSETS[-1]}")


class _WithLabel(nn.Module):
    """A generator that doesn't see the label takes one all the same: every generator has the same inputs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        # Nothing is added; but an input that nothing reads would be left out.
        return self.net(z, label) + 0 * label.to(z.dtype).view(-1, 1, 1, 1)


def _write_onnx(snapshot: Snapshot, output: Path, opset: int) -> float:
    inputs = example_inputs(snapshot, 3)
    net = _WithLabel(snapshot.net) if snapshot.kind == "gan" else snapshot.net
    batch = torch.export.Dim("batch", min=1)
    with _quiet_exporter():
        program = torch.onnx.export(
            net.eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=[output_name(snapshot)],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            verbose=False,
        )
    assert program is not None
    model: Any = program.model_proto
    for key, value in metadata(snapshot).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    importlib.import_module("onnx").checker.check_model(model, full_check=True)
    output.write_bytes(model.SerializeToString())
    return max(_onnx_difference(snapshot, output, count) for count in _CHECKED_BATCHES)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """torch's exporter tells of its steps and of operators of packages that aren't here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _onnx_difference(snapshot: Snapshot, file: Path, count: int) -> float:
    """The largest difference between a file's outputs in onnxruntime and the net's in torch."""
    session = importlib.import_module("onnxruntime").InferenceSession(
        str(file), providers=["CPUExecutionProvider"]
    )
    inputs = example_inputs(snapshot, count)
    (there,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    with torch.no_grad():
        here = snapshot.net(*inputs.values())
    if tuple(there.shape) != tuple(here.shape):
        raise WorkFailedError(
            f"{file} gives {list(there.shape)} for a batch of {count}, torch {list(here.shape)}"
        )
    return float((torch.from_numpy(there) - here).abs().max())


def _listed(things: tuple[int, ...] | list[str]) -> str:
    *some, last = map(str, things)
    return f"{', '.join(some)} and {last}" if some else last
