"""The experiment: a frozen tree of typed settings, the same for every command and every driver.

Presets and overrides are laid over the defaults in load.py. A component is given its own section only.
"""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from doodle_dist.config.gan import (
    LOSSES_WITH_TARGETS,
    AdversarialConfig,
    FailuresConfig,
    LabelConfig,
    NoiseConfig,
    UpdatesConfig,
)
from doodle_dist.config.model import (
    AugmentConfig,
    ClassifierConfig,
    CriticConfig,
    GeneratorConfig,
    Section,
    StrokeAugmentConfig,
)
from doodle_dist.config.optim import EmaConfig, OptimizerConfig
from doodle_dist.reading import Rasterize, Read


class DataConfig(Section):
    uri: str = Field("", description="prepared dataset; empty means the one that DOODLE_DATA names")
    categories: tuple[str, ...] = Field((), description="train on these only; empty means all")
    lanes: int = Field(8, ge=1, description="virtual lanes of the stream: the most workers a run can have")
    window_bytes: int = Field(
        50 << 20,
        ge=1,
        le=100 << 20,
        description="drawings (strokes, or pixels) that are read at once; 131,072 of them at most where the "
        "worker reads or they lie in an object store",
    )
    read: Read = Field(
        "auto",
        description="who reads the dataset: Ray Data's tasks, on whatever node has free cores; or a thread of the "
        "worker, which takes less of all cores together; auto: the worker where one node has all cores",
    )
    rasterize: Rasterize = Field(
        "worker",
        description="who rasterises strokes: threads of the worker; Ray Data's tasks, on whatever node has "
        "free cores (eight times the bytes travel); or the worker's GPU",
    )
    raster_threads: int = Field(1, ge=1, le=64, description="threads of a worker that rasterise")
    buffer_bytes: int = Field(
        512 << 20, ge=1 << 20, description="object store that a rank's stream may hold, where Ray Data reads"
    )
    audit: bool = Field(False, description="write the key_ids of every step beside the run")
    strokes: StrokeAugmentConfig = StrokeAugmentConfig()

    @model_validator(mode="after")
    def _tasks_rasterise_what_they_read(self) -> Self:
        if self.rasterize == "tasks" and self.read == "worker":
            raise ValueError(
                "data.rasterize=tasks needs Ray Data's tasks to read; with data.read=worker: worker, device"
            )
        return self


class TrainConfig(Section):
    global_batch: int = Field(256, ge=1, description="drawings a step, over all workers")
    epochs: float | None = Field(None, gt=0, description="length, in passes over the training split")
    drawings: int | None = Field(None, gt=0, description="length, in drawings seen")
    log_every_drawings: int = Field(5_000, ge=1, description="drawings between two lines of the log")
    checkpoint_every_drawings: int = Field(
        100_000, ge=0, description="evaluate and checkpoint; 0: only at the end"
    )
    pictures_every_drawings: int = Field(
        0, ge=0, description="draw the sample grid so often as well; 0: only at checkpoints"
    )
    keep_checkpoints: int = Field(3, ge=1, description="the best so many; the latest is kept as well")
    held_out_drawings: int = Field(20_000, ge=1, description="at most so many for an evaluation")
    max_failures: int = Field(
        3,
        ge=0,
        description="how often dead workers are replaced, counted anew (but in a search) once the run has come further",
    )
    cuda_graphs: bool = Field(
        False,
        description="record steps and replay them whole, where one worker has a GPU; elsewhere they are taken one "
        "by one. beta2_end moves in thousandths then. Not yet tried on a GPU",
    )

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.drawings is None):
            raise ValueError("give one of train.epochs and train.drawings")
        return self

    def total_drawings(self, split_rows: int) -> int:
        """The run's length in drawings seen, for a training split of ``split_rows``."""
        return self.drawings if self.drawings is not None else max(1, round((self.epochs or 0) * split_rows))


class ModelConfig(Section):
    generator: GeneratorConfig | None = None
    critic: CriticConfig | None = None
    classifier: ClassifierConfig | None = None
    augment: AugmentConfig = AugmentConfig()


class ClassifierTaskConfig(Section):
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="share of the target spread over all labels")
    prior_adjustment: float = Field(
        0.0,
        ge=0,
        le=2,
        description="weight of the log prior added to the logits in training; 1 optimises balanced accuracy "
        "where categories differ in size (Menon et al. 2021, eq. 10), 0 plain accuracy",
    )


class GanConfig(Section):
    adversarial: AdversarialConfig = AdversarialConfig()
    updates: UpdatesConfig = UpdatesConfig()
    labels: LabelConfig = LabelConfig()
    noise: NoiseConfig = NoiseConfig()
    failures: FailuresConfig = FailuresConfig()
    critic_from: str = Field(
        "", description="a run of task critic whose critic this one starts from; empty: it starts anew"
    )
    judge: str = Field(
        "", description="a classifier run that reads the samples at each checkpoint; empty: none does"
    )
    samples_per_category: int = Field(8, ge=1, description="columns of the sample grid")

    @model_validator(mode="after")
    def _targets_have_a_use(self) -> Self:
        loss = self.adversarial.loss
        if loss not in LOSSES_WITH_TARGETS and self.labels != LabelConfig():
            raise ValueError(
                f"gan.labels has no use with gan.adversarial.loss={loss!r}; targets belong to "
                + " and ".join(LOSSES_WITH_TARGETS)
            )
        return self


class PretrainingConfig(Section):
    """``[pretraining]``: task critic, which learns to tell the drawings of some categories from all others."""

    positive: tuple[str, ...] = Field((), description="categories that count as real")


class OptimConfig(Section):
    generator: OptimizerConfig | None = None
    critic: OptimizerConfig | None = None
    classifier: OptimizerConfig | None = None


# Of sums of cores that are no whole numbers: 25 workers of 2.2 take no more than 55.
ROUNDING = 1e-9


def whole_workers(cpus: float, gpus: float, cpus_each: float, gpus_each: float) -> int:
    """How many workers a node of ``cpus`` and ``gpus`` holds, each whole, with a share of one GPU or whole ones."""
    fit = math.floor(cpus / cpus_each + ROUNDING)
    if gpus_each:
        # A share is of one GPU: two hold four workers of 0.4, not five.
        whole = math.floor(gpus + ROUNDING)
        parts = (*[1.0] * whole, gpus - whole) if gpus_each < 1 else (gpus,)
        fit = min(fit, sum(math.floor(part / gpus_each + ROUNDING) for part in parts))
    return max(0, fit)


class ScalingConfig(Section):
    workers: int = Field(1, ge=1, description="Ray Train workers; the most, where workers_min is given")
    workers_min: int = Field(
        0, ge=0, description="elastic: as many workers as the cluster holds, at least so many; 0: always all"
    )
    cpus_per_worker: float = Field(1.0, gt=0, description="CPUs that Ray reserves for a worker")
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs that Ray reserves for a worker")
    threads_per_worker: int = Field(1, ge=1, description="torch's CPU threads in a worker")
    grow_every_s: float = Field(
        60.0,
        gt=0,
        description="elastic: how often to look for room for more workers, which begin at a checkpoint",
    )

    @property
    def is_elastic(self) -> bool:
        return 0 < self.workers_min < self.workers

    @property
    def backend(self) -> Literal["nccl", "gloo"]:
        """What ranks talk through. nccl refuses two on one GPU, as shares are; gloo takes tensors on GPUs too."""
        return "nccl" if self.gpus_per_worker >= 1 else "gloo"

    @property
    def least_workers(self) -> int:
        """How many workers a cluster must hold."""
        return self.workers_min or self.workers

    def workers_on(self, cpus: float, gpus: float) -> int:
        """The most workers that Ray could put on a node, each of them whole."""
        return min(whole_workers(cpus, gpus, self.cpus_per_worker, self.gpus_per_worker), self.workers)

    @model_validator(mode="after")
    def _least_is_no_more_than_most(self) -> Self:
        if self.workers_min > self.workers:
            raise ValueError(
                f"scaling.workers_min={self.workers_min} is more than scaling.workers={self.workers}"
            )
        return self


# The nets that a task trains: sections of [model] and of [optim].
PARTS = {"classifier": ("classifier",), "gan": ("generator", "critic"), "critic": ("critic",)}


class Experiment(Section):
    """A resolved experiment: everything a run does follows from it and from the dataset."""

    task: Literal["classifier", "gan", "critic"] = Field(
        description="what is trained: a classifier, a generator and its critic, or a critic alone"
    )
    preset: str = Field("", description="where it came from; for people")
    seed: int = Field(
        0, ge=0, le=2**63 - 1, description="of the weights, the order of drawings, and every random draw"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where a GPU multiplies it, or a CPU by AMX"
    )
    data: DataConfig = DataConfig()
    model: ModelConfig
    classifier: ClassifierTaskConfig = ClassifierTaskConfig()
    gan: GanConfig = GanConfig()
    pretraining: PretrainingConfig = PretrainingConfig()
    optim: OptimConfig
    ema: EmaConfig = EmaConfig()
    train: TrainConfig
    scaling: ScalingConfig = ScalingConfig()
    storage: str = Field(
        "runs",
        description="folder or URI under which runs lie; runs means the one that DOODLE_STORAGE names, if any",
    )
    run: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,127})?$",
        description="the run's name; the same name goes on with the same run",
    )

    @model_validator(mode="after")
    def _parts_of_the_task(self) -> Self:
        for section in ("model", "optim"):
            for part in PARTS[self.task]:
                if getattr(getattr(self, section), part) is None:
                    raise ValueError(f"a {self.task} needs [{section}.{part}]")
        if self.train.global_batch % self.data.lanes:
            raise ValueError(
                f"train.global_batch={self.train.global_batch} must be a multiple of "
                f"data.lanes={self.data.lanes}"
            )
        if self.scaling.workers > self.data.lanes:
            raise ValueError(
                f"scaling.workers={self.scaling.workers} is more than data.lanes={self.data.lanes}; "
                "each worker needs a lane"
            )
        return self
