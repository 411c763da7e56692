"""Whether the positives of a view can be weighed against each other: there must be two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthcl.core.errors import UserError
from synthcl.method.objectives.ppcl import PpclConfig

if TYPE_CHECKING:
    from synthcl.config.schema import Config


def require_positives_to_weigh(config: Config) -> None:
    """Refuse weights of positives where every view has one.

    It is asked of what a user gives and not of every arm: real images alone may have pairs where the GAN has more.

    Raises:
        UserError: naming the field.
    """
    for name, term in config.terms_on.items():
        if isinstance(term, PpclConfig) and term.soft_positives is not None and largest_group(config) < 3:
            raise UserError(
                f"terms.{name}.soft_positives {term.soft_positives:g} weighs the positives of a view, and groups of "
                "two views have one; set training.views_per_image to 3 or more, or leave it out"
            )


def largest_group(config: Config) -> int:
    """Most views that attract each other in a step of the run; those of two images that are mixed are one group."""
    real = config.training.views_per_image if config.curriculum.synthetic_fraction.bounds[0] < 1 else 0
    twins = sum(source.attached for source in config.sources_on.values())  # each is one view more, at least
    sizes = [source.views_per_group for source in config.sources_on.values() if not source.attached]
    return (2 if config.mixers else 1) * max([real + twins, *sizes])
