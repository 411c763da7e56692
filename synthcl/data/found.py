"""What a data set holds for a run, found without decoding an image, and where each number comes from."""

from __future__ import annotations

from dataclasses import dataclass

from synthcl.config.sections import DataConfig
from synthcl.data.folder import Files
from synthcl.data.images import StreamedImages
from synthcl.data.part import Part
from synthcl.data.splits import cut, require_classes, require_labels, source_of, unlabelled_parts


@dataclass(frozen=True)
class Found:
    """The splits of a data set before anything is decoded.

    Args:
        config: that opens it.
        unlabelled: what a run pretrains on: a share of train and perhaps one of extra images; nothing of a set that
            is only probed.
        pool_images: what `image_fraction` is a share of.
        train: labelled images; none of a set without labels, which has no validation and test images either.
        validation: likewise, cut from the same published part.
        test: likewise; none when nobody is going to read it.
        unread: lines about files that lie there and are not read.
    """

    config: DataConfig
    unlabelled: list[Part]
    pool_images: int
    train: Part | None
    validation: Part | None
    test: Part | None
    unread: list[str]

    @property
    def unlabelled_images(self) -> int:
        """Images that a run pretrains on."""
        return sum(map(len, self.unlabelled))

    def rows(self, probe_labels: int) -> dict[str, str]:
        """Numbers of a set to pretrain on and where they come from, for people.

        Args:
            probe_labels: that the largest probe is fitted on, where there are labels.
        """
        config, train = self.config, self.train
        origins = ["train" if train else self.unlabelled[0].origin, *(part.origin for part in self.unlabelled[1:])]
        shares = [f"{len(part):,} of {origin}" for part, origin in zip(self.unlabelled, origins, strict=True)]
        drawn = (
            f"; data.image_fraction {config.image_fraction:g} of {self.pool_images:,}, "
            f"drawn by data.split_seed {config.split_seed}"
        )
        found = {
            "unlabelled": f"{self.unlabelled_images:,} images to pretrain on: "
            f"{' and '.join(shares)}{drawn if config.image_fraction < 1 else ''}"
        }
        if train is None or self.validation is None:
            return found
        capped = f"; probes learn from at most {probe_labels:,} (evaluation.max_label_images)"
        return (
            found
            | {
                "train": f"{len(train):,} labelled images in {len(train.classes):,} classes: {train.origin}, "
                f"less validation{capped if len(train) > probe_labels else ''}",
                "validation": f"{len(self.validation):,} labelled images: data.validation_fraction "
                f"{config.validation_fraction:g} of every class, cut by data.split_seed {config.split_seed}",
            }
            | ({} if self.test is None else {"test": f"{len(self.test):,} labelled images: {self.test.origin}"})
        )

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of the plan by name, for a card; without labels only the images to pretrain on."""
        found = {"unlabelled": self.unlabelled_images}
        if self.train is not None:
            found |= {"labelled": len(self.train), "classes": len(self.train.classes)}
        return found | {name: len(part) for name, part in self.labelled.items() if name != "train"}

    @property
    def labelled(self) -> dict[str, Part]:
        """The parts that have labels, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    def require_readable(self) -> None:
        """Look at the head and the end of every image file.

        Raises:
            UserError: naming the first that is no image, or not all there.
        """
        covered = 1 if self.train else 0  # what is pretrained on of train lies in it
        for part in (*self.unlabelled[covered:], *self.labelled.values()):
            if isinstance(part.pixels, Files):
                StreamedImages(*part.pixels, self.config.image_size, self.config.channels, "cpu").require_images()


def find(config: DataConfig, name: str, *, pretrains: bool, test: bool) -> Found:
    """Open what a run reads of a data set, and decode none of it; one that is pretrained on need not have labels.

    Args:
        config: source, cut and fraction.
        name: of the data set, for messages.
        pretrains: whether the run pretrains on it, or else probes its labels alone.
        test: whether the run reads the test part, too; here only its number of images and its classes.

    Raises:
        UserError: on missing files or labels, a class without an image in train or validation, or a single class.
    """
    source = source_of(config)
    published = source.train(config).counted()
    labelled = published.labels is not None
    if not pretrains:
        require_labels(published, config, "train")
    train, validation = cut(published, config)
    if labelled:
        require_classes(train, name, "train")
        require_classes(validation, name, "validation")
    extra = source.extra(config) if pretrains else None
    extra = extra.counted() if extra else None
    return Found(
        config=config,
        unlabelled=unlabelled_parts(published, extra, config) if pretrains else [],
        pool_images=len(train) + (len(extra) if extra else 0),
        train=train if labelled else None,
        validation=validation if labelled else None,
        test=source.test(config).counted() if test and labelled else None,
        unread=source.unread(config),
    )
