"""Sections of an experiment that describe optimizers and the average of the weights."""

from typing import Literal, Self

from pydantic import Field, model_validator

from doodle_dist.config.model import Section


class OptimizerConfig(Section):
    """``[optim.generator]``, ``[optim.critic]``, ``[optim.classifier]``"""

    name: Literal["adam", "adamw", "sgd", "rmsprop"] = Field("adam", description="torch.optim's")
    lr: float = Field(gt=0, le=10, description="learning rate at its highest")
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's first decay; SGD's and RMSprop's momentum")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's second decay, RMSprop's alpha, at the start")
    beta2_end: float | None = Field(
        None, ge=0, lt=1, description="Adam's second decay at the end of the run (cosine); none: constant"
    )
    eps: float = Field(1e-8, gt=0, le=1, description="added to the root of the second moment")
    weight_decay: float = Field(0.0, ge=0, le=10, description="L2 penalty (adamw: decoupled decay)")
    clip_norm: float | None = Field(None, gt=0, description="largest L2 norm of the gradient; none: any")
    schedule: Literal["constant", "linear", "cosine", "one-cycle", "inverse-time"] = Field(
        "constant", description="course of lr over the run, after the warm-up"
    )
    halving_drawings: float | None = Field(
        None,
        gt=0,
        description="inverse-time: lr / (1 + seen / halving_drawings); Keras' decay of d a step is "
        "global_batch / d",
    )
    warmup_drawings: int = Field(
        0,
        ge=0,
        description="drawings over which lr rises linearly (one-cycle: by a cosine); at most half of the run",
    )
    final_lr_fraction: float = Field(
        1.0, ge=0, le=1, description="lr at the end of the run, as a fraction of lr"
    )

    @model_validator(mode="after")
    def _inverse_time_has_a_length(self) -> Self:
        if (self.schedule == "inverse-time") != (self.halving_drawings is not None):
            raise ValueError("halving_drawings belongs to schedule='inverse-time', and is needed there")
        return self


class EmaConfig(Section):
    """``[ema]``: exponential moving average of the weights, by half-life (EDM2, R3GAN)."""

    halflife_drawings: float = Field(
        0.0, ge=0, description="drawings in which an old weight's share halves; 0: no average"
    )
    rampup_fraction: float | None = Field(
        0.05,
        gt=0,
        le=1,
        description="the half-life is at most this fraction of the drawings seen; none: no ramp",
    )
