"""Whether a term that takes real images from all others suits the views and the batches of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthcl.config.mixture import mix_with
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.objectives.rotation import RotationTermConfig
from synthcl.method.views.rotation import RotationConfig
from synthcl.method.views.vertical_flip import VerticalFlipConfig

if TYPE_CHECKING:
    from synthcl.config.schema import Config

LARGEST_ANGLE = 45
"""degrees up to which a turned view is nearest to its own right angle"""


def require_pretext(config: Config) -> None:
    """Refuse two terms with views of their own, one that has none, and turns that other views undo.

    Raises:
        ValueError: naming the fields.
    """
    taking = [name for name, term in config.terms_on.items() if term.apart]
    if len(taking) > 1:
        raise ValueError(
            f"terms.{taking[0]} and terms.{taking[1]} of kind {config.terms[taking[1]].kind} both take real images "
            "from all other terms, and a step has them for one; remove one of them"
        )
    for name in taking:
        most = mix_with(config, Constant(start=config.curriculum.synthetic_fraction.bounds[0]), 0.0)
        if not most.apart:
            raise ValueError(
                f"terms.{name}.share {config.terms[name].apart:g} of {most.images} real images a step on "
                f"{config.compute.workers_per_trial} workers rounds to none; raise it or "
                "training.batch_images, or lower curriculum.synthetic_fraction"
            )
        if isinstance(config.terms[name], RotationTermConfig):
            _require_upright(config, name)


def _require_upright(config: Config, term: str) -> None:
    """Whether a quarter turn can be told where views are turned, too."""
    for name, view in config.views_on.items():
        field = None
        if isinstance(view, VerticalFlipConfig) and view.probability:
            field = "probability"
        elif isinstance(view, RotationConfig) and view.right_angle_probability:
            field = "right_angle_probability"
        elif isinstance(view, RotationConfig) and view.degrees > LARGEST_ANGLE:
            field = "degrees"
        if field is not None:
            right = f"at most {LARGEST_ANGLE}" if field == "degrees" else "0"
            raise ValueError(
                f"terms.{term} of kind rotation asks how far a view is turned, and views.{name} of kind {view.kind} "
                f"turns it, too, with {field} {getattr(view, field):g}; set it to {right}, or remove one of them"
            )
