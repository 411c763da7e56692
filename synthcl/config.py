"""Every knob of synthcl: type, bounds, unit and one line of documentation.

A `Config` is frozen and complete: a preset (YAML) plus overrides (`path.to.field=value`) give one,
`config.json` beside a run records it, and what is in it is what is used: no value is rescaled later.

One *image* is the unit of work: two encoded views. A step of `training.batch_images` images encodes
`2 * batch_images` views whatever the mix of real and synthetic, so arms compared at equal images are
compared at equal optimiser steps and at equal views.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from synthcl.errors import UserError
from synthcl.secrets import first_secret

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A frozen group of knobs that refuses unknown names, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Schedule(Section):
    """A value as a function of progress; `synthcl.curriculum.value` evaluates it."""

    kind: Literal["constant", "linear", "cosine", "step", "exponential"] = Field(
        "constant", description="shape of the ramp from start to end; constant stays at start"
    )
    start: float = Field(description="value before the ramp, and the constant's value")
    end: float | None = Field(None, description="value after the ramp; none means start")
    ramp_begin: Fraction = Field(0.0, description="progress (fraction of all images) where the ramp begins")
    ramp_end: Fraction = Field(1.0, description="progress where the ramp ends; a step jumps at ramp_begin")

    @model_validator(mode="after")
    def _ramp_is_ordered(self) -> Schedule:
        if self.ramp_begin > self.ramp_end:
            raise ValueError(f"ramp_begin {self.ramp_begin} is after ramp_end {self.ramp_end}")
        if self.kind == "exponential" and not (self.start > 0 and self.last > 0):
            raise ValueError("an exponential ramp needs start and end above 0")
        return self

    @property
    def last(self) -> float:
        """The value at the end of training."""
        return self.start if self.end is None or self.kind == "constant" else self.end

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value the schedule takes (every kind is monotone)."""
        return min(self.start, self.last), max(self.start, self.last)


class DataConfig(Section):
    source: str = Field("fashion-mini", description="data set by name; see synthcl.data.SOURCES")
    root: str = Field("data", description="folder of torchvision data sets, or of an ImageFolder")
    download: bool = Field(False, description="let torchvision download the data set into root")
    image_size: int = Field(28, ge=16, le=512, description="pixels a side; images are resized to it once")
    channels: Literal[1, 3] = Field(1, description="grey (1) or RGB (3); images are converted")
    validation_fraction: float = Field(0.2, gt=0, lt=1, description="share of train held out for every choice")
    split_seed: int = Field(
        0, ge=0, description="seed of every draw from the data: the cuts, which images, which labels"
    )
    image_fraction: float = Field(1.0, gt=0, le=1, description="share of the training images used unlabelled")
    resident_limit_mib: Positive = Field(2048.0, description="above this many MiB as uint8, images stream from disk")
    loader_workers: int = Field(2, ge=0, description="decoding processes for streamed images")


class ViewsConfig(Section):
    """The stochastic view T(.); ranges as in SimCLR (Chen et al. 2020, appendix A) at strength 1."""

    size: int | None = Field(None, ge=8, le=512, description="pixels a side of a view; none means data.image_size")
    crop_area_min: float = Field(0.2, gt=0, le=1, description="smallest crop, as a share of the image's area")
    crop_ratio_max: float = Field(4 / 3, ge=1, description="aspect ratio is log-uniform in [1/max, max]")
    flip_probability: Fraction = 0.5
    jitter_probability: Fraction = 0.8
    brightness: float = Field(0.4, ge=0, le=1, description="factor uniform in [1-b, 1+b]")
    contrast: float = Field(0.4, ge=0, le=1, description="factor uniform in [1-c, 1+c]")
    saturation: float = Field(0.4, ge=0, le=1, description="factor uniform in [1-s, 1+s]")
    hue: float = Field(0.1, ge=0, le=0.5, description="rotation uniform in [-h, h] turns")
    grayscale_probability: Fraction = 0.2
    blur_probability: Fraction = 0.0
    blur_sigma_min: Positive = Field(0.1, description="pixels")
    blur_sigma_max: Positive = Field(1.0, description="pixels")

    @model_validator(mode="after")
    def _sigma_is_ordered(self) -> ViewsConfig:
        if self.blur_sigma_min > self.blur_sigma_max:
            raise ValueError(f"blur_sigma_min {self.blur_sigma_min:g} is above blur_sigma_max {self.blur_sigma_max:g}")
        return self


class EncoderConfig(Section):
    name: Literal["conv", "resnet18", "resnet50"] = Field("conv", description="architecture")
    width: Count = Field(32, description="the conv encoder's stages have 1/2, 1, 2 and 4 times this many channels")
    stem: Literal["cifar", "imagenet"] = Field("cifar", description="ResNet stem: 3x3 stride 1, or 7x7 with pooling")
    projector_hidden: Count = Field(256, description="hidden units of the projector")
    projector_dim: Count = Field(64, description="dimensions of the embedding the loss sees")


class GanConfig(Section):
    latent_dim: Count = Field(64, description="dimensions of the Gaussian latent z")
    generator_width: Count = Field(8, description="channels of G at full resolution; doubled at each halving, up to 8x")
    discriminator_width: Count = Field(16, description="channels of D at half resolution; doubled likewise")
    generator: str | None = Field(None, description="'module:callable' giving your own forward(z) -> images in [0, 1]")
    image_size: int | None = Field(None, ge=8, le=128, description="pixels G makes; none means data.image_size")
    loss: Literal["hinge", "relativistic"] = Field("hinge", description="adversarial loss")
    spectral_norm: bool = Field(True, description="spectral normalisation of D (Miyato et al. 2018)")
    gradient_penalty: float = Field(0.0, ge=0, description="weight of R1 (hinge) or R1 + R2 (relativistic)")
    augment_strength: Fraction = Field(0.2, description="strength of the differentiable augmentation D looks through")
    generator_learning_rate: Positive = Field(1e-3, description="in the joint training")
    discriminator_learning_rate: Positive = Field(1e-3, description="in the joint training")
    beta1: float = Field(0.0, ge=0, lt=1, description="Adam's first moment decay, both networks")
    beta2: float = Field(0.99, ge=0, lt=1, description="Adam's second moment decay, both networks")
    warmup_kimg: float = Field(120.0, ge=0, description="thousand real images D sees before the joint training")
    warmup_passes_max: float | None = Field(
        None,
        gt=0,
        description="the warm-up ends after so many passes over the unlabelled images; none sets no limit",
    )
    warmup_batch_images: Count = Field(64, description="images a step of the warm-up")
    warmup_half_life_kimg: Positive = Field(5.0, description="half-life of the averaged generator of the warm-up")
    warmup_generator_learning_rate: Positive = 4e-3
    warmup_discriminator_learning_rate: Positive = 4e-3


class MethodConfig(Section):
    """Which parts of the method are on; `synthcl.arms` names the useful combinations."""

    frozen: bool = Field(False, description="leave G and D as the warm-up made them")
    pair: bool = Field(True, description="a latent's views are of G(z) and of G_ema(z); else two of G(z)")
    views_per_pair: Literal[2, 4] = Field(
        4, description="views of a pair's latent: two of G(z) and two of G_ema(z), or one of each and twice the latents"
    )
    views_per_image: Literal[2, 4] = Field(2, description="views of a real image; 4 halves the number of real images")
    update: Literal["simultaneous", "alternating"] = Field(
        "simultaneous", description="one backward pass for encoder and G, or one after the other"
    )
    hardness_unit: Literal["weight", "gradient_ratio"] = Field(
        "gradient_ratio",
        description="hardness weighs the contrastive loss, or sets |its gradient| / |realism's gradient| at the images",
    )

    @property
    def views_per_latent(self) -> int:
        """Views of one latent."""
        return self.views_per_pair if self.pair else 2

    @property
    def views_per_sample(self) -> int:
        """Views of one generated image, G(z) or G_ema(z)."""
        return self.views_per_latent // 2 if self.pair else 2


class CurriculumConfig(Section):
    hardness: Schedule = Field(Schedule(start=0.5), description="how strongly G maximises the contrastive loss")
    pair_half_life_kimg: Schedule = Field(Schedule(start=10.0), description="half-life of G_ema, in thousand images")
    synthetic_fraction: Schedule = Field(Schedule(start=0.5), description="share of the views that are synthetic")
    view_strength: Schedule = Field(Schedule(start=1.0), description="strength of T; 1 is the views section as it is")

    @model_validator(mode="after")
    def _within_bounds(self) -> CurriculumConfig:
        limits = {
            "hardness": (0.0, float("inf")),
            "pair_half_life_kimg": (1e-6, float("inf")),
            "synthetic_fraction": (0.0, 1.0),
            "view_strength": (0.0, 2.0),
        }
        for name, (low, high) in limits.items():
            smallest, largest = getattr(self, name).bounds
            if smallest < low or largest > high:
                raise ValueError(f"{name} goes from {smallest:g} to {largest:g}; it must stay in [{low:g}, {high:g}]")
        return self


class TrainingConfig(Section):
    kimg: Positive = Field(100.0, description="budget: thousand images; one image is two encoded views")
    batch_images: int = Field(256, ge=4, description="images a step over all workers; twice as many views")
    temperature: float = Field(0.2, gt=0, le=10)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = Field(1e-3, description="peak; linear warm-up, then cosine to 0; never rescaled")
    momentum: float = Field(0.9, ge=0, lt=1, description="for sgd")
    weight_decay: float = Field(1e-4, ge=0)
    warmup_fraction: Fraction = Field(0.05, description="share of the budget over which the learning rate rises")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 uses autocast for encoder, G and D")
    compile: bool = Field(
        False, description="torch.compile encoder, projector, G and, where gan.gradient_penalty is 0, D"
    )
    log_kimg: Positive = Field(5.0, description="thousand images between two logged points")
    checkpoint_minutes: Positive = Field(10.0, description="longest time between two checkpoints")
    seed: int = Field(0, ge=0, description="seed of everything random in a run")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole budget."""
        return max(1, round(self.kimg * 1000 / self.batch_images))


class HealthConfig(Section):
    """When a run has failed: losses that are not finite, a collapsed network, or a game that D has won outright.

    A limit that is passed at every logged point of the longer of the patiences, five points or more, fails the run;
    the features' rank does so at once, at a rung. Healthy runs stay far from the limits: embeddings with a
    variance above 0.5, features of rank 9 and more, a diversity above 0.05 even after a warm-up of seconds.
    """

    on_failure: Literal["end", "rollback"] = Field(
        "end", description="a failed run ends, or goes back to its last good checkpoint with lower learning rates"
    )
    rollbacks: Count = Field(2, description="how often a run may go back; then a failure ends it")
    rollback_rate: float = Field(0.5, gt=0, lt=1, description="all learning rates after a rollback, over those before")
    patience_fraction: Fraction = Field(0.1, description="share of the budget for which a limit must be passed")
    patience_kimg: float = Field(2.0, ge=0, description="thousand images for which a limit must be passed")
    embedding_variance_min: Fraction = Field(0.02, description="encoder: total variance of the embeddings, 1 at most")
    feature_rank_min: float = Field(2.0, ge=0, description="encoder: effective rank of its features at a rung")
    diversity_min: float = Field(0.01, ge=0, description="generator, unless frozen: see synthcl.joint.watch")
    discriminator_accuracy_max: Fraction = Field(0.999, description="D has won above it; 1 never says so")


class EvaluationConfig(Section):
    rungs: tuple[float, ...] = Field(
        (0.125, 0.25, 0.5, 1.0), description="progress at which a run is scored on validation; the last is 1"
    )
    label_fractions: tuple[float, ...] = Field(
        (1.0, 0.1, 0.01),
        description="what linear probes are fitted on: shares of the training labels in (0, 1], or above 1 numbers of "
        "labels; the most of them give the search's score",
    )
    knn_neighbours: Count = 20
    transfer: tuple[str, ...] = Field(("digits",), description="data sets whose labels a frozen encoder is probed with")
    max_label_images: int | None = Field(
        None, ge=1, description="most labelled images of any probe (kNN, ridge and transfer too); none means all"
    )
    early_label_images: Count = Field(2000, description="likewise at rungs before the last")
    batch_images: Count = Field(500, description="images encoded at a time")

    @model_validator(mode="after")
    def _fractions_make_sense(self) -> EvaluationConfig:
        if list(self.rungs) != sorted(set(self.rungs)) or not self.rungs or self.rungs[-1] != 1 or self.rungs[0] <= 0:
            raise ValueError(f"rungs {list(self.rungs)} must rise, start above 0 and end at 1")
        entries = list(self.label_fractions)
        if not entries or any(entry <= 0 or (entry > 1 and entry != int(entry)) for entry in entries):
            raise ValueError(f"label_fractions {entries} must lie in (0, 1], or be whole numbers of labels above 1")
        if self.max_label_images and self.max_label_images < self.headline and self.headline > 1:
            raise ValueError(
                f"max_label_images {self.max_label_images} is below the {self.headline:.0f} labels of label_fractions "
                f"{entries}; write {self.headline:.0f} or more, or none"
            )
        return self

    @property
    def by_labels(self) -> list[float]:
        """The entries of `label_fractions` from the most labels to the fewest: all, numbers, then smaller shares."""
        return sorted(self.label_fractions, key=lambda entry: math.inf if entry == 1 else entry, reverse=True)

    @property
    def headline(self) -> float:
        """The entry with the most labels: its probe is the search's linear score."""
        return self.by_labels[0]


class SearchConfig(Section):
    trials: Count = Field(8, description="configurations Optuna proposes, the preset's own first")
    space: str = Field("curriculum", description="name of a file in tune/spaces, or a path to one")
    objective: Literal["linear", "transfer", "weighted"] = Field("linear", description="what a trial is chosen by")
    transfer_weight: Fraction = Field(0.5, description="share of transfer in the weighted objective")
    reduction_factor: float = Field(2.0, gt=1, description="ASHA keeps one in this many at every rung")
    startup_trials: int = Field(
        4, ge=0, description="random trials after the preset's own, before TPE models the space"
    )
    confirm_top: Count = Field(2, description="best configurations retrained on fresh seeds")
    confirm_seeds: int = Field(3, ge=1, description="fresh seeds a configuration and baseline")
    seed: int = Field(0, ge=0, description="seed of sampler and scheduler")


class ComputeConfig(Section):
    storage: str = Field("runs", description="folder or URI (s3://...) under which the run's folder is made")
    address: str | None = Field(None, description="Ray cluster to join; none starts Ray on this machine")
    workers_per_trial: Count = Field(1, description="data-parallel processes a trial")
    min_workers_per_trial: int | None = Field(
        None, ge=1, description="as few as a trial goes on with while nodes are missing; none means all"
    )
    cpus_per_worker: Positive = 1.0
    gpus_per_worker: float | None = Field(
        None, ge=0, description="a fraction only for trials of one worker; none means 1 where a GPU exists"
    )

    @model_validator(mode="after")
    def _workers_of_a_trial_share_no_gpu(self) -> ComputeConfig:
        gpus = self.gpus_per_worker or 0
        if self.workers_per_trial > 1 and gpus != int(gpus):
            raise ValueError(
                f"gpus_per_worker {gpus:g} is a fraction, and NCCL refuses two of the {self.workers_per_trial} workers "
                "of a trial on one GPU; use 1, or compute.workers_per_trial=1"
            )
        return self


class Config(Section):
    """The whole configuration of a run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run's folder")
    data: DataConfig = DataConfig()
    views: ViewsConfig = ViewsConfig()
    encoder: EncoderConfig = EncoderConfig()
    gan: GanConfig = GanConfig()
    method: MethodConfig = MethodConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    training: TrainingConfig = TrainingConfig()
    health: HealthConfig = HealthConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    search: SearchConfig = SearchConfig()
    compute: ComputeConfig = ComputeConfig()

    @model_validator(mode="after")
    def _no_secret_is_kept(self) -> Config:
        if found := first_secret(self.model_dump(mode="json")):
            raise ValueError(
                f"{found[0]} {found[1]!r} holds what looks like a secret, and a config is written beside every run; "
                "give it to every node as an environment variable or a role"
            )
        return self

    @model_validator(mode="after")
    def _sections_agree(self) -> Config:
        workers, batch = self.compute.workers_per_trial, self.training.batch_images
        if batch % (2 * workers):
            raise ValueError(
                f"training.batch_images {batch} must be a multiple of {2 * workers}, "
                f"twice compute.workers_per_trial {workers}"
            )
        if workers % (self.compute.min_workers_per_trial or workers):
            raise ValueError(
                f"compute.min_workers_per_trial {self.compute.min_workers_per_trial} must divide "
                f"compute.workers_per_trial {workers}"
            )
        if self.search.objective != "linear" and not self.evaluation.transfer:
            raise ValueError(
                f"search.objective {self.search.objective!r} needs a data set in evaluation.transfer; "
                "name one or use linear"
            )
        return self

    @property
    def view_size(self) -> int:
        return self.views.size or self.data.image_size

    @property
    def gan_image_size(self) -> int:
        return self.gan.image_size or self.data.image_size

    def digest(self, *sections: str) -> str:
        """First 12 hex digits of the SHA-256 over the named sections (all when none is named)."""
        dump = self.model_dump(mode="json")
        chosen = {name: dump[name] for name in sections} if sections else dump
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]

    def with_overrides(self, overrides: dict[str, Any]) -> Config:
        """A copy with dotted fields replaced, validated anew.

        Args:
            overrides: `{"curriculum.hardness.kind": "linear", ...}`.

        Raises:
            UserError: on an unknown field or a value out of bounds.
        """
        tree = self.model_dump(mode="json")
        for path, value in overrides.items():
            node: Any = tree
            *parents, leaf = path.split(".")
            for part in parents:
                node = node.get(part) if isinstance(node, dict) else None
                if not isinstance(node, dict):
                    raise UserError(
                        f"override {path}={value!r}: there is no field {path!r}; --dry-run lists all fields"
                    )
            if leaf not in node:
                known = ", ".join(sorted(node))
                raise UserError(
                    f"override {path}={value!r}: there is no field {path!r}; {_where(parents)} has: {known}"
                )
            node[leaf] = value
        return validated(tree, "override")


def _where(parents: list[str]) -> str:
    return ".".join(parents) or "the config"


def validated(tree: Any, origin: str) -> Config:
    """The config that a tree of values makes.

    Args:
        tree: sections and their fields.
        origin: where it is from, for the error.

    Raises:
        UserError: naming the first field that is unknown or out of bounds.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"]) or "config"
        message = first["msg"].removeprefix("Value error, ")
        value = first.get("input")
        shown = "" if isinstance(value, dict) or first["type"] == "missing" else f" = {value!r}"
        raise UserError(f"{origin}: {path}{shown}: {message}") from None


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """Turn `["training.kimg=50", ...]` into `{"training.kimg": 50, ...}`; values are YAML.

    Raises:
        UserError: when an argument is not of the form field=value.
    """
    overrides = {}
    for argument in arguments:
        path, separator, text = argument.partition("=")
        if not separator or not path:
            raise UserError(f"argument {argument!r} is not of the form field=value, such as training.kimg=50")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"argument {argument!r}: {text!r} is not a YAML value") from None
        overrides[path] = value  # YAML reads 1e-4 as text; the field's type makes it the number it is
    return overrides
