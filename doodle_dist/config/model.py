"""Sections of an experiment that describe models, losses, optimizers and schedules.

Every section is frozen and names its units; a component is given its own section and never the whole tree.
Everything that changes during training changes with ``drawings_seen``, so every length is in drawings.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A frozen part of the experiment that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GeneratorConfig(Section):
    """``[model.generator]``"""

    name: Literal["doodle-small", "cdcgan"] = Field(
        "doodle-small", description="entry of registry.GENERATORS"
    )
    width: int = Field(
        96,
        ge=8,
        le=2048,
        multiple_of=4,
        description="channels: doodle-small's at a quarter of the side; cdcgan's at half the side",
    )
    latent_dim: int = Field(64, ge=1, le=4096, description="components of the Gaussian latent z")
    embedding_dim: int = Field(
        32,
        ge=1,
        le=4096,
        description="components of the label's embedding (cdcgan has one-hot labels: unused)",
    )
    blocks: int = Field(
        1, ge=1, le=8, description="residual blocks at each resolution up to half the side (doodle-small)"
    )


class CriticConfig(Section):
    """``[model.critic]``"""

    name: Literal["doodle-small", "cdcgan"] = Field("doodle-small", description="entry of registry.CRITICS")
    width: int = Field(
        32, ge=4, le=2048, multiple_of=4, description="channels at half the side, doubled at a quarter of it"
    )
    feature_dim: int = Field(
        128, ge=1, le=4096, description="features that the label's embedding is projected on (doodle-small)"
    )
    blocks: int = Field(1, ge=1, le=8, description="residual blocks at each resolution (doodle-small)")


BlockCount = Annotated[int, Field(ge=1, le=64)]


class ClassifierConfig(Section):
    """``[model.classifier]``"""

    name: Literal["cnn-small", "doodle-cnn", "resnet"] = Field(
        "cnn-small", description="entry of registry.CLASSIFIERS"
    )
    width: int = Field(
        24,
        ge=4,
        le=1024,
        description="channels of the first convolution; cnn-small has 2 to 4 times as many later, "
        "the others up to 8 times",
    )
    blocks: tuple[BlockCount, BlockCount, BlockCount] = Field(
        (1, 2, 2), description="residual blocks at the whole, half and quarter of the side (resnet)"
    )
    feature_dim: int = Field(
        64, ge=1, le=4096, description="components of the penultimate features; cnn-small's are at most 64"
    )
    dropout: float = Field(
        0.2, ge=0, lt=1, description="probability that a feature is dropped before the last layer"
    )

    @model_validator(mode="after")
    def _few_features_in_a_judge(self) -> Self:
        # Frechet distances need more pictures than there are features, and judges have some thousand.
        if self.name == "cnn-small" and self.feature_dim > 64:
            raise ValueError(f"feature_dim={self.feature_dim}: should be at most 64 for cnn-small")
        return self


class AugmentConfig(Section):
    """``[model.augment]``: random changes on the device, the same for real and generated pictures."""

    probability: float = Field(
        1.0, ge=0, le=1, description="share of pictures that are moved, turned and scaled"
    )
    translate_px: float = Field(0.0, ge=0, le=64, description="largest shift along each axis, pixels")
    rotate_deg: float = Field(0.0, ge=0, le=180, description="largest rotation either way, degrees")
    scale_log: float = Field(
        0.0, ge=0, le=1, description="largest |log| of the scale: 0.1 is 0.905 to 1.105 times"
    )
    cutout_px: int = Field(0, ge=0, le=64, description="side of the blanked square, pixels; 0 is none")
    cutout_probability: float = Field(1.0, ge=0, le=1, description="share of pictures with a blanked square")


class StrokeAugmentConfig(Section):
    """``[data.strokes]``: random changes of training drawings before they are rasterised; none by default.

    Every change is uniform up to what is given, either way. Lengths are in halves of a drawing's larger side.
    """

    probability: float = Field(1.0, ge=0, le=1, description="share of drawings that are changed at all")
    rotate_deg: float = Field(0.0, ge=0, le=180, description="largest rotation, degrees")
    aspect_log: float = Field(0.0, ge=0, le=1, description="largest |log| of the change of width : height")
    shear: float = Field(0.0, ge=0, le=1, description="largest shear: x moves by this share of y")
    bend: float = Field(0.0, ge=0, le=0.2, description="largest smooth warp at the drawing's border")
    stroke_shift: float = Field(0.0, ge=0, le=0.5, description="largest shift of every stroke by itself")
    stroke_scale: float = Field(
        0.0, ge=0, le=1, description="scale of every stroke by itself: 0.1 is 0.9 to 1.1 times"
    )
    drop_stroke_probability: float = Field(
        0.0, ge=0, le=1, description="that a stroke is left out; one always stays"
    )
    drop_stroke_share: float = Field(
        0.25,
        ge=0,
        le=0.9,
        description="at most this share of a drawing, by its strokes' extents, is left out",
    )
    drop_point_probability: float = Field(
        0.0, ge=0, le=1, description="that a point between a stroke's ends is left out"
    )
    unfinished_probability: float = Field(0.0, ge=0, le=1, description="share of drawings that end early")
    unfinished_share: float = Field(
        0.3, ge=0, le=0.9, description="at most this share of the points is missing then"
    )
    flip_probability: float = Field(0.0, ge=0, le=1, description="share of drawings mirrored left for right")


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
    """``[gan.labels]``: the critic's targets for the non-saturating loss, uniform between low and high.

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
    """``[gan.adversarial]``: the loss, its penalties and how often each side is updated."""

    loss: Literal["non-saturating", "hinge", "relativistic"] = Field(
        "relativistic", description="functions of losses.py"
    )
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
    penalty_every: int = Field(
        1, ge=1, le=1024, description="lazy penalties: in every n-th critic update, multiplied by n"
    )
    critic_updates_per_generator_update: int = Field(
        1, ge=1, le=1000, description="critic updates in one step; each takes its own drawings' latents"
    )


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
    schedule: Literal["constant", "linear", "cosine", "one-cycle"] = Field(
        "constant", description="course of lr over the run, after the warm-up"
    )
    warmup_drawings: int = Field(
        0, ge=0, description="drawings over which lr rises linearly (one-cycle: by a cosine)"
    )
    final_lr_fraction: float = Field(
        1.0, ge=0, le=1, description="lr at the end of the run, as a fraction of lr"
    )


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
