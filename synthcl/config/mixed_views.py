"""Whether views that are mixed in pairs of rows suit the losses and the batches of a configuration."""

from __future__ import annotations

from collections.abc import Mapping

from synthcl.method.objectives import AnyTerm
from synthcl.method.objectives.custom import CustomTerm
from synthcl.method.objectives.decoupled import DecoupledConfig


def require_mixable(
    mixers: Mapping[str, str], terms: Mapping[str, AnyTerm], batch_images: int, of_group: int, workers: int
) -> None:
    """Refuse losses that mixed views have nothing for, and batches whose rows are no pairs.

    Args:
        mixers: kinds of the views that mix, by name; none where nothing is mixed.
        terms: of the encoder's loss, by name.
        batch_images: images a step.
        of_group: most views of an image or latent.
        workers: processes that share the batch.

    Raises:
        ValueError: naming the fields.
    """
    mixer = next(iter(mixers), None)
    for name, term in terms.items():
        if isinstance(term, DecoupledConfig) and term.weight.bounds[1] > 0 and mixer is None:
            raise ValueError(
                f"terms.{name} of kind decoupled looks at mixed views alone, and views has none of kind mixup, "
                "cutmix or resizemix with a share above 0; add one, such as views.mix={kind: resizemix}"
            )
        if isinstance(term, CustomTerm) and term.weight.bounds[1] > 0 and mixer is not None:
            raise ValueError(
                f"terms.{name} of kind custom takes one group a view, and views.{mixer} of kind {mixers[mixer]} gives "
                "some two; remove one of them"
            )
    if mixer is not None and batch_images % (of_group * workers):
        raise ValueError(
            f"training.batch_images {batch_images} must be a multiple of {of_group * workers}, {of_group} views of an "
            f"image or latent times compute.workers_per_trial {workers}, for views.{mixer} to mix the rows of every "
            "worker in pairs"
        )
