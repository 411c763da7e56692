"""Images of the user's own: in class folders, named by a CSV file, or without any label."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from synthcl.config.sections import DataConfig
from synthcl.core.errors import UserError
from synthcl.data.folder import (
    class_names,
    has_classes,
    list_images,
    list_unlabelled,
    test_folder,
    train_folder,
    unlabelled_folder,
    unread,
)
from synthcl.data.part import TEST_FRACTION, Opener, Part, Source, share_of_classes, stratified_cut
from synthcl.data.pool import is_list, labels_file, list_pool, read_labels, unread_of_pool

_MOST_NAMED = 4
_log = logging.getLogger(__name__)


def _listed(folder: Path, root: Path) -> Part:
    files, indices, classes = list_images(folder, root)
    origin = str(folder)
    if folder == root:
        origin = f"the folders of {folder} ({_first(classes)}; data.labels=none if they are no classes)"
    return Part(files, torch.tensor(indices, dtype=torch.int64), classes, origin)


def _first(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")


def _root_of(config: DataConfig, subfolder: str) -> Path:
    """The folder that holds a data set's train folder: `data.root`, or a folder of the set's own inside it."""
    inner = Path(config.root) / subfolder
    return inner if inner.is_dir() else Path(config.root)


@cache  # once a process, though every split is cut anew
def _announce_cut(root: Path, seed: int) -> None:
    percent = round(100 * TEST_FRACTION)
    _log.warning(
        "%s has no test folder: %d %% of every class, chosen by split_seed %d, are its test part", root, percent, seed
    )


def _folder(test: bool, subfolder: str, classes_expected: int | None) -> Opener:
    def opener(config: DataConfig) -> Part:
        root = _root_of(config, subfolder)
        folder, held_out = train_folder(root), test_folder(root)
        classes = class_names(folder, root)
        if classes_expected and len(classes) != classes_expected:
            raise UserError(
                f"folder {str(folder)!r} has {len(classes)} class folders, not the {classes_expected} of {subfolder}; "
                f"put them at {Path(config.root) / subfolder / 'train' / '<class>' / '*'}, or use data.source=folder"
            )
        if held_out and (unknown := sorted(set(class_names(held_out, root)) - set(classes))) and classes:
            raise UserError(
                f"class {unknown[0]!r} of {str(held_out)!r} is not among the classes of {str(folder)!r}; "
                "add images to train on or remove it"
            )
        if test and held_out:
            part = _listed(held_out, root)
            assert part.labels is not None
            index_in_train = torch.tensor([classes.index(name) for name in part.classes])
            return replace(part, labels=index_in_train[part.labels], classes=classes)
        part = _listed(folder, root)
        return part if held_out else _without_test_part(part, root, config, test)

    return opener


def _without_test_part(part: Part, root: Path, config: DataConfig, test: bool) -> Part:
    """The share of a labelled part that is its test part, or the rest."""
    seed = config.split_seed
    _announce_cut(root, seed)
    origin = (
        f"{share_of_classes(test)}, cut by data.split_seed {seed}" if test else f"{part.origin} without the test part"
    )
    return replace(part, origin=origin).rows(stratified_cut(part, TEST_FRACTION, seed, "test")[test])


def _by_file(test: bool) -> Opener:
    def opener(config: DataConfig) -> Part:
        root = Path(config.root)
        file = labels_file(config.labels, root)
        files, indices, classes, _ = read_labels(file, list_pool(root))
        part = Part(files, torch.tensor(indices, dtype=torch.int64), classes, f"{file} ({_first(classes)})")
        return _without_test_part(part, root, config, test)

    return opener


def _not_in_file(config: DataConfig) -> Part | None:
    root = Path(config.root)
    file = labels_file(config.labels, root)
    others = read_labels(file, list_pool(root)).others
    return Part(others, None, (), f"{root}, not in {file.name}") if others.names else None


def _unlabelled(config: DataConfig) -> Part:
    return Part(list_pool(Path(config.root)), None, (), config.root)


def class_folders(subfolder: str = "", classes_expected: int | None = None) -> Source:
    """A data set in class folders.

    Args:
        subfolder: where inside `data.root` it may lie.
        classes_expected: how many classes it has; none takes any number.
    """

    def extra(config: DataConfig) -> Part | None:
        folder = unlabelled_folder(_root_of(config, subfolder))
        return None if folder is None else Part(list_unlabelled(folder), None, (), str(folder))

    train, test = (_folder(part, subfolder, classes_expected) for part in (False, True))
    return Source(train, test, extra, unread=lambda config: unread(_root_of(config, subfolder)))


_BY_FOLDERS = class_folders()
_BY_FILE = Source(
    _by_file(test=False),
    _by_file(test=True),
    _not_in_file,
    unread=lambda config: unread_of_pool(Path(config.root), labels_file(config.labels, Path(config.root))),
)
_NO_LABELS = Source(
    _unlabelled,
    _unlabelled,
    labelled=lambda config: False,
    unread=lambda config: unread_of_pool(Path(config.root)),
)


def _own(config: DataConfig) -> Source:
    """How images of the user's own are opened, by where their labels are."""
    root = Path(config.root)
    if config.labels_in_file:
        return _BY_FILE
    if config.labels == "none" or is_list(root) or not has_classes(root):
        return _NO_LABELS
    return _BY_FOLDERS


OWN_IMAGES = Source(
    train=lambda config: _own(config).train(config),
    test=lambda config: _own(config).test(config),
    extra=lambda config: _own(config).extra(config),
    labelled=lambda config: _own(config).labelled(config),
    unread=lambda config: _own(config).unread(config),
)
