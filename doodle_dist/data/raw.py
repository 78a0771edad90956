"""Quick, Draw! raw ndjson (``.ndjson``, ``.ndjson.gz``): simplified on the way, as Google does."""

from __future__ import annotations

from collections.abc import Iterator

from doodle_dist.data.blocks import plan_line_chunks
from doodle_dist.data.categories import Categories
from doodle_dist.data.ndjson import read_lines
from doodle_dist.data.records import Batch, Chunk, Source
from doodle_dist.data.simplify import simplify_packed


def plan_chunks(source: Source, chunk_bytes: int) -> list[Chunk]:
    """Byte ranges of about ``chunk_bytes``; a ``.gz`` file is one chunk."""
    return plan_line_chunks(source, chunk_bytes, "raw")


def read_chunk(chunk: Chunk, categories: Categories) -> Iterator[Batch]:
    """The drawings of the lines that begin in the chunk, simplified and packed."""
    return read_lines(chunk, categories, simplify_packed)
