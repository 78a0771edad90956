"""What a benchmark ran on, and the file that its figures go to."""

import datetime
import os
import platform
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict


class Machine(BaseModel):
    """The machine and the day of a measurement."""

    model_config = ConfigDict(frozen=True)

    processor: str
    cores: int
    python: str
    date: str

    @classmethod
    def here(cls) -> Self:
        """This machine, today."""
        return cls(
            processor=_processor(),
            cores=os.cpu_count() or 1,
            python=platform.python_version(),
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def write_result(output: Path | None, result: BaseModel) -> None:
    """Write a benchmark's figures as JSON, where asked to."""
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(result.model_dump_json(indent=2) + "\n")
        print(output)
