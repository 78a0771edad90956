"""Files of one JSON object a line, which grow, on a disk or in an object store.

An object store's files can't be appended to: lines are kept on a local disk, and the whole file is put when asked.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from doodle_dist.data import locations, storage
from doodle_dist.data.scratch import new_folder


def read_lines(uri: str) -> list[dict[str, Any]]:
    """The objects of a file in order; none where there is none. A line cut short by a crash is left out."""
    if not storage.exists(uri):
        return []
    lines = []
    for text in storage.read_bytes(uri).splitlines():
        try:
            line = orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


class LinesFile:
    """A file that lines are appended to, behind those that are ``kept`` of it."""

    def __init__(self, uri: str, kept: Iterable[object]) -> None:
        self.uri = uri
        self.is_remote = "://" in uri
        text = b"".join(orjson.dumps(line) + b"\n" for line in kept)
        if self.is_remote:
            self.path = new_folder("lines") / locations.basename(uri)
            self.path.write_bytes(text)
        else:
            storage.write_atomic(uri, text)
            self.path = Path(uri)
        self.file, self.is_put = self.path.open("ab"), not text

    def add(self, line: object) -> None:
        self.file.write(orjson.dumps(line) + b"\n")
        self.file.flush()
        self.is_put = False

    def put(self) -> None:
        """Make what was added durable, where the file lies in an object store."""
        if self.is_remote:
            storage.put_file(self.path, self.uri)
            self.is_put = True

    def close(self) -> None:
        """What could not be put stays on this machine's disk."""
        self.file.close()
        if self.is_remote and self.is_put:
            shutil.rmtree(self.path.parent, ignore_errors=True)
