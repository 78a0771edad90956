"""Sections of an experiment that describe how a generator and a critic are trained against each other."""

from typing import Literal, Self

from pydantic import Field, model_validator

from doodle_dist.config.model import Section

LossName = Literal["non-saturating", "least-squares", "hinge", "wasserstein", "relativistic"]
LOSSES_WITH_TARGETS: tuple[LossName, ...] = ("non-saturating", "least-squares")


class NoiseConfig(Section):
    """``[gan.noise]``: Gaussian noise added to the critic's inputs, real and generated."""

    sigma_start: float = Field(
        0.0, ge=0, le=10, description="standard deviation at the start, pictures in [-1, 1]"
    )
    decay: Literal["none", "linear", "exponential"] = Field(
        "none", description="how sigma falls with drawings seen"
    )
    decay_drawings: int | None = Field(
        None, gt=0, description="linear: drawings until sigma is 0; exponential: drawings in which it halves"
    )

    @model_validator(mode="after")
    def _decay_has_a_length(self) -> Self:
        if self.decay != "none" and self.decay_drawings is None:
            raise ValueError(f"decay={self.decay!r} needs decay_drawings, a positive number of drawings")
        return self


class LabelConfig(Section):
    """``[gan.labels]``: targets of the losses that have some, uniform between low and high.

    On logits a target above 1 has no minimum (the logit of a real drawing can grow without bound), so
    ``clip`` keeps them at 1 or less; ``clip=false`` gives the published ranges as they are.
    """

    real_low: float = Field(1.0, ge=0, le=2, description="lowest target of a real drawing")
    real_high: float = Field(1.0, ge=0, le=2, description="highest target of a real drawing")
    fake_low: float = Field(0.0, ge=0, le=2, description="lowest target of a generated picture")
    fake_high: float = Field(0.0, ge=0, le=2, description="highest target of a generated picture")
    generator_low: float = Field(1.0, ge=0, le=2, description="lowest target in the generator's update")
    generator_high: float = Field(1.0, ge=0, le=2, description="highest target in the generator's update")
    clip: bool = Field(True, description="clip every target to at most 1")
    swap: bool = Field(
        False, description="real drawings are 0 and generated pictures 1: every target t becomes 1 - t"
    )
    per: Literal["drawing", "batch"] = Field(
        "drawing", description="one random target per drawing or per global batch"
    )
    fake_flip_probability: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of generated pictures given a real drawing's target, in the critic's update",
    )
    real_flip_probability: float = Field(
        0.0, ge=0, le=1, description="share of real drawings given a generated picture's target"
    )

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for who in ("real", "fake", "generator"):
            low, high = getattr(self, f"{who}_low"), getattr(self, f"{who}_high")
            if low > high:
                raise ValueError(f"{who}_low={low} is above {who}_high={high}")
        return self


class AdversarialConfig(Section):
    """``[gan.adversarial]``: the loss and what keeps the critic in bounds."""

    loss: LossName = Field("relativistic", description="entry of losses.ADVERSARIAL")
    r1_gamma_start: float = Field(
        0.0, ge=0, description="gamma of (gamma/2)|grad critic(real)|^2 at the start"
    )
    r1_gamma_end: float = Field(0.0, ge=0, description="the same at the end of the ramp")
    r2_gamma_start: float = Field(
        0.0, ge=0, description="gamma of (gamma/2)|grad critic(generated)|^2 at the start"
    )
    r2_gamma_end: float = Field(0.0, ge=0, description="the same at the end of the ramp")
    gamma_ramp_drawings: int | None = Field(
        None,
        gt=0,
        description="drawings over which gamma goes from start to end (cosine); none: the whole run",
    )
    gradient_penalty: float = Field(
        0.0, ge=0, description="lambda of lambda (|grad critic(between real and generated)| - 1)^2"
    )
    penalty_every: int = Field(
        1, ge=1, le=1024, description="lazy penalties: in every n-th critic update, multiplied by n"
    )
    penalize_batch_norm: bool = Field(
        False,
        description="allow penalties on a critic with batch statistics, whose gradients are not of one "
        "picture alone, as some published systems have them",
    )
    weight_clip: float | None = Field(
        None, gt=0, description="the critic's weights are clipped to +- this after each of its updates"
    )
    auxiliary_weight: float = Field(
        1.0, ge=0, description="weight of the category's cross-entropy, with an auxiliary head"
    )

    @property
    def has_penalty(self) -> bool:
        """Whether any gradient of the critic by its pictures is penalised, at any time."""
        gammas = (self.r1_gamma_start, self.r1_gamma_end, self.r2_gamma_start, self.r2_gamma_end)
        return max(*gammas, self.gradient_penalty) > 0


class UpdatesConfig(Section):
    """``[gan.updates]``: how often each side is updated, and on which pictures."""

    critic_updates: int = Field(
        1, ge=1, le=1000, description="critic updates for a generator update; each has a step's drawings"
    )
    burst_updates: int | None = Field(
        None, ge=1, le=10_000, description="critic updates for a generator update of a burst"
    )
    burst_first: int = Field(0, ge=0, description="so many generator updates at the start are a burst's")
    burst_every: int | None = Field(
        None, ge=2, description="and so is every n-th generator update, counted from 0"
    )
    critic_batches: Literal["auto", "separate", "combined"] = Field(
        "auto",
        description="real and generated pictures go through the critic one after the other, or as one batch; "
        "auto: separate where the critic has batch statistics",
    )
    generator_batch: int = Field(
        1, ge=1, le=64, description="pictures of a generator update, for each drawing of the step"
    )
    reuse_latents: bool = Field(
        False,
        description="the generator's update takes the critic update's drawings, not those of new latents",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.burst_updates is None and (self.burst_first or self.burst_every):
            raise ValueError("burst_first and burst_every need burst_updates")
        if self.reuse_latents and self.generator_batch > 1:
            raise ValueError("reuse_latents needs generator_batch = 1: there are no more latents to reuse")
        return self


class FailuresConfig(Section):
    """``[gan.failures]``: when a run is warned of. Figures are those of the log, so a window is in logs."""

    stop: bool = Field(False, description="stop the run at a failure, instead of only warning")
    window: int = Field(6, ge=3, le=1000, description="logs that a detector looks back on")
    critic_loss_excess: float = Field(
        0.02, ge=0, description="critic-loss-zero: its loss is within this of the least it could be"
    )
    critic_accuracy: float = Field(
        0.995, gt=0, le=1, description="critic-too-strong: it tells so many real and generated apart"
    )
    gradient_norm: float = Field(100.0, gt=0, description="gradient-norm: a gradient was longer than this")
    critic_loss_spread: float = Field(
        1.0, gt=0, description="critic-loss-variance: standard deviation of its loss over |mean|"
    )
    generator_loss_fall: float = Field(
        0.5, gt=0, le=1, description="generator-loss-falling: share lost, falling at every log of the window"
    )
