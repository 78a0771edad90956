"""What the `doodle-dist data` commands do: check the request, show progress, print the result."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast, get_args

import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from doodle_dist import log
from doodle_dist.data import locations
from doodle_dist.data.categories import OFFICIAL_345, Categories, parse_categories
from doodle_dist.data.manifest import load_manifest, verify
from doodle_dist.data.records import PICTURES, Crop, PictureOptions
from doodle_dist.data.schema import Manifest, binary_buffers
from doodle_dist.data.sources import categories_of, find_sources, plan_chunks, read_chunk


def fetch_files(to: str, categories: str, kind: str, base_url: str) -> None:
    """`data fetch`."""
    from doodle_dist.data import fetch

    if kind not in get_args(fetch.Format):
        raise ValueError(f"--format {kind!r}: should be one of {', '.join(get_args(fetch.Format))}")
    began = time.perf_counter()
    with _bar() as bar:
        task = bar.add_task("fetching", total=None, rate="")

        def show(now: fetch.Progress) -> None:
            rate = now.bytes / 1e6 / max(time.perf_counter() - began, 1e-9)
            bar.update(task, completed=now.files, total=now.files_total, rate=f"{rate:,.1f} MB/s")

        files = fetch.fetch(
            parse_categories(categories),
            cast("fetch.Format", kind),
            destination(to),
            base_url=base_url or fetch.BASE_URL,
            progress=show,
        )
    print(f"{to}: {len(files):,} files, {sum(file.size for file in files) / 1e6:,.1f} MB")


def synthesize_files(to: str, drawings: int, categories: int, seed: int) -> None:
    """`data synth`."""
    from doodle_dist.data.synthetic import synthesize

    with _bar() as bar:
        task = bar.add_task("drawing", total=drawings, rate="")
        files = synthesize(
            drawings,
            categories,
            seed,
            destination(to),
            lambda done, _: bar.update(task, completed=done),
        )
    print(f"{to}: {drawings:,} drawings in {len(files)} files")


def prepare_dataset(
    source: list[str],
    to: str,
    *,
    categories: str = "",
    recognized_only: bool = False,
    shards: int | None = None,
    split: str = "98,1,1",
    row_group: int | None = None,
    max_rejects: float = 0.001,
    pictures: PictureOptions | None = None,
    local: bool = False,
    wait_s: float = 0.0,
    as_json: bool = False,
    debug: bool = False,
) -> Manifest:
    """`data prepare`."""
    from doodle_dist.data.shards import PrepareRequest, prepare
    from doodle_dist.data.shards import Progress as Stage
    from doodle_dist.ray_cluster import Need, check_resources, connect

    wanted = parse_categories(categories, None) if categories else None  # image sets have names of their own
    sources = find_sources([locations.absolute(uri) for uri in source], wanted, pictures, warn=log.say)
    request = PrepareRequest(
        sources=tuple(sources),
        categories=categories_of(sources, wanted),
        to=destination(to),
        split_percents=parse_split(split),
        recognized_only=recognized_only,
        shards=shards,
        row_group_rows=row_group,
        max_rejects=max_rejects,
    )
    need = Need(workers=0, cpus_per_worker=0, gpus_per_worker=0)
    connect(need, local=local, debug=debug)
    check_resources(need, wait_s)
    began = time.perf_counter()
    with _bar(quiet=as_json) as bar:
        tasks: dict[str, TaskID] = {}
        since: dict[str, float] = {}

        def show(stage: Stage) -> None:
            if stage.stage not in tasks:
                tasks[stage.stage] = bar.add_task(stage.stage, total=None, rate="")
                since[stage.stage] = time.perf_counter()
            rate = stage.records / max(time.perf_counter() - since[stage.stage], 1e-9)
            bar.update(
                tasks[stage.stage], completed=stage.done, total=stage.total, rate=f"{rate:,.0f} drawings/s"
            )

        manifest = prepare(request, show)
    if as_json:
        print(orjson.dumps(manifest.model_dump(exclude={"sources"})).decode())
    else:
        print_counts(manifest, request.to)
        print(f"{time.perf_counter() - began:.1f} s")
    return manifest


def destination(to: str) -> str:
    """``--to`` as an absolute location. Raises ValueError for an empty one, which would be the working directory."""
    if not to.strip():
        raise ValueError("--to is empty: should be a folder or URI (a variable that is not set?)")
    return locations.absolute(to)


def picture_options(side: int | None, channels: int | None, crop: str, class_names: str) -> PictureOptions:
    """The options of image sets, ``class_names`` a comma list. Raises ValueError."""
    if channels not in (None, 1, 3):
        raise ValueError(f"--channels {channels}: should be 1 (grey) or 3 (RGB)")
    if crop not in get_args(Crop):
        raise ValueError(f"--crop {crop!r}: should be one of {', '.join(get_args(Crop))}")
    names = tuple(name.strip() for name in class_names.split(",")) if class_names else ()
    return PictureOptions(side, channels, cast("Crop", crop), names)


def parse_split(text: str) -> tuple[float, float, float]:
    """``98,1,1`` -> percents of train, val and test. Raises ValueError."""
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--split {text!r}: should be three percentages, such as 98,1,1") from None
    if min(train, val, test) < 0 or abs(train + val + test - 100) > 1e-6 or train == 0:
        raise ValueError(f"--split {text!r}: three percentages that add up to 100, the first above 0")
    return train, val, test


def print_counts(manifest: Manifest, uri: str) -> None:
    """A dataset in a few lines, rejects included."""
    shape = "" if manifest.kind == "strokes" else f" {manifest.side}×{manifest.side}×{manifest.channels}"
    print(
        f"{uri}: {manifest.rows:,} drawings as {manifest.kind}{shape}, {len(manifest.categories)} categories"
    )
    for name, info in manifest.splits.items():
        size = sum(shard.bytes for shard in info.shards)
        share = info.recognized / info.rows if info.rows else 0.0
        shards = "shard " if len(info.shards) == 1 else "shards"
        print(
            f"  {name:5} {info.rows:>12,} drawings  {len(info.shards):>5} {shards}  {size / 1e6:>10,.1f} MB"
            f"  {share:.1%} recognized"
        )
    skipped = sum(source.skipped for source in manifest.sources)
    print(f"  {manifest.rejects.rows:,} bad records, {skipped:,} of other categories or not recognized")
    for reason, count in sorted(manifest.rejects.reasons.items(), key=lambda item: -item[1])[:5]:
        print(f"    {count:>8,}  {reason}")
    if manifest.rejects.path:
        print(f"    listed in {locations.join(uri, manifest.rejects.path)}")


def inspect_dataset(uri: str, output: Path, count: int, *, as_json: bool = False) -> None:
    """`data inspect`: counts, and a contact sheet of ``count`` drawings per category."""
    from doodle_dist.pictures import named_rows, png

    uri = locations.absolute(uri)
    manifest = load_manifest(uri)
    if as_json:
        print(orjson.dumps(manifest.model_dump(exclude={"sources"})).decode())
    else:
        print_counts(manifest, uri)
        totals = np.sum([split.counts for split in manifest.splits.values()], axis=0)
        for name, total in zip(manifest.categories, totals, strict=True):
            print(f"  {total:>10,}  {name}")
    examples = _examples(uri, manifest, count)
    sheet = named_rows([(name, examples[label]) for label, name in enumerate(manifest.categories)])
    output.write_bytes(png(sheet))
    if as_json:
        log.say(str(output))
    else:
        print(output)


def _examples(uri: str, manifest: Manifest, count: int) -> list[np.ndarray]:
    """The first ``count`` rasters of each category in the training split: uint8 [n <= count, C, H, W]."""
    from doodle_dist.data.stream_pictures import pictures
    from doodle_dist.data.stream_plan import Window, plan_stream
    from doodle_dist.data.stream_rows import read_window

    none = np.zeros((0, manifest.channels, manifest.side, manifest.side), np.uint8)
    if not manifest.splits["train"].rows:
        return [none for _ in manifest.categories]
    plan = plan_stream(manifest, uri, "train", lanes=1, global_batch=4096)
    order = plan.order(0)
    found: list[list[np.ndarray]] = [[] for _ in manifest.categories]
    for step in range(order.steps):
        table = read_window(plan, range(1), Window(0, step, step + 1))
        for label, picture in zip(table["label"].to_numpy(), pictures(plan, table), strict=True):
            if len(found[label]) < count:
                found[label].append(picture)
        wanted = [min(count, total) for total in manifest.splits["train"].counts]
        if all(len(have) >= want for have, want in zip(found, wanted, strict=True)):
            break
    return [np.stack(have) if have else none for have in found]


def verify_dataset(uri: str) -> bool:
    """`data verify`: print the first differences; whether there were none."""
    uri = locations.absolute(uri)
    problems = verify(uri)
    for problem in problems[:20]:
        print(problem)
    if len(problems) > 20:
        print(f"… and {len(problems) - 20} more")
    if not problems:
        manifest = load_manifest(uri)
        print(f"{uri}: {manifest.rows:,} drawings, every file as the manifest says")
    return not problems


def _rasteriser(device: str) -> Callable[[NDArray[np.uint8], NDArray[np.int32], int], NDArray[np.uint8]]:
    """(packed drawings, offsets, side) -> uint8 [N, side, side], drawn on ``device``. Raises ValueError."""
    from doodle_dist.data.raster import rasterize_packed

    if device == "cpu":
        return lambda buffer, offsets, side: rasterize_packed(buffer, offsets, side=side)
    if device != "cuda":
        raise ValueError(f"--device {device!r}: should be cpu or cuda")
    import torch

    if not torch.cuda.is_available():
        raise ValueError("--device cuda: there is no CUDA GPU here; allowed: cpu")
    from doodle_dist.data.raster_cuda import rasterize_packed_on, wanting_to_build

    if lacks := wanting_to_build():
        raise ValueError(f"--device cuda: Triton builds a C module, and there is no {lacks}; allowed: cpu")
    where = torch.device("cuda")
    return lambda buffer, offsets, side: (
        rasterize_packed_on(buffer, offsets, where, side=side)[:, 0].cpu().numpy()
    )


def rasterize_file(file: str, output: Path, side: int, device: str = "cpu") -> None:
    """`data rasterize`: one file of drawings -> uint8 [N, side, side], bad records named on stderr."""
    draw, name = _rasteriser(device), locations.public(file)
    sources = find_sources([locations.absolute(file)], warn=log.say)
    if sources[0].kind in PICTURES:
        raise ValueError(f"{name} holds pictures already")
    # Pictures need no labels: a file may mix categories.
    categories = Categories(tuple(sorted({*OFFICIAL_345, *categories_of(sources).names})))
    rasters = []
    for source in sources:
        first = 1
        for chunk in plan_chunks(source, 32 << 20):
            lines = 0
            for batch in read_chunk(chunk, categories):
                for reject in batch.rejects:
                    log.say(f"{locations.public(source.uri)}:{first + reject.line}: {reject.reason}")
                lines += batch.lines_read
                if len(batch):
                    rasters.append(draw(*binary_buffers(batch.strokes), side))
            first += lines
    if not rasters:
        raise ValueError(f"{name} holds no drawings")
    with output.open("wb") as sink:  # np.save would add .npy to another name
        np.save(sink, np.concatenate(rasters))
    print(f"{output}: {sum(map(len, rasters)):,} drawings")


@contextmanager
def _bar(*, quiet: bool = False) -> Iterator[Progress]:
    """A progress bar on stderr with counts, a rate and the time left; none beside lines of JSON."""
    columns = (
        TextColumn("{task.description:8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True, quiet=quiet), disable=log.is_json()) as bar:
        yield bar
