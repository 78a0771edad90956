"""What a run looked like on its way: its curves as a picture, its sample grids as a GIF."""

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from doodle_dist.data import locations, storage

_FRAME_MS, _LAST_FRAME_MS = 200, 2000
_CAPTION_PX = 18
_MARKED_POINTS = 30


@dataclass(frozen=True)
class Curve:
    """A scalar against drawings seen."""

    drawings: list[int]
    values: list[float]


def read_curves(run: str) -> dict[str, Curve]:
    """Every scalar of a run, local or in an object store, by name. Raises ValueError where there are none."""
    where = locations.join(run, "tensorboard")
    if not storage.exists(where):
        raise ValueError(f"{run} has no curves: it is no run, or it has not logged yet")
    with tempfile.TemporaryDirectory(prefix="doodle-dist-history-") as copy:
        folder = where
        if "://" in where:
            folder = copy
            for file in storage.list_files(where):
                (Path(copy) / locations.basename(file.uri)).write_bytes(storage.read_bytes(file.uri))
        events = EventAccumulator(folder, size_guidance={"scalars": 0})
        events.Reload()
        curves = {}
        for name in events.Tags()["scalars"]:
            points = events.Scalars(name)
            curves[name] = Curve([p.step for p in points], [p.value for p in points])
    if not curves:
        raise ValueError(f"{run} has no curves: it is no run, or it has not logged yet")
    return curves


# Title, curves on the left axis, curves on the right one. A panel without any of its curves is left out.
Panel = tuple[str, dict[str, str], dict[str, str]]
PANELS: tuple[Panel, ...] = (
    (
        "losses",
        {"loss/critic": "critic", "loss/generator": "generator", "loss/classifier": "classifier"},
        {"gan/noise_sigma": "noise σ"},
    ),
    (
        "critic: told right",
        {
            "critic/accuracy_on_real": "real",
            "critic/accuracy_on_fake": "generated",
            "train/accuracy": "training",
        },
        {},
    ),
    (
        "critic: mean output",
        {"critic/mean_on_real": "on real", "critic/mean_on_fake": "on generated"},
        {},
    ),
    (
        "classifier: read right",
        {
            "train/top1": "top-1, training",
            "val/top1": "top-1, held out",
            "val/balanced": "balanced accuracy, held out",
        },
        {},
    ),
    (
        "judged",
        {
            "judge/conditional_accuracy": "requested category read",
            "judge/diversity_ratio": "diversity, generated over real",
            "judge/diversity_ratio_lowest": "the same, lowest category",
            "val/balanced_accuracy": "balanced accuracy of the critic",
        },
        {"judge/frechet_distance": "Fréchet distance"},
    ),
)


def curves_picture(curves: dict[str, Curve], title: str) -> bytes:
    """PNG of a run's losses with the noise level beside them, what the critic tells right, and the judge."""
    panels = [panel for panel in PANELS if any(name in curves for name in panel[1])]
    figure = Figure(figsize=(4.2 * max(len(panels), 1), 3.4), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
    for axis, (name, left, right) in zip(axes, panels, strict=False):
        _draw(axis, curves, left, "-")
        axis.set(xlabel="thousand drawings seen")
        axis.set_title(name, fontsize=9)
        handles, labels = axis.get_legend_handles_labels()
        if any(other in curves and any(curves[other].values) for other in right):
            beside = axis.twinx()
            _draw(beside, curves, right, ":", color="grey")
            more = beside.get_legend_handles_labels()
            handles, labels = handles + more[0], labels + more[1]
        axis.legend(handles, labels, fontsize=7)
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()


def _draw(
    axis: Axes, curves: dict[str, Curve], names: dict[str, str], style: str, color: str | None = None
) -> None:
    for name, label in names.items():
        if name in curves:
            thousands = [seen / 1000 for seen in curves[name].drawings]
            # A curve of one point has no line to be seen by.
            marker = "." if len(thousands) <= _MARKED_POINTS else None
            axis.plot(
                thousands, curves[name].values, style, marker=marker, label=label, color=color, linewidth=1.2
            )


def write_curves(run: str, output: Path) -> Path:
    """`doodle-dist curves`."""
    output.write_bytes(curves_picture(read_curves(locations.absolute(run)), locations.public(run)))
    return output


def sample_grids(uri: str) -> list[tuple[int, str]]:
    """The grids of a run's way, each with the drawings that it had seen, in that order; not other pictures there."""
    files = storage.list_files(locations.join(uri, "samples"), (".png",), missing_ok=True)
    named = [(locations.basename(file.uri).partition(".")[0], file.uri) for file in files]
    return sorted((int(name), where) for name, where in named if name.isdecimal())


def write_animation(run: str, output: Path) -> Path:
    """`doodle-dist animate`: the sample grids of a run as a GIF, each with the drawings seen.

    Raises ValueError where the run has no grids.
    """
    grids = sample_grids(locations.absolute(run))
    if not grids:
        raise ValueError(f"{run} has no sample grids: it is no GAN's run, or has not drawn one yet")
    frames = [_frame(storage.read_bytes(uri), seen) for seen, uri in grids]
    output.write_bytes(gif(frames))
    return output


def _frame(png: bytes, drawings: int) -> Image.Image:
    """A grid as it is drawn, with a line under it."""
    picture = Image.open(io.BytesIO(png))
    sheet = Image.new(picture.mode, (picture.width, picture.height + _CAPTION_PX), 0)
    sheet.paste(picture)
    text = f"{drawings:,} drawings"
    place = (4, picture.height + _CAPTION_PX // 2)
    white = 255 if picture.mode == "L" else (255, 255, 255)
    ImageDraw.Draw(sheet).text(place, text, fill=white, font=ImageFont.load_default(size=12), anchor="lm")
    return sheet


def gif(frames: Sequence[Image.Image], durations_ms: Sequence[int] = ()) -> bytes:
    """An endless GIF; without durations of its own it rests at its last frame."""
    sink = io.BytesIO()
    durations = list(durations_ms) or [_FRAME_MS] * (len(frames) - 1) + [_LAST_FRAME_MS]
    frames[0].save(sink, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return sink.getvalue()
