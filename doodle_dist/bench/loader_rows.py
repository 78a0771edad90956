"""The loaders that `doodle-dist bench loaders` compares, each run in a process of its own:

    python -m doodle_dist.bench.loader_rows NAME FOLDER SECONDS WORKERS WARM_UP    ->  a line of JSON

All give batches of 1,024: uint8 [B, 1, 28, 28] and int64 [B], shuffled as the loader does it. Those that start from
strokes rasterise with our rasteriser, a batch at a time, in their worker processes, but for the seed projects' way: a
line of ndjson parsed by the stdlib and drawn by cairo in ``__getitem__``. The clock starts when what the loader needs
is imported and, for ours, Ray is up. The rate is of what comes after ten seconds, when everything that starts has
started, over ends of epochs; beside it stands what came in those ten.
"""

import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from doodle_dist.bench.rasterisers import LIBRARIES, cairo_raster
from doodle_dist.data.raster import rasterize_packed
from doodle_dist.data.stream_plan import plan_stream
from doodle_dist.reading import Read

BATCH = 1024
WARM_UP_S = 10.0
Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class LoaderRow:
    """``modules`` have to be there: (module, package). ``layout`` is the folder that it reads."""

    name: str
    what: str
    layout: str
    from_strokes: bool
    open: Callable[[Path, int], Callable[[], Batches]]
    modules: tuple[tuple[str, str], ...] = ()

    @property
    def lacks(self) -> list[str]:
        """Packages that are not installed."""
        return [package for module, package in self.modules if importlib.util.find_spec(module) is None]


def _rasters(packed: list[bytes], labels: list[int]) -> tuple[Tensor, Tensor]:
    buffer = np.frombuffer(b"".join(packed), np.uint8)
    offsets = np.cumsum([0, *map(len, packed)]).astype(np.int32)
    rasters = rasterize_packed(buffer, offsets)
    return torch.from_numpy(rasters).unsqueeze(1), torch.tensor(labels)


def _collate_dicts(rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    return _rasters([row["strokes"] for row in rows], [int(row["label"]) for row in rows])


def _collate_pairs(rows: list[tuple[bytes, bytes]]) -> tuple[Tensor, Tensor]:
    return _rasters([packed for packed, _ in rows], [int(label) for _, label in rows])


def _endless(loader: Batches) -> Batches:
    return chain.from_iterable(repeat(loader))


# --- what starts from rasters -------------------------------------------------------------------------------


class NpyRows(Dataset[tuple[Tensor, Tensor]]):
    """pixels.npy, memory-mapped; an item is a picture, or a batch of them where the index is a list."""

    def __init__(self, folder: Path) -> None:
        self.pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        self.labels = np.load(folder / "labels.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> tuple[Tensor, Tensor]:
        if isinstance(index, list):
            return torch.from_numpy(self.pixels[index]).unsqueeze(1), torch.from_numpy(self.labels[index])
        return torch.from_numpy(self.pixels[index].copy()).unsqueeze(0), torch.tensor(self.labels[index])


def _npy_items(folder: Path, workers: int) -> Callable[[], Batches]:
    def start() -> Batches:
        loader = DataLoader(
            NpyRows(folder), BATCH, shuffle=True, num_workers=workers, persistent_workers=True
        )
        return _endless(loader)

    return start


def _npy_batches(folder: Path, workers: int) -> Callable[[], Batches]:
    def start() -> Batches:
        rows = NpyRows(folder)
        sampler = BatchSampler(RandomSampler(rows), BATCH, drop_last=False)
        loader: Any = DataLoader(
            rows, batch_size=None, sampler=sampler, num_workers=workers, persistent_workers=True
        )
        return _endless(loader)

    return start


# --- what starts from strokes -------------------------------------------------------------------------------


class NdjsonRows(Dataset[tuple[Tensor, Tensor]]):
    """Every line of every file in memory; an item is parsed and drawn by cairo."""

    def __init__(self, folder: Path) -> None:
        self.lines, self.labels = [], []
        for label, file in enumerate(sorted(folder.glob("*.ndjson"))):
            lines = file.read_bytes().splitlines()
            self.lines += lines
            self.labels += [label] * len(lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        raster = cairo_raster(json.loads(self.lines[index])["drawing"])
        return torch.from_numpy(raster).unsqueeze(0), torch.tensor(self.labels[index])


def _ndjson_cairo(folder: Path, workers: int) -> Callable[[], Batches]:
    def start() -> Batches:
        loader = DataLoader(
            NdjsonRows(folder), BATCH, shuffle=True, num_workers=workers, persistent_workers=True
        )
        return _endless(loader)

    return start


def _webdataset(folder: Path, workers: int) -> Callable[[], Batches]:
    wds: Any = importlib.import_module("webdataset")
    urls = [str(file) for file in sorted(folder.glob("*.tar"))]

    def start() -> Batches:
        rows = (
            wds.WebDataset(urls, shardshuffle=len(urls))
            .shuffle(BATCH)
            .to_tuple("bin", "cls")
            .batched(BATCH, collation_fn=_collate_pairs)
        )
        return _endless(wds.WebLoader(rows, batch_size=None, num_workers=workers, persistent_workers=True))

    return start


def _litdata(folder: Path, workers: int) -> Callable[[], Batches]:
    litdata: Any = importlib.import_module("litdata")

    def start() -> Batches:
        rows = litdata.StreamingDataset(str(folder), shuffle=True, drop_last=False)
        loader = litdata.StreamingDataLoader(
            rows, batch_size=BATCH, num_workers=workers, collate_fn=_collate_dicts, persistent_workers=True
        )
        return _endless(loader)

    return start


def _mosaic(folder: Path, workers: int) -> Callable[[], Batches]:
    streaming: Any = importlib.import_module("streaming")
    streaming.base.util.clean_stale_shared_memory()

    def start() -> Batches:
        rows = streaming.StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
        loader: Any = DataLoader(
            rows, BATCH, num_workers=workers, collate_fn=_collate_dicts, persistent_workers=True
        )
        return _endless(loader)

    return start


@dataclass(frozen=True)
class Counted:
    """Drawings/s once warm, drawings/s of the time before, and seconds to the first batch."""

    drawings_per_s: float
    early_per_s: float
    first_batch_s: float

    @staticmethod
    def of_all(ranks: "list[Counted]") -> dict[str, float]:
        """Of several consumers: the sums of their rates, and the last one's first batch."""
        return {
            "drawings_per_s": sum(one.drawings_per_s for one in ranks),
            "early_per_s": sum(one.early_per_s for one in ranks),
            "first_batch_s": max(one.first_batch_s for one in ranks),
        }


def count(start: Callable[[], Batches], seconds: float, warm_up_s: float) -> Counted:
    """Start a loader and count what comes of it, ``seconds`` long after the warm-up."""
    began = time.perf_counter()
    first = early = warm = 0.0
    done = 0
    for images, labels in start():
        assert images.shape[1:] == (1, 28, 28)
        assert len(images) == len(labels)
        now = time.perf_counter()
        first = first or now
        done += len(labels)
        if not warm and now - began > warm_up_s:
            early, warm, done = done / (now - began), now, 0
        elif warm and now - warm > seconds:
            return Counted(done / (now - warm), early, first - began)
    raise AssertionError("an endless loader ended")


def measure(row: LoaderRow, folder: Path, seconds: float, workers: int, warm_up_s: float) -> dict[str, float]:
    """What comes to this process."""
    return Counted.of_all([count(row.open(folder / row.layout, workers), seconds, warm_up_s)])


# --- to processes of their own: without and with Ray --------------------------------------------------------


def _bare(folder: Path, workers: int, rank: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A rank's share of the row groups, read and rasterised in their order, for ever."""
    import pyarrow.parquet as pq

    from doodle_dist.bench.loader_data import shard_files
    from doodle_dist.data.schema import binary_buffers

    files = [pq.ParquetFile(file, page_checksum_verification=True) for file in shard_files(folder)]
    groups = [(file, group) for file in files for group in range(file.num_row_groups)][rank::workers]
    if not groups:
        raise ValueError(f"{folder} has fewer row groups than {workers} ranks")
    while True:
        for file, group in groups:
            table = file.read_row_group(group, columns=["key_id", "label", "strokes"], use_threads=False)
            buffer, offsets = binary_buffers(table["strokes"].combine_chunks())
            labels = torch.from_numpy(table["label"].to_numpy().astype(np.int64))
            for first in range(0, len(labels), BATCH):
                rasters = rasterize_packed(buffer, offsets[first : first + BATCH + 1])
                yield torch.from_numpy(rasters).unsqueeze(1), labels[first : first + BATCH]


def _bare_rank(folder: str, workers: int, rank: int, seconds: float, warm_up_s: float) -> Counted:
    return count(lambda: _bare(Path(folder), workers, rank), seconds, warm_up_s)


def measure_bare(folder: Path, seconds: float, workers: int, warm_up_s: float) -> dict[str, float]:
    """pyarrow and our rasteriser in as many processes as the others have, without Ray, shuffle or hand-over."""
    import multiprocessing

    ranks = [(str(folder / "prepared"), workers, rank, seconds, warm_up_s) for rank in range(workers)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(_warm, range(workers), chunksize=1)
        return Counted.of_all(pool.starmap(_bare_rank, ranks, chunksize=1))


def _warm(_: int) -> None:
    """Import, and compile or load the rasteriser, before the clock starts."""
    rasterize_packed(np.array([1, 0, 1, 0, 0, 0], np.uint8), np.array([0, 6]))


class _Rank:
    """An actor of Ray that draws what bare pyarrow or the stream gives to one rank."""

    def __init__(self, folder: str, workers: int, rank: int) -> None:
        from doodle_dist.ray_cluster import quiet_ray_data

        torch.set_num_threads(1)
        quiet_ray_data()
        _warm(0)
        self.folder, self.workers, self.rank = folder, workers, rank
        self.open: dict[str, Iterator[tuple[Tensor, Tensor]]] = {}

    def batches(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """For ever: of ``BARE``, or of the stream as ``READS`` has it."""
        from doodle_dist.data.manifest import load_manifest
        from doodle_dist.data.stream import rank_batches

        if name == BARE:
            return _bare(Path(self.folder), self.workers, self.rank)
        plan = plan_stream(
            load_manifest(self.folder),
            self.folder,
            "train",
            global_batch=BATCH * self.workers,
            read=READS[name],
        )
        batches = rank_batches(plan, rank=self.rank, world_size=self.workers, epochs=None)
        return ((torch.from_numpy(b.pixels), torch.from_numpy(b.labels)) for b in batches)

    def count(self, name: str, seconds: float, warm_up_s: float) -> Counted:
        return count(lambda: self.batches(name), seconds, warm_up_s)

    def turn(self, name: str, seconds: float) -> float:
        """Drawings/s of ``seconds``, from where the last turn of the same name ended.

        Not counted: ``_LEAD`` of that before, in which what was rasterised ahead in the other's turn is used up, and
        what the other still rasterises ahead comes to its end.
        """
        if name not in self.open:
            self.open[name] = self.batches(name)
        _drawn(self.open[name], seconds * _LEAD)
        return _drawn(self.open[name], seconds)


def _drawn(batches: Iterator[tuple[Tensor, Tensor]], seconds: float) -> float:
    """Drawings/s of the next ``seconds``."""
    began, done = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        done += len(next(batches)[1])
    return done / took


def _ranks(folder: Path, workers: int) -> list[Any]:
    """Ranks on a Ray of their own, with as many CPUs as the others have processes, which go with this process; on the
    Ray that is there, where one is."""
    import ray

    from doodle_dist.ray_cluster import start_ray

    if not ray.is_initialized():
        start_ray(workers)
    actor: Any = ray.remote(num_cpus=0)(_Rank)
    ranks = [actor.remote(str(folder / "prepared"), workers, rank) for rank in range(workers)]
    ray.get([one.__ray_ready__.remote() for one in ranks])
    return ranks


def measure_ours(name: str, folder: Path, seconds: float, workers: int, warm_up_s: float) -> dict[str, float]:
    """The stream to as many ranks, actors of Ray, as the others have processes."""
    import ray

    ranks = _ranks(folder, workers)
    return Counted.of_all(ray.get([one.count.remote(name, seconds, warm_up_s) for one in ranks]))


def measure_turns(
    name: str, folder: Path, seconds: float, workers: int, warm_up_s: float
) -> dict[str, float]:
    """The stream over bare pyarrow, both by the same ranks, in ``TURNS`` pairs of turns.

    What a shared machine gives drifts by a third from minute to minute; two turns of a pair follow each other. And
    Ray's own processes take their share of both.
    """
    import ray

    ranks = _ranks(folder, workers)

    def rate(name: str, seconds: float) -> float:
        rates: list[float] = ray.get([one.turn.remote(name, seconds) for one in ranks])
        return sum(rates)

    pair = (BARE, name)
    for one in pair:
        rate(one, warm_up_s / 2)
    ratios = []
    for number in range(TURNS):
        rates = {one: rate(one, seconds) for one in (pair if number % 2 else reversed(pair))}
        ratios.append(rates[name] / rates[BARE])
    return {"of_bare": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


_CAIRO = ((LIBRARIES[0].module, LIBRARIES[0].package),)
ROWS = (
    LoaderRow("npy-items", "torch DataLoader over .npy rasters, item by item", "npy", False, _npy_items),
    LoaderRow(
        "npy-batches", "torch DataLoader over .npy rasters, batch by batch", "npy", False, _npy_batches
    ),
    LoaderRow(
        "ndjson-cairo", "torch DataLoader over ndjson and cairo", "ndjson", True, _ndjson_cairo, _CAIRO
    ),
    LoaderRow(
        *("webdataset", "WebDataset, our rasteriser", "webdataset", True, _webdataset),
        (("webdataset", "webdataset"),),
    ),
    LoaderRow("litdata", "LitData, our rasteriser", "litdata", True, _litdata, (("litdata", "litdata"),)),
    LoaderRow(
        *("mosaic", "MosaicML Streaming, our rasteriser", "mosaic", True, _mosaic),
        (("streaming", "mosaicml-streaming"),),
    ),
)
BARE, OURS, OURS_HERE = "bare", "ours", "ours-here"
# What is compared with bare pyarrow in turns, by the name of the comparison.
IN_TURNS = {"ours-in-turns": OURS, "ours-here-in-turns": OURS_HERE}
TURNS = 60
_LEAD = 1 / 3  # of a turn, before it counts
READS: dict[str, Read] = {OURS: "tasks", OURS_HERE: "worker"}


def lasts_s(name: str, seconds: float, warm_up_s: float) -> float:
    """How long one is measured for, without what starts before: in turns, those of both, the warm-up's too."""
    if name in IN_TURNS:
        return 2 * (1 + _LEAD) * (warm_up_s / 2 + TURNS * seconds)
    return warm_up_s + seconds


def main(name: str, folder: Path, seconds: float, workers: int, warm_up_s: float) -> None:
    """Measure one and print it."""
    torch.set_num_threads(1)
    if name in READS:
        found = measure_ours(name, folder, seconds, workers, warm_up_s)
    elif name in IN_TURNS:
        found = measure_turns(IN_TURNS[name], folder, seconds, workers, warm_up_s)
    elif name == BARE:
        found = measure_bare(folder, seconds, workers, warm_up_s)
    else:
        _warm(0)
        row = next(row for row in ROWS if row.name == name)
        found = measure(row, folder, seconds, workers, warm_up_s)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
