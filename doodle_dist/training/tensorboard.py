"""TensorBoard on rank 0, continuous over restarts, on any storage.

Event files are written to a local disk. Where the run lies in an object store, whose files can't be appended
to, each is closed and uploaded at every checkpoint, before it, and a new one begun: so rank 0 may start anywhere next.
What a store refuses then is uploaded with the next one, unless rank 0 moves before that.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from doodle_dist.data import locations, storage
from doodle_dist.data.scratch import new_folder


class TensorBoard:
    """Writes to ``<run>/tensorboard``. The x axis of everything is drawings seen."""

    def __init__(self, run_uri: str, drawings_seen: int) -> None:
        self.where = locations.join(run_uri, "tensorboard")
        self.is_remote = "://" in run_uri
        self.folder = new_folder("events") if self.is_remote else Path(self.where)
        # What an interrupted attempt drew past the checkpoint is drawn again: purge_step hides the old points.
        # A run that was interrupted before its first checkpoint begins anew, and hides all of them.
        self.writer = SummaryWriter(str(self.folder), purge_step=drawings_seen + 1 if drawings_seen else 0)
        self.files = 0
        self.failed: set[str] = set()

    def scalars(self, values: dict[str, float], drawings_seen: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, drawings_seen)

    def failures(self, found: Mapping[str, str], drawings_seen: int) -> None:
        """A curve for each failure that was ever found, 1 where it shows, and its sentence as text."""
        self.failed |= set(found)
        for name in self.failed:
            self.writer.add_scalar(f"failure/{name}", float(name in found), drawings_seen)
        for name, sentence in found.items():
            self.writer.add_text(f"failure/{name}", sentence, drawings_seen)

    def pictures(self, pictures: dict[str, NDArray[np.uint8]], drawings_seen: int) -> None:
        for name, picture in pictures.items():
            self.writer.add_image(
                name, picture, drawings_seen, dataformats="HW" if picture.ndim == 2 else "HWC"
            )

    def text(self, name: str, text: str) -> None:
        self.writer.add_text(name, text, 0)

    def hparams(self, settings: Mapping[str, float | int | str | bool], metric: str) -> None:
        """What the HParams page knows of this run: its settings, and the scalar that it is judged by."""
        experiment, began, _ = hparams(dict(settings), {metric: 0.0})
        for summary in (experiment, began):
            self.writer.file_writer.add_summary(summary)

    def flush(self) -> None:
        """Make what was written durable. Call it before each checkpoint."""
        if not self.is_remote:
            self.writer.flush()
            return
        self.writer.close()
        try:
            self._upload()
        finally:
            self.files += 1
            self.writer = SummaryWriter(str(self.folder), filename_suffix=f".{self.files}")

    def close(self) -> None:
        self.writer.close()
        if self.is_remote:
            self._upload()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _upload(self) -> None:
        for file in sorted(self.folder.iterdir()):
            storage.put_file(file, locations.join(self.where, file.name))
            file.unlink()
