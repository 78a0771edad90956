"""A chunk of a file as blocks: of bytes, of rows of one size, of whole lines; gzip files are unpacked on the way."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from doodle_dist.data import locations, storage
from doodle_dist.data.records import BATCH_ROWS, Chunk, Kind, Source

BLOCK_BYTES = 16 << 20  # about 35,000 drawings of simplified ndjson
_GZIP_READ_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 20  # a longer "line" is another kind of file; it is rejected without being kept

# --- files of bytes --------------------------------------------------------------------------------------


class ByteBlock(NamedTuple):
    """A piece of a file. ``problem`` says why the file ends here although it should not."""

    data: bytes
    is_last: bool
    problem: str | None = None


def byte_blocks(chunk: Chunk, block_bytes: int = BLOCK_BYTES) -> Iterator[ByteBlock]:
    """A whole file in blocks, decompressed if its name ends with ``.gz``. Errors as in ``line_blocks``."""
    with storage.PatientFile(chunk.uri) as source:
        if locations.is_gzip(chunk.uri):
            # GzipFile asks for 8 KB at a time, each of them a request to an object store.
            with (
                io.BufferedReader(source, _GZIP_READ_BYTES) as buffer,
                gzip.GzipFile(fileobj=buffer) as unzipped,
            ):
                yield from _gzip_bytes(chunk, unzipped, block_bytes)
            return
        while True:
            piece = source.read(block_bytes)
            yield ByteBlock(piece, not piece)
            if not piece:
                return


def _gzip_bytes(chunk: Chunk, source: gzip.GzipFile, block_bytes: int) -> Iterator[ByteBlock]:
    first = True
    while True:
        problem = None
        try:
            # read1 gives what was decompressed before the damage, where read would raise instead.
            piece = source.read1(block_bytes)
        except EOFError:
            piece, problem = b"", "the gzip file is cut off here"
        except (gzip.BadGzipFile, zlib.error) as error:
            if first:
                raise ValueError(f"{locations.public(chunk.uri)} is not a gzip file ({error})") from error
            piece, problem = b"", f"the gzip file is damaged from here on ({error})"
        first = False
        yield ByteBlock(piece, not piece, problem)
        if not piece:
            return


def fixed_rows_of(
    chunk: Chunk, offset: int, width: int, first: int, last: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Records [first, last) of ``width`` bytes each, the file's first at byte ``offset``: (number, [n, width]).

    In batches of about ``BLOCK_BYTES``. A ``.gz`` file is read whole, ``last`` being its last record. Raises
    ValueError where the file ends before that, or is damaged.
    """
    step = max(min(BATCH_ROWS, BLOCK_BYTES // width), 1)
    name = locations.public(chunk.uri)
    if locations.is_gzip(chunk.uri):
        yield from _gzip_rows(chunk, offset + first * width, width, first, last, step)
        return
    with storage.PatientFile(chunk.uri) as source:
        source.seek(offset + first * width)
        for row in range(first, last, step):
            n = min(step, last - row)
            data = source.read(n * width)
            if len(data) != n * width:
                raise ValueError(f"{name} was cut short while it was read")
            yield row, np.frombuffer(data, np.uint8).reshape(n, width)


def _gzip_rows(
    chunk: Chunk, ahead: int, width: int, row: int, last: int, step: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    name, problem, rest = locations.public(chunk.uri), None, bytearray()
    for block in byte_blocks(chunk):  # to the end, where the checksum is
        rest += block.data[ahead:]
        ahead = max(ahead - len(block.data), 0)
        problem = problem or block.problem
        n = min(len(rest) // width, last - row)
        if n >= step or (n and (row + n == last or block.is_last)):
            yield row, np.frombuffer(bytes(rest[: n * width]), np.uint8).reshape(n, width)
            del rest[: n * width]
            row += n
        if row == last and rest:
            raise ValueError(f"{name} has more bytes than its header says: it is damaged")
    if problem or row < last:
        raise ValueError(
            f"{name} is cut off or damaged: {problem or f'it ends at record {row + 1} of {last}'}"
        )


# --- files of lines --------------------------------------------------------------------------------------


def plan_line_chunks(source: Source, chunk_bytes: int, kind: Kind) -> list[Chunk]:
    """Byte ranges of about ``chunk_bytes`` of a file of lines; a gzip file is one chunk."""
    uri, size = source.uri, source.size
    if chunk_bytes <= 0:
        raise ValueError(f"chunk_bytes is {chunk_bytes}, it must be positive")
    # Without a size: it is empty, or lies on a web server that doesn't tell how long it is.
    if locations.is_gzip(uri) or not size:
        return [Chunk(uri, 0, None, kind)]
    return [Chunk(uri, start, min(start + chunk_bytes, size), kind) for start in range(0, size, chunk_bytes)]


class LineBlock(NamedTuple):
    """Whole lines: each ends with a newline, the file's last one perhaps not.

    ``problem`` says why the file ends here although it should not; the last line is then a cut one.
    """

    data: bytes
    problem: str | None = None


def line_blocks(chunk: Chunk, block_bytes: int = BLOCK_BYTES) -> Iterator[LineBlock]:
    """The lines that begin in the chunk, in blocks of about ``block_bytes``.

    A gzip file is decompressed on the way; one that ends too early or is damaged gives its good part, then a
    ``problem``. Raises ValueError for a ``.gz`` file that is no gzip file, StorageError for one that cannot
    be read.
    """
    if locations.is_gzip(chunk.uri):
        yield from _gzip_lines(chunk, block_bytes)
        return
    with storage.PatientFile(chunk.uri) as source:
        yield from _plain_lines(chunk, source, block_bytes)


def _plain_lines(chunk: Chunk, source: storage.PatientFile, block_bytes: int) -> Iterator[LineBlock]:
    rest, offset = b"", chunk.start  # offset: where ``rest`` lies in the file
    if chunk.start:
        # The line that begins before the start is the previous chunk's.
        offset -= 1
        source.seek(offset)
        while (newline := rest.find(b"\n")) < 0:
            offset += len(rest)
            rest = source.read(1 << 16)
            if not rest:
                return
        rest, offset = rest[newline + 1 :], offset + newline + 1
    ended = False
    begins = offset  # where the first line of ``rest`` does, of which the middle may be left out
    while chunk.end is None or begins < chunk.end:
        if chunk.end is not None and offset + len(rest) >= chunk.end:
            last = rest.find(b"\n", max(chunk.end - 1 - offset, 0))
            if last >= 0:
                yield LineBlock(rest[: last + 1])
                return
        if ended:
            if rest:
                yield LineBlock(rest)
            return
        if len(rest) >= block_bytes:
            cut = rest.rfind(b"\n") + 1
            if cut:
                yield LineBlock(rest[:cut])
                rest, offset = rest[cut:], offset + cut
                begins = offset
            elif len(rest) > MAX_LINE_BYTES:
                rest, offset = rest[:100], offset + len(rest) - 100
        wanted = block_bytes
        if chunk.end is not None:
            # Near the end, read little more than the line that crosses it: twice it at most.
            wanted = min(wanted, abs(chunk.end - offset - len(rest)) + (1 << 16))
        piece = source.read(wanted)
        rest += piece
        ended = not piece


def _gzip_lines(chunk: Chunk, block_bytes: int) -> Iterator[LineBlock]:
    pieces: list[bytes] = []
    length = 0
    for block in byte_blocks(chunk):
        pieces.append(block.data)
        length += len(block.data)
        if length < block_bytes and not block.is_last:
            continue
        data = b"".join(pieces)
        cut = len(data) if block.is_last else data.rfind(b"\n") + 1
        if cut or block.problem:
            yield LineBlock(data[:cut], block.problem)
        rest = data[cut:] if cut or len(data) <= MAX_LINE_BYTES else data[:100]
        pieces, length = [rest], len(rest)
