"""The search space: which fields of the config are searched, declared in YAML.

    curriculum.hardness.kind: {choices: [constant, linear, cosine]}
    curriculum.hardness.start: {low: 0.1, high: 2.0, log: true}
    curriculum.hardness.end:
      low: 0.1
      high: 2.0
      log: true
      when: {curriculum.hardness.kind: [linear, cosine]}

A dimension under `when` exists only where an earlier dimension took one of the listed values, so the
sampler never models a parameter that does nothing. A dimension that names a schedule, such as
`terms.contrast.temperature`, draws the number of a constant one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from synthcl.config.compatibility import LEARNED, flat
from synthcl.config.schema import Config
from synthcl.config.upgrade import path_today
from synthcl.core.errors import UserError, yaml_problem
from synthcl.core.plugin import Section
from synthcl.method.curriculum.ramps import Constant

_PROBES = 64  # random points that must be valid configurations before a search begins, beside the space's corners


class Dimension(Section):
    """One searched field."""

    choices: tuple[bool | int | float | str, ...] | None = Field(None, description="the values of a categorical field")
    low: int | float | None = Field(None, description="smallest value; whole numbers low and high make it an integer")
    high: int | float | None = Field(None, description="largest value")
    log: bool = Field(False, description="search the logarithm")
    relative: bool = Field(False, description="low and high are multiples of the configuration's own value")
    when: dict[str, tuple[bool | int | float | str, ...]] = Field({}, description="earlier field: values it exists for")

    @field_validator("when")
    @classmethod
    def _of_any_version(cls, when: dict[str, Any]) -> dict[str, Any]:
        return {path_today(field): values for field, values in when.items()}

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

    def resolved(self, own: Any) -> Dimension:
        """With bounds as they are, of a configuration that has this value of the field.

        Raises:
            ValueError: where a multiple of it says nothing.
        """
        if not self.relative:
            return self
        if (
            self.low is None
            or self.high is None
            or not isinstance(own, int | float)
            or isinstance(own, bool)
            or not own
        ):
            raise ValueError(f"relative needs low and high, and a number other than 0; the configuration has {own!r}")
        ends = sorted((float(self.low * own), float(self.high * own)))
        return self.model_copy(update={"low": ends[0], "high": ends[1], "relative": False})

    def suggest(self, trial: optuna.trial.BaseTrial, path: str) -> bool | int | float | str | None:
        """A value of this dimension, asked of Optuna."""
        if self.choices is not None:
            return trial.suggest_categorical(path, self.choices)
        assert self.low is not None
        assert self.high is not None
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(path, self.low, self.high, log=self.log)
        return trial.suggest_float(path, self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether a trial can have this value."""
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None
        assert self.high is not None
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        return isinstance(value, int | float) and self.low <= value <= self.high and not (whole and value % 1)

    def at(self, share: float) -> int | float:
        """The value at a share of the range, in [0, 1), along its logarithm where that is searched."""
        assert self.low is not None
        assert self.high is not None
        ratio = self.high / self.low if self.log else 0.0
        return self.nearest(self.low * ratio**share if self.log else self.low + (self.high - self.low) * share)

    def nearest(self, value: float) -> int | float:
        """The value of the range that is nearest to this one."""
        assert self.low is not None
        assert self.high is not None
        if isinstance(self.low, int) and isinstance(self.high, int):
            value = round(value)
        return min(max(value, self.low), self.high)

    def __str__(self) -> str:
        return ", ".join(map(str, self.choices)) if self.choices is not None else f"{self.low} to {self.high}"


class Space:
    """An ordered set of dimensions, by dotted field of the config, and the YAML text they were read from."""

    def __init__(self, dimensions: dict[str, Dimension], text: str) -> None:
        self.dimensions, self.text = dimensions, text

    def sample(self, trial: optuna.trial.BaseTrial) -> dict[str, Any]:
        """Overrides for one trial, each asked of Optuna in the file's order."""
        overrides: dict[str, Any] = {}
        for path, dimension in self.dimensions.items():
            if self._exists(dimension, overrides):
                overrides[path] = dimension.suggest(trial, path)
        return overrides

    def point_of(self, config: Config) -> dict[str, Any]:
        """The config's own values along the dimensions, where they lie in the space."""
        point: dict[str, Any] = {}
        for path, value in self._values(config).items():
            dimension = self.dimensions[path]
            if self._exists(dimension, point) and dimension.holds(value):
                point[path] = value
        return point

    def outside(self, config: Config) -> dict[str, Any]:
        """The config's own values that no trial can have, by field: where there are none, `point_of` is the config."""
        values = self._values(config)
        return {
            path: values[path]
            for path, dimension in self.dimensions.items()
            if path in values and self._exists(dimension, values) and not dimension.holds(values[path])
        }

    def conditions(self, path: str) -> dict[str, Any]:
        """Values of earlier dimensions with which this one exists."""
        conditions: dict[str, Any] = {}
        for field, values in self.dimensions[path].when.items():
            conditions |= self.conditions(field) | {field: values[0]}
        return conditions

    def _values(self, config: Config) -> dict[str, Any]:
        values = own_values(config)
        return {path: values[path] for path in self.dimensions if path in values}  # not every kind has every field

    @staticmethod
    def _exists(dimension: Dimension, chosen: dict[str, Any]) -> bool:
        return all(chosen.get(field) in values for field, values in dimension.when.items())


def own_values(config: Config) -> dict[str, Any]:
    """Values by dotted field; a schedule has the number that stands for it, or its kind where none does.

    Example:
        >>> own_values(Config(name="mine"))["terms.contrast.temperature"]
        0.2
    """
    schedules = {
        path: value.start if isinstance(value, Constant) else value.kind for path, value in config.schedules.items()
    }
    return schedules | flat(config.model_dump(mode="json"))


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
    return space_of(tree, text, str(file), config)


def space_of(tree: dict[Any, Any], text: str, said: str, config: Config) -> Space:
    """A space from its dimensions, checked against the config it will change.

    Args:
        tree: entries of dimensions by dotted field.
        text: YAML of them.
        said: what errors call it.
        config: the configuration the search starts from.

    Raises:
        UserError: as `load_space`.
    """
    dimensions: dict[str, Dimension] = {}
    own = own_values(config)
    for path, entry in ((path_today(str(path)), entry) for path, entry in tree.items()):
        if path.split(".")[0] not in LEARNED:
            raise UserError(
                f"space {said!r}: {path} decides where or how a run is measured, not what it learns; remove it "
                f"and search fields of {', '.join(LEARNED)}"
            )
        family, _, rest = path.partition(".")
        if family == "synthetic" and rest.split(".")[0] not in config.synthetic and not config.is_real_only:
            raise UserError(
                f"space {said!r}: {path} is of no source of the configuration, which has "
                f"{sorted(config.synthetic)}; remove it, or use search.space=folder where there is no GAN"
            )
        try:
            dimensions[path] = Dimension.model_validate(entry).resolved(own.get(path))
        except ValidationError as error:
            reason = error.errors()[0]
            where = ".".join(map(str, (path, *reason["loc"])))
            raise UserError(f"space {said!r}: {where}: {reason['msg'].removeprefix('Value error, ')}") from None
        except ValueError as error:
            raise UserError(f"space {said!r}: {path}: {error}") from None
        for field, values in dimensions[path].when.items():
            if field not in list(dimensions)[:-1]:
                raise UserError(f"space {said!r}: {path}: when names {field!r}, which is no earlier dimension")
            for value in values:
                if not dimensions[field].holds(value):
                    raise UserError(
                        f"space {said!r}: {path}: when names {field}={value}, which is never drawn; "
                        f"it can be: {dimensions[field]}"
                    )
    space = Space(dimensions, text)
    _check(space, config, said)
    return space


def _check(space: Space, config: Config, said: str) -> None:
    """Every point must be a valid configuration that the shared warmed-up GAN serves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        quiet = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        optuna.logging.set_verbosity(quiet)
    for corner in _corners(space):
        study.enqueue_trial(corner)
    drawn: set[str] = set()
    for _ in range(2 * len(space.dimensions) + _PROBES):
        overrides = space.sample(study.ask())
        drawn |= overrides.keys()
        try:
            point = config.with_overrides(overrides)
        except UserError as error:
            raise UserError(f"space {said!r} holds invalid configurations: {error}") from None
        begins = point.needs_gan and not config.needs_gan  # a run without synthetic images does without the GAN
        if begins or _warmup_reads(point) != _warmup_reads(config):
            families = ("synthetic", "data", *(("curriculum",) if begins else ()))
            shared = sorted(path for path in overrides if path.split(".")[0] in families)
            raise UserError(
                f"space {said!r}: {', '.join(shared)} would change the GAN that all trials share; remove it"
            )
    if never := [path for path in space.dimensions if path not in drawn]:
        raise UserError(f"space {said!r}: {', '.join(never)}: what when asks for never holds at once; correct it")


def _corners(space: Space) -> Iterator[dict[str, Any]]:
    """Both ends of all dimensions at once, and once for each dimension with what its `when` asks for."""
    for bound in ("low", "high"):
        ends = {path: getattr(dimension, bound) for path, dimension in space.dimensions.items()}
        for path in space.dimensions:
            yield {field: end for field, end in ends.items() if end is not None} | space.conditions(path)


def _warmup_reads(config: Config) -> dict[str, Any]:
    return {"gan": config.gan.warmup_reads(), "data": config.data.model_dump()}
