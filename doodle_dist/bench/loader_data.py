"""The same drawings laid out for each loader that `doodle-dist bench loaders` compares.

They are made up (made_up.py), prepared by `data prepare`, and then written once more, in the prepared order, as each
loader's own format: packed strokes and a label, or for ``.npy`` their rasters. Each layout lies in a folder of its own
and is there whole or not at all.
"""

import importlib
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq

from doodle_dist.bench.made_up import real_drawings, write_category
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.raster import rasterize_packed
from doodle_dist.data.schema import binary_buffers
from doodle_dist.data.shards import PrepareRequest, prepare
from doodle_dist.data.sources import categories_of, find_sources
from doodle_dist.data.strokes import unpack_strokes
from doodle_dist.errors import one_line

_TAR_DRAWINGS = 10_000
_CHUNK_BYTES = 64 << 20

# (key_id, label, packed strokes)
Sample = tuple[int, int, bytes]


def lay_out(folder: Path, drawings: int, categories: int, real: Path) -> dict[str, str]:
    """Make what is missing below ``folder``; the layouts that can't be, each with the reason. Needs a running Ray.

    Raises ValueError where other drawings lie there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note, said = folder / "drawings.json", {"drawings": drawings, "categories": categories}
    if note.exists() and orjson.loads(note.read_bytes()) != said:
        raise ValueError(f"--folder {folder} holds other drawings ({note.read_text()}); name another folder")
    note.write_bytes(orjson.dumps(said))
    _whole(folder / "raw", lambda to: _raw(to, drawings, categories, real))
    _prepare(folder)
    missing = {}
    for name, write in LAYOUTS.items():
        try:
            _whole(folder / name, lambda to, write=write: write(to, folder / "prepared"))  # type: ignore[misc]
        except Exception as error:
            # Whatever another library makes of this machine: a row of the table says it.
            missing[name] = one_line(error)
    return missing


def _whole(folder: Path, write: Callable[[Path], None]) -> None:
    if folder.exists():
        return
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    write(partial)
    partial.rename(folder)


def _raw(to: Path, drawings: int, categories: int, real: Path) -> None:
    first = 0
    bounds = np.arange(categories + 1) * drawings // categories
    for source, count in zip(real_drawings(real, categories), np.diff(bounds).tolist(), strict=True):
        write_category(source, first, count, to / f"{source.category}.bin")
        first += count


def _prepare(folder: Path) -> None:
    sources = tuple(find_sources([str(folder / "raw")]))
    prepare(PrepareRequest(sources, categories_of(sources), str(folder / "prepared"), (100.0, 0.0, 0.0)))


def shard_files(prepared: Path) -> list[Path]:
    """The training shards of a prepared dataset."""
    return [prepared / shard.path for shard in load_manifest(str(prepared)).splits["train"].shards]


def samples(file: Path) -> Iterator[Sample]:
    """The drawings of a shard, one by one."""
    for batch in pq.ParquetFile(file).iter_batches(8192, columns=["key_id", "label", "strokes"]):
        yield from zip(
            batch["key_id"].to_pylist(), batch["label"].to_pylist(), batch["strokes"].to_pylist(), strict=True
        )


def _npy(to: Path, prepared: Path) -> None:
    """pixels.npy uint8 [N, 28, 28], labels.npy int64 [N]"""
    pixels, labels = [], []
    for file in shard_files(prepared):
        table = pq.read_table(file, columns=["label", "strokes"])
        pixels.append(rasterize_packed(*binary_buffers(table["strokes"].combine_chunks())))
        labels.append(table["label"].to_numpy().astype(np.int64))
    np.save(to / "pixels.npy", np.concatenate(pixels))
    np.save(to / "labels.npy", np.concatenate(labels))


def _ndjson(to: Path, prepared: Path) -> None:
    """A file a category, as the official ones are."""
    names = load_manifest(str(prepared)).categories
    lines: list[list[bytes]] = [[] for _ in names]
    for file in shard_files(prepared):
        for key, label, packed in samples(file):
            record = {
                "word": names[label],
                "countrycode": "US",
                "timestamp": "2017-03-01 00:00:00.00000 UTC",
                "recognized": True,
                "key_id": str(key),
                "drawing": [[x.tolist(), y.tolist()] for x, y in unpack_strokes(packed)],
            }
            lines[label].append(orjson.dumps(record))
    for name, its in zip(names, lines, strict=True):
        (to / f"{name}.ndjson").write_bytes(b"\n".join(its) + b"\n")


def _webdataset(to: Path, prepared: Path) -> None:
    """Tar files of 10,000 drawings: KEY.bin the strokes, KEY.cls the label"""
    wds: Any = importlib.import_module("webdataset")
    number, held = 0, 0
    writer: Any = None
    for file in shard_files(prepared):
        for key, label, packed in samples(file):
            if writer is None or held == _TAR_DRAWINGS:
                if writer is not None:
                    writer.close()
                path = str(to / f"part-{number:05d}.tar")
                # Without the extended headers, which would take half of the reader's time.
                writer, held = wds.TarWriter(path, mtime=0, format=tarfile.USTAR_FORMAT), 0
                number += 1
            writer.write({"__key__": f"{key:020d}", "bin": packed, "cls": str(label)})
            held += 1
    if writer is not None:
        writer.close()


def _litdata_samples(file: str) -> Iterator[dict[str, Any]]:
    for _, label, packed in samples(Path(file)):
        yield {"strokes": packed, "label": label}


def _litdata(to: Path, prepared: Path) -> None:
    """LitData's optimised chunks of 64 MB"""
    litdata: Any = importlib.import_module("litdata")
    litdata.optimize(
        fn=_litdata_samples,
        inputs=[str(file) for file in shard_files(prepared)],
        output_dir=str(to),
        chunk_bytes=_CHUNK_BYTES,
        num_workers=1,
        start_method="spawn",
        verbose=False,
    )


def _mosaic(to: Path, prepared: Path) -> None:
    """MosaicML Streaming's MDS shards of 64 MB"""
    streaming: Any = importlib.import_module("streaming")
    with streaming.MDSWriter(out=str(to), columns={"strokes": "bytes", "label": "int"}) as writer:
        for file in shard_files(prepared):
            for _, label, packed in samples(file):
                writer.write({"strokes": packed, "label": label})


LAYOUTS: dict[str, Callable[[Path, Path], None]] = {
    "npy": _npy,
    "ndjson": _ndjson,
    "webdataset": _webdataset,
    "litdata": _litdata,
    "mosaic": _mosaic,
}
