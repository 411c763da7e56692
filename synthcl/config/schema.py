"""Every knob of synthcl: type, bounds, unit and one line of documentation.

A `Config` is frozen and complete: a preset (YAML) plus overrides (`path.to.field=value`) give one, `config.json` beside
a run records it, and what is in it is what is used: no value is rescaled later.
One *image* is the unit of work: two encoded views. A step of `training.batch_images` images encodes `2 * batch_images`
views whatever the mix of real and synthetic, so arms of equal images have equal optimiser steps and equal views.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from pydantic import Field, ValidationError, model_validator

from synthcl.config.closed_loops import closed_loops, require_sound
from synthcl.config.complete import require_taught, require_views_and_heads
from synthcl.config.families import require_named, require_real_rows, require_strengths
from synthcl.config.gan_fits import require_gan_fits
from synthcl.config.mixed_views import require_mixable
from synthcl.config.mixture import mix_of, require_mix_fits
from synthcl.config.overrides import put, without_kinds
from synthcl.config.pretext import require_pretext
from synthcl.config.sections import (
    ComputeConfig,
    DataConfig,
    EvaluationConfig,
    HealthConfig,
    SearchConfig,
    TrainingConfig,
)
from synthcl.config.upgrade import path_today, upgrade
from synthcl.config.workers import require_shared_equally
from synthcl.core.errors import UserError
from synthcl.core.plugin import Section
from synthcl.core.secrets import first_secret
from synthcl.method.curriculum.bandit import Bandit, Shares
from synthcl.method.curriculum.knobs import CurriculumConfig, Knobs, knobs_at
from synthcl.method.curriculum.loop import Loop
from synthcl.method.curriculum.mix import Mix
from synthcl.method.curriculum.schedule import Schedule
from synthcl.method.encoders import AnyEncoder, AnyHead
from synthcl.method.encoders.conv import ConvConfig
from synthcl.method.encoders.projector import MlpConfig
from synthcl.method.objectives import AnyTerm
from synthcl.method.objectives.ppcl import PpclConfig
from synthcl.method.synthetic import AnySource
from synthcl.method.synthetic.folder import FolderConfig
from synthcl.method.synthetic.gan.settings import GanConfig
from synthcl.method.views import AnyView
from synthcl.method.views.mixer import MixerConfig
from synthcl.method.views.partial import PartialConfig
from synthcl.method.views.simclr import SimclrConfig


class Config(Section):
    """The whole configuration of a run; `synthcl fields` lists its fields.

    Example:
        config = synthcl.Config(name="mine").with_overrides({"curriculum.hardness.start": 0.5})
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run's folder")
    data: DataConfig = DataConfig()
    views: dict[str, AnyView] = Field({"base": SimclrConfig()}, description="`base`, and changes of views by name")
    encoder: AnyEncoder = Field(ConvConfig(), description="the network that is pretrained")
    heads: dict[str, AnyHead] = Field({"main": MlpConfig()}, description="what terms look through, by name")
    synthetic: dict[str, AnySource] = Field(
        {"gan": GanConfig()}, description="sources of synthetic images: `gan`, folders by names of your choice, or none"
    )
    terms: dict[str, AnyTerm] = Field({"contrast": PpclConfig()}, description="losses in the encoder's sum, by name")
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
    def _families_are_complete(self) -> Config:
        require_views_and_heads(self.views, self.heads)
        require_named(self.synthetic)
        require_taught(self.terms, self.heads, self.views_on, self.encoder.plugins)
        require_sound(self.closed_loops, self.terms)
        return self

    @model_validator(mode="after")
    def _sections_agree(self) -> Config:
        require_gan_fits(self.gan, self.curriculum, self.training.batch_images)
        require_shared_equally(self.training.batch_images, self.compute)
        if self.search.objective not in ("linear", "label_free") and not self.evaluation.transfer:
            raise ValueError(
                f"search.objective {self.search.objective!r} needs a data set in evaluation.transfer; "
                "name one or use linear"
            )
        return self

    @model_validator(mode="after")
    def _families_agree(self) -> Config:
        kinds = {name: self.views[name].kind for name in self.mixers}
        of_sources = (source.views_per_group for source in self.synthetic.values())
        of_group = math.lcm(self.training.views_per_image, *of_sources)
        require_mixable(kinds, self.terms, self.training.batch_images, of_group, self.compute.workers_per_trial)
        require_mix_fits(self)
        require_real_rows(self)
        require_strengths(self.synthetic, self.curriculum.view_strength)
        require_pretext(self)
        return self

    @property
    def mixers(self) -> list[str]:
        """Names of views that mix, at some step of the run."""
        return [name for name, view in self.views_on.items() if isinstance(view, MixerConfig)]

    @property
    def views_on(self) -> dict[str, AnyView]:
        """The views that some step of the run uses: all but those of share 0."""
        return {name: view for name, view in self.views.items() if not isinstance(view, PartialConfig) or view.is_on}

    @property
    def terms_on(self) -> dict[str, AnyTerm]:
        """The terms that are built: all but those of weight 0."""
        return {name: term for name, term in self.terms.items() if term.weight.bounds[1] > 0}

    @property
    def is_real_only(self) -> bool:
        """Whether no step of the run has a synthetic view."""
        return not self.sources_on

    @property
    def needs_gan(self) -> bool:
        """Whether some step of the run has images of a GAN, which then is warmed up first."""
        return "gan" in self.sources_on

    @property
    def sources_on(self) -> dict[str, AnySource]:
        """The sources that some step of the run uses, in the order of a step: the GAN, then folders by name."""
        if self.curriculum.synthetic_fraction.bounds[1] == 0:
            return {}
        in_order = sorted(self.synthetic.items(), key=lambda item: (item[0] != "gan", item[0]))
        return {name: source for name, source in in_order if source.portion > 0}

    @property
    def folders_on(self) -> dict[str, FolderConfig]:
        """Those of them that are folders of images."""
        return {name: source for name, source in self.sources_on.items() if isinstance(source, FolderConfig)}

    @property
    def gan(self) -> GanConfig:
        """The GAN that makes synthetic images; its default where there is none, which nothing reads then."""
        return gan if isinstance(gan := self.synthetic.get("gan"), GanConfig) else GanConfig()

    @cached_property
    def schedules_of_plugins(self) -> dict[str, Schedule]:
        """Every schedule of a single plug-in by dotted field, such as `terms.contrast.weight`."""
        families = {name: getattr(self, name) for name in ("views", "synthetic", "terms")}
        families["encoder"] = self.encoder.plugins
        return {
            f"{family}.{name}.{field}": value
            for family, members in families.items()
            for name, section in sorted(members.items())
            for field, value in section
            if isinstance(value, Schedule)
        }

    @property
    def schedules(self) -> dict[str, Schedule]:
        """Every schedule by dotted field, those of the curriculum first."""
        own = {f"curriculum.{name}": value for name, value in self.curriculum if isinstance(value, Schedule)}
        return own | self.schedules_of_plugins

    @cached_property
    def closed_loops(self) -> dict[str, Loop]:
        """Schedules that the run itself decides, by the dotted field that each steers."""
        return closed_loops(self.curriculum, self.schedules_of_plugins)

    @cached_property
    def ramps_of_plugins(self) -> list[str]:
        """Those of them that move: what is logged."""
        return [path for path, schedule in self.schedules_of_plugins.items() if len({*schedule.bounds}) > 1]

    @property
    def bandit(self) -> Bandit | None:
        """What decides, in the run, how a step's views are shared; none where nothing does."""
        mix = self.curriculum.mix
        return mix if isinstance(mix, Bandit) and not self.is_real_only else None

    @property
    def decides_at_logged_points(self) -> bool:
        """Whether logged points decide what the run learns."""
        return bool(self.closed_loops) or self.bandit is not None

    def mix_at(self, progress: float, shares: Shares | None = None) -> Mix:
        """How many real images, and groups of each source, a step has at this progress, over all workers.

        Args:
            progress: of the run.
            shares: that a bandit has decided, by arm; none are those that it begins with.
        """
        return mix_of(self, progress, shares)

    def knobs_at(
        self, progress: float, steered: Mapping[str, float] = MappingProxyType({}), shares: Shares | None = None
    ) -> Knobs:
        """The values that a step is run with at this progress.

        `steered` are those that closed loops have decided, `shares` those of a bandit.
        """
        training = self.training
        real_views = self.mix_at(progress, shares).images * training.views_per_image
        return knobs_at(
            self.curriculum,
            progress,
            batch_images=training.batch_images,
            learning_rate=training.learning_rate_at(progress),
            synthetic_fraction=1 - real_views / (2 * training.batch_images),
            scheduled=self.schedules_of_plugins,
            steered=steered,
        )

    @property
    def base_view(self) -> SimclrConfig:
        base = self.views["base"]
        assert isinstance(base, SimclrConfig)
        return base

    @property
    def view_size(self) -> int:
        return self.base_view.size or self.data.image_size

    @property
    def gan_image_size(self) -> int:
        return self.gan.image_size or self.data.image_size

    def __hash__(self) -> int:
        return hash(self.digest())  # families are dicts, which have no hash

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
        today = {path_today(path): value for path, value in overrides.items()}
        for path in sorted(today, key=lambda path: not path.endswith(".kind")):  # it decides which fields there are
            put(tree, path, today[path], Config)
        return validated(tree, "override")


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
        path = ".".join(without_kinds(first["loc"], tree)) or "config"
        message = first["msg"].removeprefix("Value error, ")
        value = first.get("input")
        if first["type"] == "union_tag_invalid":
            path, value = f"{path}.kind", first["ctx"]["tag"]
            message = f"choose {first['ctx']['expected_tags']}"
        shown = "" if isinstance(value, dict) or first["type"] == "missing" else f" = {value!r}"
        raise UserError(f"{origin}: {path}{shown}: {message}") from None
