"""`doodle-dist sample`: a trained generator's drawings as a grid, as files or as an array.

The latent of a drawing follows from the seed, its category and its number in it alone: more drawings, or
other categories beside it, leave it as it is. A generator that doesn't see the category draws any: its drawings
are filed under that name, and none can be asked for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from doodle_dist import log
from doodle_dist.config.model import GeneratorConfig
from doodle_dist.data import locations, storage
from doodle_dist.data.categories import unknown_category
from doodle_dist.data.order import step_seed
from doodle_dist.evaluation.drawings import plan_drawings
from doodle_dist.evaluation.features import load_reader
from doodle_dist.evaluation.neighbours import nearest_drawings, over_nearest
from doodle_dist.models.latents import draw_latents
from doodle_dist.pictures import named_rows, png, to_pixels
from doodle_dist.run.snapshot import ANY, Snapshot, best_device, load_snapshot

_BATCH = 256
# Latents are drawn so many at a time, each block from a seed of its own.
_BLOCK = 256
# A larger grid is neither looked at nor held in memory.
GRID_LIMIT = 20_000
_COLUMNS = 16
_MAX_SEED, _MAX_TRUNCATION = 2**63 - 1, 4.0
_SHOWS_PROGRESS = 5_000
# Training drawings that are looked at for the nearest: a random part of the dataset, as prepare shuffles it.
_COMPARED = 200_000


def latents_of(
    config: GeneratorConfig,
    label: int,
    count: int,
    *,
    seed: int,
    truncation: float | None = None,
    first: int = 0,
) -> Tensor:
    """z [count, latent_dim] of the drawings ``first``, ``first + 1``, … of a category, on the CPU."""
    blocks = range(first // _BLOCK, -(-(first + count) // _BLOCK))
    drawn = [
        draw_latents(config, _BLOCK, torch.Generator().manual_seed(step_seed(seed, block, label)), truncation)
        for block in blocks
    ]
    at = first - blocks.start * _BLOCK
    return torch.cat(drawn)[at : at + count]


def generate(
    snapshot: Snapshot, labels: Tensor, seed: int, truncation: float | None = None, first: int = 0
) -> Tensor:
    """One drawing for each label [N]: float [N, C, H, W] in [-1, 1], on the snapshot's device.

    The k-th of a label is the category's drawing ``first + k``. The same for the same seed on one device;
    in batches of another size a network's rounding differs in the last digits.
    """
    net, config = snapshot.generator, snapshot.generator_config
    latents = torch.empty(len(labels), config.latent_dim)
    for label in torch.unique(labels).tolist():
        mine = labels == label
        latents[mine] = latents_of(
            config, label, int(mine.sum()), seed=seed, truncation=truncation, first=first
        )
    device = next(net.parameters()).device
    parts = zip(latents.split(_BATCH), labels.split(_BATCH), strict=True)
    with torch.no_grad():
        return torch.cat([net(z.to(device), y.to(device)) for z, y in parts])


def stream_samples(
    snapshot: Snapshot,
    labels_by_name: Mapping[str, int],
    count: int,
    *,
    seed: int = 0,
    truncation: float | None = None,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """(name, uint8 [n, C, H, W]) until each of ``labels_asked_for`` has had ``count`` drawings, in its turn.

    However many there are, no more than a batch is held.
    """
    for name, label in labels_by_name.items():
        for first in range(0, count, _BATCH):
            labels = torch.full((min(_BATCH, count - first),), label)
            yield name, to_pixels(generate(snapshot, labels, seed, truncation, first))


def labels_asked_for(snapshot: Snapshot, wanted: Sequence[str] = ()) -> dict[str, int]:
    """The label that draws each category asked for, all for none; "any" alone where the generator doesn't see it.

    Raises ValueError for a category that the run doesn't know, and for one that the generator doesn't see.
    """
    if not snapshot.draws_by_category:
        if wanted:
            raise ValueError(
                f"--categories: {snapshot.uri} is of a generator that doesn't see the category; leave out "
                "--categories"
            )
        return {ANY: 0}
    for name in wanted:
        if name not in snapshot.categories:
            raise ValueError(f"--categories: {unknown_category(name, snapshot.categories)}")
    return {name: snapshot.categories.index(name) for name in wanted or snapshot.categories}


def check_draw(count: int, seed: int, truncation: float | None) -> None:
    """Raises ValueError for numbers that ask for no latents."""
    if count < 1:
        raise ValueError(f"-n {count}: should be at least 1")
    if not 0 <= seed <= _MAX_SEED:
        raise ValueError(f"--seed {seed}: should be 0 to {_MAX_SEED}")
    if truncation is not None and not 0 < truncation <= _MAX_TRUNCATION:
        raise ValueError(
            f"--truncation {truncation:g}: should be above 0 and at most {_MAX_TRUNCATION:g}, "
            "the largest |component| of a latent"
        )


def write_samples(
    run: str,
    *,
    categories: tuple[str, ...] = (),
    count: int = 8,
    seed: int = 0,
    truncation: float | None = None,
    output: Path,
    which: str = "best",
    judge: str = "",
    data: str = "",
) -> Path:
    """Write ``count`` samples per category to ``output``, or of any (labels_asked_for); its name says how.

    ``x.png``: one grid, a row per category, ink on paper; with a ``judge``, neighbours under each row: the
    training drawings of the same category whose features, as the judge sees them, are nearest, of 200,000 at most that
    are looked at. ``x.npy``: uint8
    [N, H, W] or [N, H, W, 3], category after category, and ``x.json`` that says which. A folder (a name without
    suffix): ``<category>/<number>.png`` each, which `data prepare` reads. The latter two hold the pixels that
    training has, white ink on black, and are written as they are drawn, in bounded memory.

    Raises ValueError where a run is of the wrong kind, a category unknown, or a number not allowed, and where an
    earlier call's pictures would be left among the new ones of a category.
    """
    check_draw(count, seed, truncation)
    suffix = "" if output.is_dir() else output.suffix
    if suffix not in (".png", ".npy", ""):
        raise ValueError(f"-o {output}: should end with .png (a grid) or .npy, or be a folder for many PNGs")
    if judge and suffix != ".png":
        raise ValueError(f"-o {output}: --neighbours are shown in a grid, a name ending with .png")
    snapshot = load_snapshot(locations.absolute(run), which=which, device=best_device())
    asked = labels_asked_for(snapshot, categories)
    if suffix == ".png":
        _check_grid(count, count * len(asked))
    elif suffix == "":
        _check_folders(output, asked, count)
    drawn = stream_samples(snapshot, asked, count, seed=seed, truncation=truncation)
    with _progress(drawn, count * len(asked)) as batches:
        if suffix == ".npy":
            _write_array(output, batches, snapshot, count * len(asked))
            about: dict[str, object] = {
                "categories": list(asked),
                "drawings_per_category": count,
                "seed": seed,
                "truncation": truncation,
                "snapshot": snapshot.uri,
                "sha256": snapshot.sha256,
            }
            output.with_suffix(".json").write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2))
        elif suffix == "":
            _write_folder(output, batches)
        else:
            neighbours = (
                _Neighbours(snapshot, locations.absolute(judge), data and locations.absolute(data))
                if judge
                else None
            )
            output.write_bytes(png(named_rows(_rows(batches, neighbours), columns=_COLUMNS)))
    return output


def _check_grid(count: int, total: int) -> None:
    if total > GRID_LIMIT:
        raise ValueError(
            f"-n {count}: a grid of {total:,} drawings is too large to look at (at most {GRID_LIMIT:,}); write an "
            "array, -o samples.npy, or a folder of PNGs, -o samples"
        )


def _check_folders(output: Path, names: Iterable[str], count: int) -> None:
    """Raise ValueError for a name that can be no folder's, or whose folder has pictures that would be left in it."""
    for name in names:
        if "/" in name or name.startswith("."):
            raise ValueError(f"category {name!r} can't be a folder's name; write an array, -o samples.npy")
        there = sorted(file.name for file in (output / name).glob("*.png"))
        if left := [file for file in there if not _is_written(file, count)]:
            raise ValueError(
                f"-o {output}: {output / name} has other pictures already, such as {left[0]}, which would be left "
                "among the new ones; give another folder, or delete that one"
            )


def _rows(
    batches: Iterator[tuple[str, NDArray[np.uint8]]], neighbours: "_Neighbours | None"
) -> list[tuple[str, NDArray[np.uint8]]]:
    whole: dict[str, list[NDArray[np.uint8]]] = {}
    for name, pixels in batches:
        whole.setdefault(name, []).append(pixels)
    rows = [(name, np.concatenate(parts)) for name, parts in whole.items()]
    if not neighbours:
        return rows
    pairs = zip(rows, neighbours.of(rows), strict=True)
    return [line for (name, drawn), nearest in pairs for line in over_nearest(name, drawn, nearest)]


def _write_array(
    output: Path, batches: Iterator[tuple[str, NDArray[np.uint8]]], snapshot: Snapshot, total: int
) -> None:
    """An .npy file whose pictures are appended: numpy's own `save` would need them all at once."""
    side, channels = snapshot.side, snapshot.channels
    shape = (total, side, side) if channels == 1 else (total, side, side, channels)
    with storage.replacing(output) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for _, pixels in batches:
            file.write(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).tobytes())


def _write_folder(output: Path, batches: Iterator[tuple[str, NDArray[np.uint8]]]) -> None:
    written: dict[str, int] = {}
    for name, pixels in batches:
        folder = output / name
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pixels.transpose(0, 2, 3, 1):
            number = written[name] = written.get(name, 0) + 1
            plane = picture[..., 0] if picture.shape[-1] == 1 else picture
            (folder / _file_name(number - 1)).write_bytes(png(plane))


def _file_name(number: int) -> str:
    return f"{number:07d}.png"


def _is_written(file: str, count: int) -> bool:
    """Whether it is the name of one of so many drawings."""
    number = file.removesuffix(".png")
    return number.isdigit() and int(number) < count and file == _file_name(int(number))


@contextmanager
def _progress(
    batches: Iterator[tuple[str, NDArray[np.uint8]]], total: int
) -> Iterator[Iterator[tuple[str, NDArray[np.uint8]]]]:
    """The same batches, counted on stderr where there are many drawings."""
    columns = (
        TextColumn("drawing"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console, is_hidden = Console(stderr=True), total < _SHOWS_PROGRESS or log.is_json()
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as bar:
        task = bar.add_task("", total=total, rate="")

        def counted() -> Iterator[tuple[str, NDArray[np.uint8]]]:
            for name, pixels in batches:
                yield name, pixels
                speed = bar.tasks[0].speed
                bar.update(task, advance=len(pixels), rate=f"{speed:,.0f}/s" if speed else "")

        yield counted()


class _Neighbours:
    """Nearest training drawings in a judge's features."""

    def __init__(self, snapshot: Snapshot, judge: str, data: str) -> None:
        self.judge = load_reader(judge, (snapshot.side, snapshot.channels)).net
        self.uri = data or snapshot.experiment.data.uri
        self.snapshot = snapshot

    def of(self, rows: list[tuple[str, NDArray[np.uint8]]]) -> list[NDArray[np.uint8]]:
        """The nearest training drawing to each picture of (name, uint8 [N, C, H, W]): of that category, or any."""
        names, labels = self.snapshot.categories, None
        if self.snapshot.draws_by_category:
            names = tuple(sorted(name for name, _ in rows))
            labels = np.repeat([names.index(name) for name, _ in rows], [len(drawn) for _, drawn in rows])
        plan = plan_drawings(self.uri, "train", names)
        drawn = np.concatenate([drawn for _, drawn in rows])
        limit = min(plan.rows, _COMPARED)
        log.say(f"looking for the nearest of {limit:,} training drawings")
        found = nearest_drawings(plan, limit, self.judge, drawn, labels).pictures
        return np.split(found, np.cumsum([len(row) for _, row in rows])[:-1])
