"""Where an experiment's data lie, and the streams that it asks for. Without torch: a driver can check it at once."""

from dataclasses import replace

from doodle_dist.config.experiment import Experiment
from doodle_dist.data import locations
from doodle_dist.data.schema import Manifest
from doodle_dist.data.stream_plan import TASK_CPUS, StreamPlan, plan_stream, stream_categories
from doodle_dist.data.stroke_augment import StrokeAugment
from doodle_dist.training.cursor import Cursor


def with_absolute_locations(experiment: Experiment) -> Experiment:
    """Local paths made absolute: workers have other working directories."""
    runs = {"judge": experiment.gan.judge, "critic_from": experiment.gan.critic_from}
    runs = {key: locations.absolute(run) if run else "" for key, run in runs.items()}
    return experiment.model_copy(
        update={
            "storage": locations.absolute(experiment.storage),
            "data": experiment.data.model_copy(update={"uri": locations.absolute(experiment.data.uri)}),
            "gan": experiment.gan.model_copy(update=runs),
        }
    )


def training_plan(experiment: Experiment, manifest: Manifest) -> StreamPlan:
    """The stream of the training split as the experiment asks for it."""
    data = experiment.data
    return plan_stream(
        manifest,
        data.uri,
        "train",
        categories=data.categories,
        seed=experiment.seed,
        lanes=data.lanes,
        global_batch=experiment.train.global_batch,
        window_bytes=data.window_bytes,
        read=data.read,
        rasterize=data.rasterize,
        strokes=StrokeAugment(**data.strokes.model_dump()),
        task_cpus=task_cpus(experiment),
    )


def first_cursor(experiment: Experiment, manifest: Manifest, plan: StreamPlan) -> Cursor:
    """Where a run begins in its stream."""
    categories = stream_categories(manifest, experiment.data.categories)
    return Cursor(
        experiment.seed, plan.global_batch, plan.lanes, categories=categories, data=manifest.train_sha256
    )


# Of a step of the held-out drawings over all ranks, at least: a net's call costs something for a few rows too.
_HELD_OUT_ROWS = 512


def held_out_plan(experiment: Experiment, manifest: Manifest) -> StreamPlan:
    """The stream of the validation split, of which the first ``held_out_drawings`` are judged.

    Its order depends on the experiment alone. Each of its lanes has one of those drawings at least. Workers read them
    themselves, whoever reads what they are trained on: they are few, and Ray Data's tasks take seconds to start.
    """
    data, wanted = experiment.data, experiment.train.held_out_drawings
    plan = plan_stream(
        manifest,
        data.uri,
        "val",
        categories=data.categories,
        global_batch=1,
        window_bytes=data.window_bytes,
        read="worker",
        rasterize="worker" if data.rasterize == "tasks" else data.rasterize,
    )
    lanes = max(1, min(data.lanes, plan.rows, wanted))
    rows = min(max(_HELD_OUT_ROWS, experiment.train.global_batch), wanted)
    return replace(plan, lanes=lanes, global_batch=max(1, rows // lanes) * lanes)


def task_cpus(experiment: Experiment) -> float:
    """Workers that grow with a cluster take every CPU that it has: Ray Data's tasks then ask for none."""
    return 0.0 if experiment.scaling.is_elastic else TASK_CPUS
