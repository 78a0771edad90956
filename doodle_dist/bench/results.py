"""What the benchmarks' result files hold, for those who read them again: no Ray is imported."""

from pydantic import BaseModel, ConfigDict

from doodle_dist.bench.machine import Machine


class Ingest(BaseModel):
    """Drawings/s: medians over rounds. ``ratio`` is the stream's over the rasteriser's."""

    model_config = ConfigDict(frozen=True)

    data: str
    drawings: int
    workers: int
    raster_alone_per_s: float
    stream_per_s: float
    ratio: float
    first_batch_s: float


class IngestBench(BaseModel):
    model_config = ConfigDict(frozen=True)

    results: list[Ingest]
    machine: Machine


class PrepareBench(BaseModel):
    """Seconds are of `prepare` alone: Ray was up. Memory is the highest sum seen, in MB."""

    model_config = ConfigDict(frozen=True)

    drawings: int
    bytes_per_line: float
    seconds: float
    drawings_per_s: float
    processes_pss_mb: float
    spilled_mb: float
    orjson_per_s: float | None = None  # of one core, parsing the same lines and nothing else
    of_orjson: float | None = None  # prepare's drawings/s a core, over orjson's
    machine: Machine
