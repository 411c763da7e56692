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
from typing import Any

from pydantic import Field, ValidationError, model_validator

from synthcl.config.sections import (
    ComputeConfig,
    DataConfig,
    EvaluationConfig,
    HealthConfig,
    SearchConfig,
    TrainingConfig,
)
from synthcl.config.upgrade import upgrade
from synthcl.core.errors import UserError
from synthcl.core.plugin import Section
from synthcl.core.secrets import first_secret
from synthcl.method.curriculum.knobs import CurriculumConfig, Knobs, knobs_at, learning_rate
from synthcl.method.curriculum.mix import Mix, mix_at
from synthcl.method.encoders.settings import EncoderConfig
from synthcl.method.synthetic.gan.settings import GanConfig
from synthcl.method.synthetic.settings import MethodConfig
from synthcl.method.views.simclr import ViewsConfig


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

    @model_validator(mode="before")
    @classmethod
    def _of_any_version(cls, tree: Any) -> Any:
        return upgrade(tree)

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
    def is_real_only(self) -> bool:
        """Whether no step of the run has a synthetic view, so that no GAN is needed."""
        return self.curriculum.synthetic_fraction.bounds[1] == 0

    def mix_at(self, progress: float) -> Mix:
        """How many real images and latents a step has at this progress, over all workers."""
        return mix_at(
            self.curriculum.synthetic_fraction,
            progress,
            batch_images=self.training.batch_images,
            views_per_image=self.method.views_per_image,
            views_per_latent=self.method.views_per_latent,
            workers=self.compute.workers_per_trial,
        )

    def knobs_at(self, progress: float) -> Knobs:
        """The values that a step is run with at this progress."""
        training = self.training
        real_views = self.mix_at(progress).real * self.method.views_per_image
        return knobs_at(
            self.curriculum,
            progress,
            batch_images=training.batch_images,
            learning_rate=learning_rate(training.learning_rate, training.warmup_fraction, progress),
            synthetic_fraction=1 - real_views / (2 * training.batch_images),
        )

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
