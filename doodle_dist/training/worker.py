"""What runs on each worker of Ray Train: build everything from the experiment, resume, train."""

import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from ray.actor import ActorHandle

from doodle_dist.collector import at_rest
from doodle_dist.config.experiment import DataConfig, Experiment
from doodle_dist.config.load import to_toml
from doodle_dist.data import locations, retry, storage
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.schema import MANIFEST, Manifest
from doodle_dist.data.storage_errors import StorageError
from doodle_dist.data.stream import Batch, RankBatches, first_drawings, rank_batches
from doodle_dist.data.stream_pictures import Rasteriser
from doodle_dist.data.stream_plan import StreamPlan, stream_categories
from doodle_dist.data.stream_rows import RowGroupsInMemory
from doodle_dist.errors import one_line
from doodle_dist.models.registry import ImportPathError
from doodle_dist.ray_cluster import quiet_ray_data
from doodle_dist.run.files import CONFIG, AboutData
from doodle_dist.run.snapshot import device_name
from doodle_dist.run.stopped import note_reason, noted_reason
from doodle_dist.training.audit import AuditWriter, next_attempt
from doodle_dist.training.checkpoint import load_cursor, load_state
from doodle_dist.training.checkpoint_store import CheckpointStore, latest_checkpoint
from doodle_dist.training.classifier import ClassifierTask
from doodle_dist.training.context import Context
from doodle_dist.training.critic import CriticTask
from doodle_dist.training.cursor import Cursor
from doodle_dist.training.gan import GanTask
from doodle_dist.training.growth import room_for_more
from doodle_dist.training.lease import Lease, LeaseLostError, check
from doodle_dist.training.loop import Run, StoppedError, train
from doodle_dist.training.metrics_log import MetricsLog
from doodle_dist.training.plan import first_cursor, held_out_plan, training_plan
from doodle_dist.training.progress import StopQuestion
from doodle_dist.training.ray_context import RayContext
from doodle_dist.training.ray_metrics import telemetry
from doodle_dist.training.reasons import NodeError, on_this_node, reason_to_stop
from doodle_dist.training.step_graphs import steps_of
from doodle_dist.training.stopping import Lookout
from doodle_dist.training.task import DataShape, Task, Wrap, as_it_is
from doodle_dist.training.tensorboard import TensorBoard
from doodle_dist.training.without_compiler import data_parallel


def work(
    experiment: dict[str, object],
    run_uri: str,
    board: ActorHandle | None,
    report_at: tuple[int, ...],
    lease: Lease | None,
) -> None:
    """What every worker does, at every start of the worker group."""
    retry.be_patient(retry.TRAINING_PATIENCE_S)
    context = RayContext()
    resolved = Experiment.model_validate(experiment)
    if context.rank:
        board = None
    warn = board.warn.remote if board else _nobody
    _check_shared(lease)
    if noted_reason(run_uri):
        return  # why the last start of the workers ended would end this one
    context.store = CheckpointStore(run_uri, resolved.train.keep_checkpoints, lease, warn)
    # What all ranks meet at the same place, and would meet there again, is noted: were it raised, Ray Train
    # would start the workers anew, to the same end. What one rank alone may meet, a file that can't be read
    # say, is raised: were it noted only, the others would wait for that rank.
    try:
        if context.rank == 0:
            context.store.begin()
        with latest_checkpoint(run_uri, context.rank, context.agree, warn) as folder:
            run, batches, cursor = prepare_run(
                resolved,
                run_uri,
                context,
                checkpoint=folder,
                report_at=report_at,
                progress=telemetry(resolved.run, context.rank, board.update.remote if board else _nobody),
                warn=warn,
            )
    except ValueError as error:
        _note_reason(run_uri, context, error)
        return
    except Exception as error:
        _note_what_stays(run_uri, error)
        raise
    follow_store(run, context.store)
    could_grow = room_for_more(resolved.scaling, context.world_size)
    run.look = Lookout(context, StopQuestion(board), could_grow)
    try:
        train(run, batches, cursor)
    except StoppedError as error:
        _note_reason(run_uri, context, error)
    except Exception as error:
        _note_what_stays(run_uri, error)
        raise
    finally:
        close_run(run, batches)


def follow_store(run: Run, store: CheckpointStore) -> None:
    """Have the run wait for its ``store`` at its end, and note what that warns of. On rank 0, whose store it is."""
    log, warn = run.metrics_log, store.warn
    if log is None:
        return

    def told_and_noted(said: str) -> None:
        warn(said)
        with suppress(StorageError, OSError):  # more often than not of the store that it is about
            log.note("warning", name="checkpoint", said=said)

    store.warn, run.settle = told_and_noted, store.settle


def _check_shared(lease: Lease | None) -> None:
    """Raise NodeError where this node doesn't see what the driver has written into the folder of its run, or search.

    And LeaseLostError where another driver holds that by now.
    """
    if lease is None:
        return
    try:
        check(lease)
    except LeaseLostError as error:
        if error.fence > lease.fence:
            raise
        # Nobody's, or of an older run of this name: on this node's own disk.
        here = f"{locations.public(lease.run_uri)} on {socket.gethostname()}"
        raise NodeError(
            f"{here} is not the driver's folder: --storage should be an object store, or a folder that all nodes share"
        ) from None


def _nobody(_: object) -> None:
    """Who is told of a run's progress where there is no board, and on all ranks but the first."""


def close_run(run: Run, batches: RankBatches) -> None:
    """Ends a run's stream, now: one that is left to the interpreter's end can hang it. Writes what is left."""
    try:
        batches.close()
    finally:
        for part in (run.tensorboard, run.metrics_log):
            try:
                if part is not None:
                    part.close()
            except (StorageError, OSError) as error:
                run.warn(f"{error}: the last curves are not there")


def _note_reason(run_uri: str, context: Context, error: BaseException) -> None:
    if context.rank == 0:
        note_reason(run_uri, one_line(error))


def _note_what_stays(run_uri: str, error: BaseException) -> None:
    if reason := reason_to_stop(error):
        note_reason(run_uri, reason)


@at_rest()  # with its first optimiser torch imports its compiler
def prepare_run(
    experiment: Experiment,
    run_uri: str,
    context: Context,
    *,
    checkpoint: Path | None,
    report_at: Sequence[int] = (),
    progress: Callable[[dict[str, float]], object] = _nobody,
    warn: Callable[[str], object] = _nobody,
    memory: RowGroupsInMemory | None = None,
) -> tuple[Run, RankBatches, Cursor]:
    """The run, its stream from the checkpoint's cursor on, and the cursor.

    The stream is read as ``data.read`` says, or from ``memory``. Raises ValueError on every rank or on none, and
    NodeError where this rank's node lacks something.
    """
    torch.set_num_threads(experiment.scaling.threads_per_worker)
    torch.manual_seed(experiment.seed)
    quiet_ray_data()

    with on_this_node():  # the request has passed the driver: what is wrong here is this node's dataset
        manifest = load_manifest(experiment.data.uri)
        plan = training_plan(experiment, manifest)
        cursor = first_cursor(experiment, manifest, plan)
        if context.agree(cursor) != cursor:
            raise ValueError(
                f"{locations.public(experiment.data.uri)} holds another dataset than on rank 0's node"
            )
    categories = stream_categories(manifest, experiment.data.categories)
    total = experiment.train.total_drawings(plan.rows)
    if checkpoint is not None:
        cursor = load_cursor(checkpoint, cursor)
    # Before the nets are built, since it takes seconds to start, most of them spent elsewhere.
    batches = _stream_from(cursor, plan, total, experiment.data, context, memory)
    try:
        with on_this_node(ImportPathError):
            task = build_task(experiment, manifest, categories, context)
        if checkpoint is not None:
            _go_on(task, load_state(checkpoint, context.device), run_uri)
        else:
            task.begin()
        run = Run(
            task=task,
            config=experiment.train,
            context=context,
            uri=run_uri,
            total_drawings=total,
            experiment=experiment.model_dump(mode="json"),
            meta=about_data(experiment.data.uri, manifest, categories, plan.rows),
            held_out=lambda: held_out(experiment, manifest, context, memory),
            report_at=tuple(report_at),
            progress=progress,
            warn=warn,
            stop_at_failures=experiment.gan.failures.stop,
            audit=_audit(run_uri, context) if experiment.data.audit else None,
            tensorboard=_tensorboard(run_uri, experiment, cursor) if context.rank == 0 else None,
            metrics_log=MetricsLog(run_uri, cursor.drawings_seen, context.check_writer)
            if context.rank == 0
            else None,
            step=steps_of(task, experiment, context.device, context.world_size),
        )
        if run.metrics_log:
            _note_start(run.metrics_log, run_uri, experiment, context)
    except BaseException:
        batches.close()
        raise
    return run, batches, cursor


def _audit(run_uri: str, context: Context) -> AuditWriter:
    """The audit of this start of the worker group: rank 0 looks which one it is, and tells the others."""
    attempt = context.agree(next_attempt(run_uri) if context.rank == 0 else 0)
    return AuditWriter(run_uri, attempt, context.rank)


def _go_on(task: Task, state: dict[str, object], run_uri: str) -> None:
    """Give the task a checkpoint's state. Raises ValueError where it is of other nets or optimisers."""
    try:
        task.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
            raise
        raise ValueError(
            f"{locations.public(run_uri)} was begun with another task, other nets or other optimisers than these: "
            f"{one_line(error, _DIFFERENCE_LENGTH)}; give this one another --run"
        ) from error


_DIFFERENCE_LENGTH = 200


def _stream_from(
    cursor: Cursor,
    plan: StreamPlan,
    total_drawings: int,
    config: DataConfig,
    context: Context,
    memory: RowGroupsInMemory | None,
) -> RankBatches:
    return rank_batches(
        plan,
        rank=context.rank,
        world_size=context.world_size,
        epoch=cursor.epoch,
        consumed=cursor.consumed,
        epochs=-(-total_drawings // plan.rows),
        buffer_bytes=config.buffer_bytes,
        threads=config.raster_threads,
        memory=memory,
        draw=rasteriser_on(context.device, plan),
    )


def _note_start(log: MetricsLog, run_uri: str, experiment: Experiment, context: Context) -> None:
    """Write down with which settings, and on what, this start trains."""
    storage.write_atomic(locations.join(run_uri, CONFIG), to_toml(experiment).encode())
    scaling, device = experiment.scaling, context.device
    log.note(
        "started",
        workers=context.world_size,
        cpus_per_worker=scaling.cpus_per_worker,
        gpus_per_worker=scaling.gpus_per_worker,
        device=device_name(device),
    )
    log.flush()


def rasteriser_on(device: torch.device, plan: StreamPlan) -> Rasteriser | None:
    """What draws a stream's strokes, where that is the worker's device; None: the CPU, or pixels need no drawing.

    Raises NodeError where the device can't.
    """
    if plan.rasterize != "device" or plan.kind == "pixels":
        return None
    with on_this_node():
        try:
            from doodle_dist.data.raster_cuda import check_device, rasterize_packed_on
        except ImportError as error:
            raise ValueError(
                f"data.rasterize=device needs triton, which torch's CUDA builds bring: {error}"
            ) from None
        check_device(device, plan.side)

    def draw(buffer: NDArray[np.uint8], offsets: NDArray[np.int32], side: int) -> torch.Tensor:
        return rasterize_packed_on(buffer, offsets, device, side=side)

    return draw


def about_data(uri: str, manifest: Manifest, categories: tuple[str, ...], drawings: int) -> dict[str, object]:
    """What a snapshot says of its pictures, and of the dataset that it was trained on, ``drawings`` of it."""
    return {
        "categories": list(categories),
        "side": manifest.side,
        "channels": manifest.channels,
        "data": AboutData(
            uri=locations.public(uri),
            manifest_sha256=storage.sha256_of(locations.join(uri, MANIFEST)),
            sources=sorted({source.kind for source in manifest.sources}),
            drawings=drawings,
        ),
    }


def held_out(
    experiment: Experiment, manifest: Manifest, context: Context, memory: RowGroupsInMemory | None
) -> Generator[Batch, None, None]:
    """This rank's part of the drawings that the run is judged on: the same ones for any number of ranks.

    Nothing is read before the first batch is asked for. Who has enough of them closes it, and with it the stream.
    """
    plan, wanted = held_out_plan(experiment, manifest), experiment.train.held_out_drawings
    if plan.rows < context.world_size or plan.lanes < context.world_size:
        return  # on every rank alike: there isn't one for each
    batches = rank_batches(
        plan,
        rank=context.rank,
        world_size=context.world_size,
        drawings=wanted,
        memory=memory,
        draw=rasteriser_on(context.device, plan),
    )
    try:
        yield from first_drawings(plan, batches, wanted)
    finally:
        batches.close()


TASKS: dict[str, type[ClassifierTask] | type[GanTask] | type[CriticTask]] = {
    "classifier": ClassifierTask,
    "gan": GanTask,
    "critic": CriticTask,
}


def build_task(
    experiment: Experiment, manifest: Manifest, categories: tuple[str, ...], context: Context
) -> Task:
    """The experiment's task on this worker's device, its losses wrapped for this number of workers."""
    counts = dict(zip(manifest.categories, manifest.splits["train"].counts, strict=True))
    return TASKS[experiment.task](
        experiment,
        DataShape(categories, tuple(counts[name] for name in categories), manifest.side, manifest.channels),
        device=context.device,
        world_size=context.world_size,
        wrap=_wrap(context),
    )


def _wrap(context: Context) -> Wrap:
    return as_it_is if context.world_size == 1 else partial(data_parallel, device=context.device)


def _tensorboard(run_uri: str, experiment: Experiment, cursor: Cursor) -> TensorBoard:
    board = TensorBoard(run_uri, cursor.drawings_seen)
    if cursor.drawings_seen == 0:
        text = orjson.dumps(experiment.model_dump(mode="json"), option=orjson.OPT_INDENT_2).decode()
        board.text("config", f"```json\n{text}\n```")
    return board
