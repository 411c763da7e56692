"""What can be found wrong with networks and data before a cluster is joined or a GPU minute is spent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch

from synthcl.config.positives import require_positives_to_weigh
from synthcl.config.schema import Config
from synthcl.core.device import SLOW_BF16, has_bf16
from synthcl.core.errors import UserError
from synthcl.data import Found, ImageSource, SyntheticImages, find, open_synthetic, transfer_config
from synthcl.data.splits import images_of, require_held_out, source_of, unlabelled_parts
from synthcl.evaluation.labels import most_labels, require_labels
from synthcl.evaluation.panel import require_panel
from synthcl.method.scene import Seen, Views
from synthcl.method.synthetic.gan.networks import make_discriminator, make_generator
from synthcl.runs.calibrated import require_calibrated
from synthcl.runs.encoder_check import describe_encoders, require_encoder, require_references
from synthcl.runs.teachers import describe_teachers, require_teachers
from synthcl.training.gan_warmup import budget_kimg
from synthcl.training.lab import in_order
from synthcl.training.plan import require_enough_images

GIVE_LABELS = (
    "sort some images into train/<class>/ beside unlabelled/, or give data.labels=FILE.csv (columns path and label) or "
    "evaluation.transfer=[folder:LABELLED]"
)
"""in place of nothing to judge by"""
_TRIED_VIEWS = 4
_NO_SYNTHETIC_VIEW = {"curriculum.synthetic_fraction": {"kind": "constant", "start": 0.0}}


@dataclass(frozen=True)
class Data:
    """Everything a run is going to read, found and not decoded.

    Args:
        config: of the run.
        own: the data set that it pretrains on.
        transfer: the data sets that its evaluation transfers to, by name.
        synthetic: folders of synthetic images that it shows, by name.
    """

    config: Config
    own: Found
    transfer: dict[str, Found]
    synthetic: dict[str, SyntheticImages]

    @cached_property
    def images(self) -> ImageSource:
        """The unlabelled images on the CPU; files stay on disk, since the content key does without decoding them."""
        data = self.config.data
        source = source_of(data)
        return images_of(unlabelled_parts(source.train(data), source.extra(data), data), data, "cpu", False)

    def describe(self) -> str:
        """What was found, in a few lines: numbers of images, where each comes from, passes, and what is not read."""
        data, own = self.config.data, self.own
        rows = [("data", f"{data.source}, as {data.image_size} px {'RGB' if data.channels == 3 else 'grey'} images")]
        labels = 0
        if own.train:
            labels = most_labels(self.config.evaluation, len(own.train), len(own.train.classes), quick=False)
        rows += own.rows(labels).items()
        if not own.train:
            rows.append(("labels", without_labels(self.config)))
        rows += [("synthetic", f"{name}: {found.describe()}") for name, found in self.synthetic.items()]
        rows += [("transfer", f"{target}: {_counts(found)}") for target, found in self.transfer.items()]
        rows.append(("passes", _passes(self.config, own.unlabelled_images, self.synthetic)))
        rows += describe_encoders(self.config) + describe_teachers(self.config, own.unlabelled_images)
        if self.config.training.precision == "bf16" and not has_bf16():
            rows.append(("precision", f"this machine {SLOW_BF16}"))
        rows += [("not read", line) for found in (own, *self.transfer.values()) for line in found.unread]
        return "\n".join(f"{name:<10} {row}" for name, row in rows)


def open_data(config: Config, *, test: bool = True, chooses: bool = True) -> Data:
    """Find everything a run reads, for the networks that will look at it.

    Of image files, only heads and ends are read, so memory does not grow with the images' pixels.

    Args:
        config: its networks, its data, and the data sets its evaluation transfers to.
        test: whether the run reads test parts in the end; they are counted and not scored here.
        chooses: whether something is chosen by scores, which takes labels; one training does without.

    Raises:
        UserError: on a synthetic fraction that comes to nothing, weights of positives where views have one, sizes no
            generator makes, teachers that cannot teach, missing or broken data, missing labels or classes, or fewer
            images than a real-only step needs.
    """
    require_plugins(config)
    require_positives_to_weigh(config)
    require_teachers(config)
    require_references(config)
    require_panel(config)
    if not config.is_real_only:
        require_groups(config)
    if config.needs_gan:
        own = config.gan.generator is not None  # is run once on two latents, which takes memory and numbers
        with torch.device("cpu" if own else "meta"):
            for make in (make_generator, make_discriminator):
                make(config.gan, config.data.channels, config.gan_image_size)
    if chooses:
        require_held_out(config.data)
    found = find(config.data, config.data.source, pretrains=True, test=test)
    if chooses and config.search.objective == "label_free":
        require_calibrated(config)
    if chooses and not found.train:
        _require_judge(config)
    require_enough_images(config.with_overrides(_NO_SYNTHETIC_VIEW), found.unlabelled_images)  # as real-only needs
    if found.train:
        require_labels(config.evaluation, len(found.train), len(found.train.classes))
    transfer = {
        target: find(transfer_config(target, config.data), target, pretrains=False, test=test)
        for target in config.evaluation.transfer
    }
    for data in (found, *transfer.values()):
        data.require_readable()
    synthetic = {name: open_synthetic(config.data, name, section, "cpu") for name, section in config.folders_on.items()}
    return Data(config, found, transfer, synthetic)


def require_plugins(config: Config) -> None:
    """Build encoder, views and terms and use them once on a few views of noise, before anything is spent.

    Raises:
        UserError: naming the member that cannot be made, or that fails, as code of the user's own may.
    """
    width = require_encoder(config.encoder, config.data.channels, config.view_size)
    made = {}
    for name, section in config.views_on.items():
        with _named(f"views.{name}"):
            made[name] = section.build(config.view_size)
    knobs, size = config.knobs_at(0.0), config.data.image_size
    with torch.random.fork_rng(devices=[]):
        groups = torch.arange(_TRIED_VIEWS // 2).repeat(2)
        images = torch.rand(len(groups) // 2, config.data.channels, size, size)
        views = Views((images,), (len(groups),), {"real": slice(0, len(groups))}, groups[:, None])
        for name, view in in_order(made).items():
            with _named(f"views.{name}"):
                draw = view.draw(len(groups), knobs.view_strength, torch.Generator().manual_seed(0))
                views = view(views, draw, knobs.own(f"views.{name}"))
        heads = {name: head.build(width) for name, head in config.heads.items()}
        features = torch.randn(len(groups), width)
        seen = Seen(views, lambda parts: features, heads)
        head_dims = {name: head.dim for name, head in config.heads.items()}
        for name, term in config.terms.items():
            with _named(f"terms.{name}"):
                term.build(term.looks_at(width, head_dims))(seen, knobs.own(f"terms.{name}"))


@contextmanager
def _named(place: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}.{error}") from None
    except Exception as error:  # a user's code can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{place} fails on {_TRIED_VIEWS} views of noise: {reason}") from error


def require_groups(config: Config) -> None:
    """Find a synthetic fraction that rounds to no latent at all, or a portion that rounds to none of its source.

    Raises:
        UserError: when neither the first nor the last step has a view of some source.
    """
    asked, views = config.curriculum.synthetic_fraction.bounds[1], 2 * config.training.batch_images
    first, last = config.mix_at(0.0), config.mix_at(1.0)
    for name, source in config.sources_on.items():
        if not first.groups[name] and not last.groups[name]:
            whose = (
                "" if len(config.sources_on) == 1 else f", of which synthetic.{name} has portion {source.portion:g},"
            )
            what = "latent" if name == "gan" else "image"
            raise UserError(
                f"curriculum.synthetic_fraction {asked:g} of {views} views on {config.compute.workers_per_trial} "
                f"workers{whose} rounds to no {what}; raise training.batch_images or the fraction, or lower "
                "compute.workers_per_trial"
            )


def without_labels(config: Config) -> str:
    """What is left out where the images have no labels, why, and what would make it possible."""
    none = f"none in {config.data.root}"
    if config.data.pretrain_on == "all":
        none = "none are read, since data.pretrain_on=all trains on validation and test images too"
    if config.evaluation.transfer:
        return f"{none}: no probes there; encoders are scored on evaluation.transfer alone"
    if config.data.pretrain_on == "all":
        return f"{none}: no probes and no score"
    return (
        f"none in {config.data.root}: no probes at rungs and no score, which take labels; to have them, {GIVE_LABELS}"
    )


def _require_judge(config: Config) -> None:
    """Refuse to choose between encoders by what says nothing about them.

    Raises:
        UserError: saying what to do instead.
    """
    if config.search.objective not in ("transfer", "label_free"):
        raise UserError(
            f"data.root {config.data.root!r} has images without labels, and "
            f"search.objective={config.search.objective!r} needs labels to choose by (scores without labels rank no "
            f"encoders here); train one encoder with `synthcl train`, or {GIVE_LABELS} with search.objective=transfer"
        )


def _counts(found: Found) -> str:
    counts = ", ".join(f"{len(part):,} {name}" for name, part in found.labelled.items())
    classes = found.train.classes if found.train else ()
    return f"{counts} images with labels in {len(classes):,} classes"


def _passes(config: Config, images: int, synthetic: Mapping[str, SyntheticImages]) -> str:
    """How often a run shows each of its images to the networks."""
    training = config.training
    mixes = [config.mix_at(step / training.steps) for step in range(training.steps)]
    passes = f"a run shows each unlabelled image to the encoder {_times(sum(mix.images for mix in mixes), images)}"
    if not config.is_real_only:
        passes += f" ({_times(training.steps * training.batch_images, images)} in real-only)"
    for name, found in synthetic.items():
        passes += f", each image of {name} {_times(sum(mix.groups[name] for mix in mixes), len(found.images))}"
    if config.needs_gan:
        passes += f"; the GAN warm-up shows each {_times(1000 * budget_kimg(config.gan, images), images)}"
    return passes


def _times(shown: float, images: int) -> str:
    passes = shown / images
    return f"{passes:,.0f} times" if passes >= 10 else f"{passes:.1f} times"
