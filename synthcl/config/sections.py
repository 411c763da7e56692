"""The sections of a configuration that are not of the method: data, training, health, evaluation, search, compute."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import Field, model_validator

from synthcl.core.plugin import Count, Fraction, GroupSize, Positive, Section
from synthcl.method.curriculum.knobs import learning_rate
from synthcl.method.encoders import AnyEncoder

LabelFree = Literal["rankme", "alpha", "lidar", "alignment", "uniformity", "contrast", "clid", "retrieval", "rotation"]
"""scores of synthcl.evaluation.panel"""


class DataConfig(Section):
    """What is pretrained and probed on."""

    source: str = Field("fashion-mini", description="data set by name; see synthcl.data.SOURCES")
    root: str = Field(
        "data",
        description="folder of torchvision data sets, or of images; for source folder also a list of them (.txt)",
    )
    labels: str = Field(
        "folders",
        description="of source folder: class folders, none at all, or a CSV file with the columns path and label",
    )
    pretrain_on: Literal["train", "all"] = Field(
        "train",
        description="images to pretrain on: those of train without validation, and extra unlabelled ones; or all there "
        "are, validation and test too, after which no score belongs to the encoder and none is made",
    )
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

    @model_validator(mode="after")
    def _labels_are_somewhere(self) -> DataConfig:
        if self.labels not in ("folders", "none") and not self.labels_in_file:
            raise ValueError(f"labels {self.labels!r} must be folders, none, or a file that ends in .csv")
        if self.labels != "folders" and self.source != "folder":
            raise ValueError(f"labels {self.labels!r} are for source folder; {self.source} has its own, write folders")
        return self

    @property
    def labels_in_file(self) -> bool:
        """Whether labels are in a CSV file."""
        return self.labels.endswith(".csv")


class TrainingConfig(Section):
    """Budget, batches and the encoder's optimiser."""

    kimg: Positive = Field(100.0, description="budget: thousand images; one image is two encoded views")
    batch_images: int = Field(256, ge=4, description="images a step over all workers; twice as many views")
    views_per_image: GroupSize = Field(2, description="views of a real image; with 4, half as many real images a step")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="of encoder and heads")
    learning_rate: Positive = Field(1e-3, description="peak; linear warm-up, then cosine to 0; never rescaled")
    momentum: float = Field(0.9, ge=0, lt=1, description="for sgd")
    weight_decay: float = Field(1e-4, ge=0, description="of weights, not of norms and biases")
    warmup_fraction: Fraction = Field(0.05, description="share of the budget over which the learning rate rises")
    slow_half_life_kimg: Positive = Field(
        10.0, description="half-life of the slow encoder, in thousand images, where a term or a teacher needs one"
    )
    restart_at: float | None = Field(
        None, gt=0, lt=1, description="progress at which the encoder's optimiser and learning rate begin anew; or none"
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 uses autocast for encoder, G and D")
    compile: bool = Field(
        False, description="torch.compile encoder, main head, G and, where its gradient_penalty is 0, D"
    )
    log_kimg: Positive = Field(5.0, description="thousand images between two logged points")
    checkpoint_minutes: Positive = Field(10.0, description="longest time between two checkpoints")
    seed: int = Field(0, ge=0, description="seed of everything random in a run")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole budget."""
        return max(1, round(self.kimg * 1000 / self.batch_images))

    @property
    def slow_decay(self) -> float:
        """What the slow encoder keeps of itself in a step."""
        return 0.5 ** (self.batch_images / (1000 * self.slow_half_life_kimg))

    @property
    def restart_step(self) -> int | None:
        """The first step of the second stage, where there are two."""
        if self.restart_at is None:
            return None
        step = math.ceil(self.restart_at * self.steps)
        return step - 1 if (step - 1) / self.steps >= self.restart_at else step  # as schedules compare progress

    def learning_rate_at(self, progress: float) -> float:
        """The encoder's learning rate; each of two stages has a schedule of its own."""
        first = (self.restart_step or 0) / self.steps
        if first:
            progress = progress / first if progress < first else (progress - first) / max(1e-12, 1 - first)
        return learning_rate(self.learning_rate, self.warmup_fraction, progress)


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
    diversity_min: float = Field(0.01, ge=0, description="generator, unless frozen: see training/diagnostics.py")
    discriminator_accuracy_max: Fraction = Field(0.999, description="D has won above it; 1 never says so")


class EvaluationConfig(Section):
    """When and how an encoder is scored."""

    rungs: tuple[float, ...] = Field(
        (0.125, 0.25, 0.5, 1.0), description="progress at which a run is scored on validation; the last is 1"
    )
    label_fractions: tuple[float, ...] = Field(
        (1.0, 0.1, 0.01),
        description="what linear probes are fitted on: shares of the training labels in (0, 1], or above 1 numbers of "
        "labels; the most of them give the search's score",
    )
    knn_neighbours: Count = Field(20, description="whose labels vote, by similarity")
    transfer: tuple[str, ...] = Field(("digits",), description="data sets whose labels a frozen encoder is probed with")
    max_label_images: int | None = Field(
        None, ge=1, description="most labelled images of any probe (kNN, ridge and transfer too); none means all"
    )
    early_label_images: Count = Field(2000, description="likewise at rungs before the last")
    batch_images: Count = Field(500, description="images encoded at a time")
    label_free: tuple[LabelFree, ...] = Field(
        (), description="scores without labels that are logged at rungs, of 1,024 held-out images in 8 views each"
    )
    origin_probe: bool = Field(
        False, description="log at rungs how well a linear probe tells 1,024 real images from as many synthetic ones"
    )
    references: dict[str, AnyEncoder] = Field(
        {}, description="pretrained networks by name, scored frozen beside what a search or a comparison trains"
    )
    reference_image_size: int = Field(224, ge=16, le=512, description="pixels a side of what references are shown")

    @model_validator(mode="after")
    def _references_are_pretrained(self) -> EvaluationConfig:
        for name, encoder in self.references.items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise ValueError(f"references has {name!r}; a name is of letters, digits and . _ -")
            if encoder.weights is None and encoder.kind != "custom":
                raise ValueError(f"references.{name} has random weights, which say nothing; give its weights")
            if encoder.style is not None:
                raise ValueError(f"references.{name} has a style, and only what trains has one; take it out")
        return self

    @model_validator(mode="after")
    def _fractions_make_sense(self) -> EvaluationConfig:
        if list(self.rungs) != sorted(set(self.rungs)) or not self.rungs or self.rungs[-1] != 1 or self.rungs[0] <= 0:
            raise ValueError(f"rungs {list(self.rungs)} must rise, start above 0 and end at 1")
        if len({*self.label_free}) < len(self.label_free):
            raise ValueError(f"label_free {list(self.label_free)} names a score twice")
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
    """What a search tries, what it may spend, and what it confirms."""

    algorithm: Literal["halving", "stopping", "random", "population"] = Field(
        "halving",
        description="at a rung the best go on and others wait, or others are given up; or every run is a whole one; or "
        "the worst of some whole runs copy the best and change schedules, and fields that are none stay a member's own",
    )
    budgets: Positive = Field(8.0, description="what the search may spend, in whole runs' images; confirm runs apart")
    hours: float | None = Field(
        None, gt=0, description="the search ends so that with its confirm runs it has taken so long; none sets no limit"
    )
    opponent_share: float = Field(
        1 / 3, ge=0, lt=1, description="of the budgets, spent on tuning real-only; 0 compares with it as it is"
    )
    trials: int | None = Field(None, ge=1, description="most configurations tried, the preset's own first")
    space: str = Field(
        "curriculum",
        description="name of a file in synthcl/search/spaces, a path to one, or auto: the ranges of what is on",
    )
    opponent_space: str = Field("real-only", description="likewise, of real-only")
    objective: Literal["linear", "transfer", "weighted", "pareto", "label_free"] = Field(
        "linear",
        description="what a trial is chosen by; pareto: linear and transfer, neither given up for the other; "
        "label_free: a score without labels that has been calibrated",
    )
    label_free: LabelFree | None = Field(None, description="the score that objective label_free chooses by")
    calibration: str | None = Field(
        None, description="file of `synthcl calibrate --out`, which has to say that this score may judge"
    )
    transfer_weight: Fraction = Field(0.5, description="share of transfer in the weighted objective")
    keep_one_in: float | None = Field(
        None, gt=1, description="of a rung's runs go on; none means 3, and 2 of more than 12 budgets or to stop"
    )
    members: int | None = Field(
        None, ge=4, le=1000, description="of a population; none means the whole runs that the method's budgets pay for"
    )
    exploit: float = Field(
        0.25, gt=0, le=0.5, description="share of a population that copies the best such share, at rungs from 0.2 on"
    )
    seed_deviation: float = Field(
        1.5, ge=0, description="of a score over seeds, in points; no member copies one less than two of them above it"
    )
    startup_trials: int = Field(
        4, ge=0, description="random trials after the preset's own that have a score before TPE models the space"
    )
    confirm_top: Count = Field(2, description="best configurations retrained on fresh seeds")
    confirm_seeds: int = Field(3, ge=1, description="fresh seeds a configuration and baseline")
    equal_time: bool = Field(
        False, description="confirm real-only also with as many more steps as take the time of the best of the method"
    )
    refit: Literal["none", "all"] = Field(
        "none", description="then train the winner again on all images, validation and test too, and export it apart"
    )
    seed: int = Field(0, ge=0, description="seed of the sampler")
    log_to: tuple[Literal["wandb", "mlflow"], ...] = Field(
        (), description="experiment trackers that follow the search beside TensorBoard"
    )

    @model_validator(mode="after")
    def _a_score_is_named_and_calibrated(self) -> SearchConfig:
        if self.objective == "label_free" and not (self.label_free and self.calibration):
            raise ValueError(
                f"objective label_free with label_free {self.label_free} and calibration {self.calibration}: no score "
                "without labels chooses encoders unless it has been seen to; give search.label_free=SCORE and "
                "search.calibration=FILE of `synthcl calibrate`, or train one encoder with `synthcl train`"
            )
        return self

    @property
    def keeps_one_in(self) -> float:
        """`keep_one_in`, or what suits the algorithm and its budget."""
        if self.keep_one_in is not None:
            return self.keep_one_in
        return 3.0 if self.algorithm in ("halving", "population") and self.budgets <= 12 else 2.0


class ComputeConfig(Section):
    """Where runs happen, and on how much of it."""

    storage: str = Field("runs", description="folder or URI (s3://...) under which the run's folder is made")
    address: str | None = Field(None, description="Ray cluster to join; none starts Ray on this machine")
    workers_per_trial: Count = Field(1, description="data-parallel processes a trial")
    min_workers_per_trial: int | None = Field(
        None, ge=1, description="as few as a trial goes on with while nodes are missing; none means all"
    )
    cpus_per_worker: Positive = Field(1.0, description="CPUs that a process holds, and threads it has")
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
