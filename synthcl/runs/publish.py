"""An encoder in a folder that can be published: weights, a card without places of this machine, and a README.md.

The README.md begins with the fields that a model hub reads.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from synthcl.config.schema import Config
from synthcl.config.sections import ComputeConfig
from synthcl.core.atomic import disk_failures_named, whole_file, write_whole
from synthcl.core.errors import UserError
from synthcl.method.encoders import AnyEncoder
from synthcl.runs.export import ENCODER, load_any

_COUNTED = {
    "unlabelled": "images to pretrain on, without labels",
    "labelled": "labelled images for probes to learn from",
    "classes": "classes",
    "validation": "labelled images of validation",
    "test": "labelled images of test",
}
_SPLITS = {"test": "test", "val": "validation"}


def publish(encoder: Path, folder: Path, *, license: str, trust_code: bool = False) -> list[Path]:
    """Write the folder.

    Args:
        encoder: an `encoder.safetensors` with its card beside it.
        folder: made if missing; files of these names in it are replaced.
        license: of the weights, as a hub names it, such as `apache-2.0`.
        trust_code: as of `load_encoder`.

    Returns:
        What was written.

    Raises:
        UserError: when the encoder cannot be loaded, the folder is the encoder's own, or the disk does not take it.
    """
    if encoder.is_dir():
        encoder /= ENCODER
    if encoder.suffix != ".safetensors":
        raise UserError(f"encoder {str(encoder)!r} has no card; publish an encoder.safetensors")
    load_any(encoder, trust_code=trust_code)
    if folder.absolute() == encoder.parent.absolute():
        raise UserError(f"--publish {str(folder)!r} is where the encoder is; name a folder of its own")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--publish {str(folder)!r} is a file; name a folder")
    written = encoder.with_suffix(".json")
    card = json.loads(written.read_text())
    card["config"] = without_places(card["config"])
    card["encoder"] = card["config"]["encoder"]
    when = datetime.fromtimestamp(written.stat().st_mtime, UTC).date()
    files = [folder / ENCODER, (folder / ENCODER).with_suffix(".json"), folder / "README.md"]
    with disk_failures_named("--publish", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with encoder.open("rb") as weights, whole_file(files[0]) as stream:
            shutil.copyfileobj(weights, stream)
        write_whole(files[1], json.dumps(card, indent=2) + "\n")
        write_whole(files[2], model_card(card, license, str(when)))
    return files


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """A recorded configuration in which folders of this machine are names only, and no cluster or bucket is named.

    Args:
        config: as a card has it.
    """
    data, evaluation = dict(config["data"]), dict(config["evaluation"])
    data["root"] = Path(data["root"]).name
    if data.get("labels", "").endswith(".csv"):
        data["labels"] = Path(data["labels"]).name
    evaluation["transfer"] = [_named(target) for target in evaluation["transfer"]]
    synthetic = {name: source | _folder_names(source) for name, source in config.get("synthetic", {}).items()}
    fresh = ComputeConfig().model_dump(mode="json")
    compute = config["compute"] | {name: fresh[name] for name in ("address", "storage")}
    evaluation["references"] = {}
    encoder = dict(config["encoder"])
    if encoder.get("weights"):
        encoder["weights"] = Path(encoder["weights"]).name
    return (
        config
        | {"encoder": encoder, "data": data, "evaluation": evaluation, "compute": compute}
        | {"synthetic": synthetic}
    )


def _folder_names(source: dict[str, Any]) -> dict[str, str]:
    """The names of the folder and of the list of a source, where it has them."""
    return {field: Path(source[field]).name for field in ("path", "pairs") if field in source}


def _named(target: str) -> str:
    source, separator, path = target.partition(":")
    return f"{source}{separator}{Path(path).name}"


def model_card(card: dict[str, Any], license: str, date: str) -> str:
    """The README.md: what it is, how it is used, what it was trained on and what it scored.

    Args:
        card: with a configuration `without_places`.
        license: of the weights.
        date: of the training's end.
    """
    config = Config.model_validate(card["config"])
    head = {
        "library_name": "synthcl",
        "license": license,
        "pipeline_tag": "image-feature-extraction",
        "tags": ["self-supervised-learning", "contrastive-learning", "image-feature-extraction"],
        "datasets": [config.data.source],
    }
    side, colours = card["input"]["size_pixels"], "RGB" if config.data.channels == 3 else "grey"
    of = config.encoder.called
    made_by = " and ".join(["real images alone" if config.is_real_only else "real images", *_synthetic(config)])
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {config.name}",
        f"An image encoder ({of}), pretrained without labels by contrastive learning on {made_by}.",
        *_begun_with(config.encoder),
        "```python\nimport synthcl\n\n"
        f'encoder = synthcl.load_encoder("{ENCODER}")\n'
        'features = encoder(encoder.transform("photo.jpg"))\n```',
        f"It takes {colours} images of {side} x {side} pixels in [-1, 1]; `encoder.transform` resizes, crops, scales.",
        "## Training",
        f"{config.data.source} at {config.data.image_size} pixels, {_share(config)}; "
        f"{config.training.steps:,} steps of {2 * config.training.batch_images} views, "
        f"{config.training.kimg:g} thousand images; seed {config.training.seed}; ended on {date}. All settings are in "
        f"`{Path(ENCODER).with_suffix('.json')}`; "
        + ", ".join(f"{name} {version}" for name, version in card["versions"].items())
        + ".",
        *_data(card.get("data", {})),
        "## Scores",
        *([f"{card['refit']['scores'].capitalize()}."] if "refit" in card else _scores(card["scores"])),
    ]
    return "\n\n".join(lines) + "\n"


def _share(config: Config) -> str:
    if config.data.pretrain_on == "all":
        return "all of its images, validation and test too"
    return f"{config.data.image_fraction:.3g} of its images"


def _begun_with(encoder: AnyEncoder) -> list[str]:
    """Where its weights come from and how it sees images, where that is not from nothing."""
    if encoder.weights is None:
        return []
    mean, std = (", ".join(f"{value:g}" for value in values) for values in encoder.statistics())
    return [
        f"Its training began with the weights `{encoder.weights}` of {encoder.called}, whose licence binds it. "
        f"The network itself brings images to the mean ({mean}) and standard deviation ({std}) that they expect."
    ]


def _data(counts: dict[str, int]) -> list[str]:
    """A table of what it was trained on and scored by."""
    if not counts:
        return []
    rows = [f"| {_COUNTED[name]} | {count:,} |" for name, count in counts.items() if name in _COUNTED]
    return ["## Data", "\n".join(["| what | number |", "| --- | ---: |", *rows])]


def _synthetic(config: Config) -> list[str]:
    """Where synthetic images are from, in words."""
    of_gan = ["those of a generator trained with it"] if config.needs_gan else []
    return of_gan + [
        f"synthetic ones of the folder {source.path!r}" + (", each made from a real one" if source.attached else "")
        for source in config.folders_on.values()
    ]


def _scores(scores: dict[str, Any]) -> list[str]:
    """A table of what a search or a training has recorded."""
    over_seeds, own = scores.get("over_seeds", {}), scores.get("this_seed", scores)
    rows = []
    for name, value in sorted(own.items()):
        split = _SPLITS.get(name.split("/")[0])
        if split is None or not isinstance(value, int | float):
            continue
        several = over_seeds.get(name)
        mean = f"{several['mean']:.2f}" if several else "-"
        spread = f"{several['std']:.2f}" if several and several["std"] is not None else "-"
        rows.append(f"| `{name}` | {split} | {value:.2f} | {mean} | {spread} | {several['n'] if several else 1} |")
    if not rows:
        return ["It was not scored: its training had no labels."]
    told = "Accuracy in percent of probes on frozen features; a name has the share or number of labels after @."
    return [
        told,
        "| score | split | this encoder | mean over seeds | standard deviation | seeds |\n"
        "| --- | --- | ---: | ---: | ---: | ---: |\n" + "\n".join(rows),
    ]
