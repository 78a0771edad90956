"""The training stream that an experiment asks for. Without torch, so that a driver can check it at once."""

from doodle_dist.config.experiment import Experiment
from doodle_dist.data.schema import Manifest
from doodle_dist.data.stream_plan import TASK_CPUS, StreamPlan, plan_stream
from doodle_dist.data.stroke_augment import StrokeAugment


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


def task_cpus(experiment: Experiment) -> float:
    """Workers that grow with a cluster take every CPU that it has: Ray Data's tasks then ask for none."""
    return 0.0 if experiment.scaling.is_elastic else TASK_CPUS
