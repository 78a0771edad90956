"""Sections of an experiment that describe networks and what happens to their pictures.

Every section is frozen and names its units; a component is given its own section and never the whole tree.
Everything that changes during training changes with ``drawings_seen``, so every length is in drawings.
"""

import re
from types import NoneType
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from doodle_dist.config.names import nearest

NONE = "none"  # what None is called where it is written: TOML has no null


class Section(BaseModel):
    """A frozen part of the experiment that refuses unknown keys."""

    # A run is saved as JSON and TOML, and JSON has no infinity.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _none_by_its_name(cls, value: object, info: ValidationInfo) -> object:
        """None for the word, where a setting may be none and has no choice of that name."""
        if value != NONE:
            return value
        assert info.field_name is not None
        kinds = get_args(cls.model_fields[info.field_name].annotation)
        may_be_none = NoneType in kinds and not any(NONE in get_args(kind) for kind in kinds)
        return None if may_be_none else value


GENERATOR_NAMES = (
    "simple-gan",
    "dcgan",
    "doodle-wgan-gp",
    "cdcgan",
    "face-gan",
    "bird-dcgan",
    "image-dcgan",
    "image-simple",
    "sngan",
    "doodle-small",
    "doodle",
)
CRITIC_NAMES = GENERATOR_NAMES
CLASSIFIER_NAMES = ("cnn-small", "doodle-cnn", "resnet")

_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def known_network(names: tuple[str, ...]) -> AfterValidator:
    """Validator of a network's name: one of ``names``, or an import path ``module:Class`` of one's own."""

    def check(name: str) -> str:
        if name in names or _IMPORT_PATH.fullmatch(name):
            return name
        raise ValueError(f"{name!r} is unknown{nearest(name, names)} (or module:Class of your own)")

    return AfterValidator(check)


Normalization = Literal["batch", "instance", "layer", "none"]
Conditioning = Literal["none", "one-hot", "embedding"]
HeadName = Literal["linear", "projection", "auxiliary"]


class GeneratorConfig(Section):
    """``[model.generator]``: where a value is none, the architecture's own, as published."""

    name: Annotated[str, known_network(GENERATOR_NAMES)] = Field(
        "doodle-small", description="entry of registry.GENERATORS, or module:Class"
    )
    width: int | None = Field(
        None,
        ge=4,
        le=2048,
        multiple_of=4,
        description="channels that all others are multiples of; each class says where it has them",
    )
    latent_dim: int = Field(64, ge=1, le=4096, description="components of the latent z")
    latent_distribution: Literal["normal", "uniform"] = Field(
        "normal", description="z from N(0, 1) or from U[-1, 1]"
    )
    conditioning: Conditioning | None = Field(
        None, description="what of the label is concatenated to z (sngan's norms see the label besides)"
    )
    embedding_dim: int = Field(
        32, ge=1, le=4096, description="components of the label's embedding, with conditioning embedding"
    )
    blocks: int | None = Field(
        None, ge=1, le=8, description="residual blocks at each resolution (doodle-small, doodle)"
    )
    normalization: Normalization | None = Field(None, description="in place of the normalisation layers")
    batch_momentum: float | None = Field(
        None, gt=0, le=1, description="BatchNorm: weight of the newest batch in the running statistics"
    )
    batch_eps: float | None = Field(None, gt=0, le=1, description="normalisation: added to the variance")
    init: float | None = Field(
        None, gt=0, le=1, description="std of N(0, init) for the weights of all convolutions and dense layers"
    )


class CriticConfig(Section):
    """``[model.critic]``: where a value is none, the architecture's own, as published."""

    name: Annotated[str, known_network(CRITIC_NAMES)] = Field(
        "doodle-small", description="entry of registry.CRITICS, or module:Class"
    )
    width: int | None = Field(
        None,
        ge=4,
        le=2048,
        multiple_of=4,
        description="channels that all others are multiples of; each class says where it has them",
    )
    feature_dim: int = Field(
        128, ge=1, le=4096, description="features that the head sees (doodle-small, doodle)"
    )
    blocks: int | None = Field(
        None, ge=1, le=8, description="residual blocks at each resolution (doodle-small, doodle)"
    )
    head: HeadName | None = Field(
        None,
        description="linear: one logit, blind to the label; projection: the label's embedding on the "
        "features; auxiliary: a logit and a logit for each category",
    )
    dropout: float | None = Field(None, ge=0, lt=1, description="probability, at the published places")
    normalization: Normalization | None = Field(None, description="in place of the normalisation layers")
    batch_momentum: float | None = Field(
        None, gt=0, le=1, description="BatchNorm: weight of the newest batch in the running statistics"
    )
    batch_eps: float | None = Field(None, gt=0, le=1, description="normalisation: added to the variance")
    spectral_norm: bool | None = Field(
        None, description="divide each weight by its largest singular value (none: sngan does)"
    )
    init: float | None = Field(
        None, gt=0, le=1, description="std of N(0, init) for the weights of all convolutions and dense layers"
    )


BlockCount = Annotated[int, Field(ge=1, le=64)]


class ClassifierConfig(Section):
    """``[model.classifier]``"""

    name: Annotated[str, known_network(CLASSIFIER_NAMES)] = Field(
        "cnn-small", description="entry of registry.CLASSIFIERS, or module:Class"
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
        1.0, ge=0, le=1, description="share of pictures that are moved, turned, scaled and coloured"
    )
    probability_start: float | None = Field(
        None, ge=0, le=1, description="that share at the start, led to probability by half a cosine"
    )
    ramp_drawings: int | None = Field(
        None, gt=0, description="drawings over which the share is led there; none: the whole run"
    )
    translate_px: float = Field(0.0, ge=0, le=64, description="largest shift along each axis, pixels")
    rotate_deg: float = Field(0.0, ge=0, le=180, description="largest rotation either way, degrees")
    scale_log: float = Field(
        0.0, ge=0, le=1, description="largest |log| of the scale: 0.1 is 0.905 to 1.105 times"
    )
    color: bool = Field(
        False, description="random brightness, saturation and contrast, as far as DiffAugment goes"
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
