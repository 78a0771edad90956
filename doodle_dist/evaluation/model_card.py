"""The model card beside an exported net: what it is, how it is run, what it was trained on, and whose that is."""

from collections.abc import Sequence

from doodle_dist.config.load import to_toml
from doodle_dist.data import locations
from doodle_dist.run.snapshot import Snapshot

_ATTRIBUTION = (
    "The drawings of *The Quick, Draw! Dataset* (https://github.com/googlecreativelab/quickdraw-dataset) are by "
    "Google, Inc., made available under CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). They were "
    "rasterised and learnt from; keep this attribution with the model."
)
_OTHER_PICTURES = (
    "The pictures are those of the sources named above, under the licences of their makers; name them with the "
    "model."
)
# Kinds of sources that hold other pictures than Quick, Draw!'s.
_OTHERS = {"idx", "cifar", "image"}

_USE = {
    "gan": "`z` float32 [N, {latent}] from {distribution}, `label` int64 [N] -> pictures float32 {picture} in [-1, 1], "
    "{shown}",
    "classifier": "`picture` float32 {picture} in [-1, 1], {shown} -> `logits` float32 [N, {categories}]; "
    "softmax gives probabilities",
    "critic": "`picture` float32 {picture} in [-1, 1], {shown}, `label` int64 [N] -> `logits` float32 [N], "
    "higher for real drawings",
}

_ONNX = """```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{file}")
(answer,) = session.run(None, {{{inputs}}})
```"""
_SAFETENSORS = """```python
import json
from doodle_dist.config.load import from_toml
from doodle_dist.run.snapshot import build_net
from safetensors import safe_open
with safe_open("{file}", "pt") as file:
    about, weights = file.metadata(), {{name: file.get_tensor(name) for name in file.keys()}}
categories = json.loads(about["categories"])
net = build_net(from_toml(about["config"]), len(categories), int(about["side"]), int(about["channels"]))
net.load_state_dict(weights)
net.eval()
```"""


def model_card(snapshot: Snapshot, file: str, format: str, opset: int, difference: float) -> str:
    """Markdown that goes with ``file``, with a head that model hubs read."""
    experiment, data = snapshot.experiment, snapshot.data
    kind = {"gan": "generator of a GAN", "classifier": "classifier", "critic": "critic"}[snapshot.kind]
    sources = data.get("sources", [])
    others = only_other_pictures(sources)
    manifest = data.get("manifest_sha256") or "not written down by the run"
    drawings = data.get("drawings")
    checked = f"in onnxruntime, opset {opset}, it" if format == "onnx" else "read back, it"
    lines = [
        "---",
        "library_name: doodle_dist",
        "license: apache-2.0",
        f"tags: [{'' if others else 'quickdraw, '}{snapshot.kind}, {experiment.preset or 'own-preset'}]",
        "---",
        f"# {file}",
        "",
        f"A {kind}, preset `{experiment.preset}` of doodle_dist, for {len(snapshot.categories)} categories of "
        f"{snapshot.side}×{snapshot.side} pictures with {snapshot.channels} channel(s).",
        "",
        "## Use",
        "",
        _use(snapshot),
        "",
        _ONNX.format(file=file, inputs=_numpy_inputs(snapshot))
        if format == "onnx"
        else _SAFETENSORS.format(file=file),
        "",
        f"Checked when it was written: {checked} differs from the run's net by at most {difference:.2g}.",
        "",
        "Labels, from 0: " + ", ".join(snapshot.categories) + ".",
        "",
        "## Trained on",
        "",
        f"- dataset: `{data.get('uri') or locations.public(experiment.data.uri)}`"
        + (f", {drawings:,} drawings" if drawings is not None else "")
        + (f", from sources of kind {', '.join(sources)}" if sources else ""),
        f"- its manifest.json: sha256 {manifest}",
        f"- drawings seen: {int(snapshot.metrics.get('drawings_seen', 0)):,}",
        f"- the snapshot's weights: sha256 {snapshot.sha256}",
        "",
        "## Metrics",
        "",
        *_metrics(snapshot),
        "",
        "## Licence and attribution",
        "",
        "The weights are under Apache-2.0, as doodle_dist is. "
        + (_OTHER_PICTURES if others else _ATTRIBUTION),
        "",
        "## Config",
        "",
        "```toml",
        to_toml(experiment).rstrip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def only_other_pictures(sources: Sequence[str]) -> bool:
    """Whether none of a dataset's kinds of sources holds Quick, Draw! drawings; not where none is known."""
    return bool(sources) and set(sources) <= _OTHERS


def _use(snapshot: Snapshot) -> str:
    config = snapshot.experiment.model.generator
    return _USE[snapshot.kind].format(
        picture=f"[N, {snapshot.channels}, {snapshot.side}, {snapshot.side}]",
        shown="white ink on black" if snapshot.channels == 1 else "RGB",
        categories=len(snapshot.categories),
        latent=config.latent_dim if config else 0,
        distribution="U[-1, 1]" if config and config.latent_distribution == "uniform" else "N(0, 1)",
    )


def _numpy_inputs(snapshot: Snapshot) -> str:
    config = snapshot.experiment.model.generator
    shape = f"(4, {snapshot.channels}, {snapshot.side}, {snapshot.side})"
    size = f"4, {config.latent_dim if config else 0}"
    drawn = f"randn({size})"
    if config and config.latent_distribution == "uniform":
        drawn = f"uniform(-1, 1, ({size}))"
    z = f'"z": np.random.{drawn}.astype("f")'
    parts = {
        "gan": [z, '"label": np.zeros(4, np.int64)'],
        "classifier": [f'"picture": np.zeros({shape}, "f")'],
        "critic": [f'"picture": np.zeros({shape}, "f")', '"label": np.zeros(4, np.int64)'],
    }
    return ", ".join(parts[snapshot.kind])


def _metrics(snapshot: Snapshot) -> list[str]:
    """The checkpoint's own, but not of single categories."""
    clock = ("drawings_seen", "step")
    shown = {
        name: value
        for name, value in sorted(snapshot.metrics.items())
        if name not in clock and not name.startswith("val_category/")
    }
    if not shown:
        return ["The run was not judged when this snapshot was made."]
    return ["| metric, on held-out drawings | value |", "|---|---|"] + [
        f"| {name} | {'not finite' if value is None else f'{value:.4f}'} |" for name, value in shown.items()
    ]
