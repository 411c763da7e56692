"""The search space: which fields of the config are searched, declared in YAML.

    curriculum.hardness.kind: {choices: [constant, linear, cosine]}
    curriculum.hardness.start: {low: 0.1, high: 2.0, log: true}
    curriculum.hardness.end:
      low: 0.1
      high: 2.0
      log: true
      when: {curriculum.hardness.kind: [linear, cosine]}

A dimension under `when` exists only where an earlier dimension took one of the listed values, so the
sampler never models a parameter that does nothing.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field, ValidationError, model_validator

from synthcl.config import Config, Section
from synthcl.errors import UserError, yaml_problem
from synthcl.warmup import JOINT_ONLY

SEARCHED = ("views", "encoder", "gan", "method", "curriculum", "training")
"""sections whose fields may be searched"""
_PROBES = 64  # random points that must be valid configurations before a search begins


class Dimension(Section):
    """One searched field."""

    choices: tuple[bool | int | float | str, ...] | None = Field(None, description="the values of a categorical field")
    low: int | float | None = Field(None, description="smallest value; whole numbers low and high make it an integer")
    high: int | float | None = Field(None, description="largest value")
    log: bool = Field(False, description="search the logarithm")
    when: dict[str, tuple[bool | int | float | str, ...]] = Field({}, description="earlier field: values it exists for")

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        if self.choices is not None:
            if not self.choices or self.low is not None or self.high is not None:
                raise ValueError("give either a non-empty list of choices or low and high")
        elif self.low is None or self.high is None or self.low > self.high:
            raise ValueError(f"give choices, or low <= high; got low={self.low}, high={self.high}")
        elif self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0, got low={self.low}")
        return self

    @property
    def distribution(self) -> BaseDistribution:
        if self.choices is not None:
            return CategoricalDistribution(self.choices)
        assert self.low is not None
        assert self.high is not None
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


class Space:
    """An ordered set of dimensions, by dotted field of the config, and the YAML text they were read from."""

    def __init__(self, dimensions: dict[str, Dimension], text: str) -> None:
        self.dimensions, self.text = dimensions, text

    def sample(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        """Overrides for one trial, each asked of Optuna in the file's order."""
        overrides: dict[str, Any] = {}
        for path, dimension in self.dimensions.items():
            if self._exists(dimension, overrides):
                overrides[path] = trial._suggest(path, dimension.distribution)  # type: ignore[attr-defined]
        return overrides

    def point_of(self, config: Config) -> dict[str, Any]:
        """The config's own values along the dimensions, where they lie in the space."""
        tree = config.model_dump(mode="json")
        point: dict[str, Any] = {}
        for path, dimension in self.dimensions.items():
            value: Any = tree
            for part in path.split("."):
                value = value[part]
            if self._exists(dimension, point) and value is not None:
                distribution = dimension.distribution
                if distribution._contains(distribution.to_internal_repr(value)):
                    point[path] = value
        return point

    @staticmethod
    def _exists(dimension: Dimension, chosen: dict[str, Any]) -> bool:
        return all(chosen.get(field) in values for field, values in dimension.when.items())


def load_space(file: Path, config: Config) -> Space:
    """Read a space and check it against the config it will change.

    Args:
        file: YAML as in this module's header.
        config: the configuration the search starts from.

    Raises:
        UserError: on a missing file, an unknown field, a condition on a later field, bounds that make an invalid
            configuration, or a field that would need a GAN of its own.
    """
    if not file.is_file():
        known = ", ".join(sorted(other.stem for other in file.parent.glob("*.yaml"))) or "none"
        raise UserError(f"search.space {file.stem!r}: there is no file {str(file)!r}; spaces there: {known}")
    try:
        text = file.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"space {str(file)!r} cannot be read as UTF-8 text: {error}; save it so") from None
    except yaml.YAMLError as error:
        raise UserError(f"space {str(file)!r} is not YAML: {yaml_problem(error)}") from None
    if not isinstance(tree, dict) or not tree:
        raise UserError(
            f"space {str(file)!r} must map fields of the config to dimensions and is empty or not a mapping"
        )
    dimensions: dict[str, Dimension] = {}
    for path, entry in tree.items():
        if str(path).split(".")[0] not in SEARCHED:
            raise UserError(
                f"space {str(file)!r}: {path} decides where or how a run is measured, not what it learns; remove it "
                f"and search fields of {', '.join(SEARCHED)}"
            )
        try:
            dimensions[path] = Dimension.model_validate(entry)
        except ValidationError as error:
            reason = error.errors()[0]
            where = ".".join(map(str, (path, *reason["loc"])))
            raise UserError(f"space {str(file)!r}: {where}: {reason['msg'].removeprefix('Value error, ')}") from None
        for field in dimensions[path].when:
            if field not in list(dimensions)[:-1]:
                raise UserError(f"space {str(file)!r}: {path}: when names {field!r}, which is no earlier dimension")
    space = Space(dimensions, text)
    _check(space, config, file)
    return space


def _check(space: Space, config: Config, file: Path) -> None:
    """Every point must be a valid configuration that the shared warmed-up GAN serves."""
    trials: list[optuna.trial.BaseTrial] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        quiet = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        optuna.logging.set_verbosity(quiet)
    corners = [
        {path: dimension.low if bound == "low" else dimension.high for path, dimension in space.dimensions.items()}
        for bound in ("low", "high")
    ]
    for corner in corners:
        study.enqueue_trial({path: value for path, value in corner.items() if value is not None})
    trials += [study.ask() for _ in range(_PROBES)]
    for trial in trials:
        overrides = space.sample(trial)
        try:
            point = config.with_overrides(overrides)
        except UserError as error:
            raise UserError(f"space {str(file)!r} holds invalid configurations: {error}") from None
        if _warmup_reads(point) != _warmup_reads(config):
            shared = sorted(path for path in overrides if path.split(".")[0] in ("gan", "data"))
            raise UserError(
                f"space {str(file)!r}: {', '.join(shared)} would change the GAN that all trials share; remove it"
            )


def _warmup_reads(config: Config) -> dict[str, Any]:
    return {"gan": config.gan.model_dump(exclude=JOINT_ONLY), "data": config.data.model_dump()}
