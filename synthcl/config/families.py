"""What sources of synthetic images ask of the rest of a configuration: names, real images beside them, strengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from synthcl.config.mixture import mix_with
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Schedule
from synthcl.method.synthetic import AnySource
from synthcl.method.synthetic.gan.settings import GanConfig

if TYPE_CHECKING:
    from synthcl.config.schema import Config


def require_named(synthetic: Mapping[str, AnySource]) -> None:
    """Refuse a GAN under another name than gan, and anything else under that name.

    Raises:
        ValueError: naming the source.
    """
    for name, source in synthetic.items():
        if isinstance(source, GanConfig) != (name == "gan"):
            right = "there is one GAN, named gan" if isinstance(source, GanConfig) else "gan is the name of the GAN"
            raise ValueError(f"synthetic.{name} is of kind {source.kind}; {right}; give it another kind or name")


def require_real_rows(config: Config) -> None:
    """Refuse a step of paired images alone, which are views of real ones.

    Raises:
        ValueError: naming the share and the source.
    """
    attached = [name for name, source in config.sources_on.items() if source.attached]
    most = config.curriculum.synthetic_fraction.bounds[1]
    if attached and mix_with(config, Constant(start=most), 0.0).real < config.compute.workers_per_trial:
        raise ValueError(
            f"curriculum.synthetic_fraction reaches {most:g}, which leaves no real image in a step, and the images of "
            f"synthetic.{attached[0]} are views of real ones; lower it"
        )


def require_strengths(synthetic: Mapping[str, AnySource], view_strength: Schedule) -> None:
    """Refuse views of a source that are stronger than there are.

    Raises:
        ValueError: naming both fields.
    """
    strength = view_strength.bounds[1]
    for name, source in synthetic.items():
        factor = source.view_strength_factor.bounds[1]
        if factor * strength > 2:
            raise ValueError(
                f"synthetic.{name}.view_strength_factor {factor:g} times curriculum.view_strength {strength:g} is "
                f"{factor * strength:g}; views have strengths up to 2"
            )
