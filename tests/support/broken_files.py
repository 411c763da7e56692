"""Files and folders that are wrong in one way each; every function writes its own below the folder it is given."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import torch
from image_files import write_classes, write_image
from PIL import Image
from safetensors.torch import load_file, save_file
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.config.cli import SMOKE_TEST
from synthcl.config.presets import load_preset
from synthcl.runs import checkpoint
from synthcl.runs.checkpoint import FILE, FORMAT
from synthcl.runs.checkpoint_store import save
from synthcl.runs.export import save_encoder
from synthcl.training.trainer import Trainer

ROOT = Path(__file__).parents[2]


def prepare(name: str, here: Path) -> None:
    """Call the function of this name, or cut a file of an interrupted search in half: `half_of_<file>`."""
    if name.startswith("half_of_"):
        unfinished(here)
        file = here / "runs" / "fashion-mini-smoke" / name.removeprefix("half_of_")
        file.write_text(file.read_text()[: file.stat().st_size // 2])
    else:
        globals()[name](here)


# ---- presets and spaces


def folder_for_a_preset(here: Path) -> None:
    (here / "a.yaml").mkdir()


def binary_preset(here: Path) -> None:
    (here / "a.yaml").write_bytes(b"\xff\x00\x80")


def binary_space(here: Path) -> None:
    (here / "s.yaml").write_bytes(b"\xff\xfe\x80")


# ---- images


def empty(here: Path) -> None:
    (here / "images").mkdir()


def a_file(here: Path) -> None:
    (here / "images").write_text("no folder")


def empty_class(here: Path) -> None:
    write_classes(here / "images" / "train", 3)
    (here / "images" / "train" / "eel").mkdir()


def loose_image(here: Path) -> None:
    write_classes(here / "images" / "train", 3)
    write_image(here / "images" / "train" / "stray.png", 0)


def flat(here: Path) -> None:
    for index in range(20):
        write_image(here / "images" / f"{index}.png", index)


def one_class(here: Path) -> None:
    write_classes(here / "images" / "train", 20, ("cat",))
    write_classes(here / "images" / "test", 2, ("cat",))


def single_image(here: Path) -> None:
    write_classes(here / "images" / "train", 20)
    write_classes(here / "images" / "train", 1, ("eel",))
    write_classes(here / "images" / "test", 2)


def foreign_test_class(here: Path) -> None:
    good(here)
    write_classes(here / "images" / "test", 2, ("fox",))


def good(here: Path) -> None:
    """Twenty images of two classes in many sizes, with a link that leads back up."""
    write_classes(here / "images" / "train", 10)
    write_classes(here / "images" / "test", 2)
    os.symlink(here / "images" / "train" / "cat", here / "images" / "train" / "cat" / "again")


def grey_and_transparent(here: Path) -> None:
    """`good`, with a grey, a transparent, a palette, a 16-bit and a tiny image among them."""
    good(here)
    folder = here / "images" / "train" / "cat"
    for mode, size in {"L": (40, 40), "RGBA": (40, 20), "P": (20, 40), "I;16": (40, 40), "1": (3, 200)}.items():
        Image.new(mode, size, 1).save(folder / f"{mode[0]}{size[0]}.png")


def corrupt(here: Path) -> None:
    grey_and_transparent(here)
    image = here / "images" / "train" / "dog" / "3.png"
    image.write_bytes(image.read_bytes()[:100])


def no_image(here: Path) -> None:
    good(here)
    (here / "images" / "train" / "dog" / "3.png").write_text("<html>404</html>")


def no_test_image(here: Path) -> None:
    good(here)
    (here / "images" / "test" / "dog" / "1.png").write_text("<html>404</html>")


def empty_unlabelled(here: Path) -> None:
    good(here)
    (here / "images" / "unlabelled" / "later").mkdir(parents=True)


def no_unlabelled(here: Path) -> None:
    good(here)
    (here / "images" / "unlabelled").mkdir()
    (here / "images" / "unlabelled" / "0.png").write_text("<html>404</html>")


def no_train(here: Path) -> None:
    for index in range(20):
        write_image(here / "images" / "unlabelled" / f"{index}.png", index)


def float_image(here: Path) -> None:
    good(here)
    Image.new("F", (20, 20)).save(here / "images" / "train" / "dog" / "3.tiff")


def dangling(here: Path) -> None:
    good(here)
    os.symlink(here / "nowhere.png", here / "images" / "train" / "dog" / "link.png")


def loop_only(here: Path) -> None:
    (here / "images" / "train" / "cat").mkdir(parents=True)
    os.symlink("..", here / "images" / "train" / "cat" / "up")


def itself(here: Path) -> None:
    os.symlink("images", here / "images")


def broken_archive(here: Path) -> None:
    (here / "cifar-10-batches-py").mkdir()
    (here / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"half")


# ---- checkpoints and encoders


def saved(here: Path) -> None:
    config = tiny_config({"data.source": "digits"})
    save(Trainer(config, random_images(), untrained_gan(config), CPU), here)


def exported(here: Path) -> None:
    config = tiny_config({"data.source": "digits"})
    networks = Trainer(config, random_images(), untrained_gan(config), CPU).networks
    save_encoder(here / "encoder.safetensors", networks.encoder, config, {})


def folder_of_features(here: Path) -> None:
    exported(here)
    (here / "d.pt").mkdir()


def one_readable(here: Path) -> None:
    exported(here)
    write_image(here / "g.png", 0)


def truncated(here: Path) -> None:
    saved(here)
    (here / FILE).write_bytes((here / FILE).read_bytes()[:5000])


def text_checkpoint(here: Path) -> None:
    (here / FILE).write_text("weights\n")


def foreign(here: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(3)}}, here / FILE)


def changed(here: Path, **parts: object) -> None:
    saved(here)
    torch.save(checkpoint.load(here, CPU) | parts, here / FILE)


def newer(here: Path) -> None:
    changed(here, format=FORMAT + 1)


def other_version(here: Path) -> None:
    changed(here, config={"name": "run", "tomorrow": 1}, versions={"synthcl": "9.0"})


def other_shapes(here: Path) -> None:
    saved(here)
    state = checkpoint.load(here, CPU)
    weights = state["trainer"]["networks"]["encoder"]
    weights["0.weight"] = weights["0.weight"][:2]
    torch.save(state, here / FILE)


class Malicious:
    """Unpickling it creates the file `created`."""

    def __init__(self, here: Path) -> None:
        self.path = str(here / "created")

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def malicious(here: Path) -> None:
    changed(here, trainer=Malicious(here))


def bare_pickle(here: Path) -> None:
    (here / FILE).write_bytes(pickle.dumps(Malicious(here)))


def pickled_encoder(here: Path) -> None:
    exported(here)
    (here / "encoder.safetensors").write_bytes(pickle.dumps(Malicious(here)))


def no_card(here: Path) -> None:
    exported(here)
    (here / "encoder.json").unlink()


def foreign_card(here: Path) -> None:
    exported(here)
    (here / "encoder.json").write_text('{"model": "resnet"}')


def truncated_encoder(here: Path) -> None:
    exported(here)
    (here / "encoder.safetensors").write_bytes((here / "encoder.safetensors").read_bytes()[:-100])


def other_encoder(here: Path) -> None:
    exported(here)
    weights = load_file(here / "encoder.safetensors")
    save_file({name: value[:1].clone() for name, value in weights.items() if value.ndim}, here / "encoder.safetensors")


# ---- runs


def unfinished(here: Path) -> None:
    """A search that was interrupted early."""
    run = here / "runs" / "fashion-mini-smoke"
    run.mkdir(parents=True)
    overrides = SMOKE_TEST | {"name": run.name, "compute.storage": str(here / "runs")}
    config = load_preset("fashion-mini").with_overrides(overrides)
    (run / "config.json").write_text(config.model_dump_json())
    (run / "space.yaml").write_text((ROOT / "synthcl/search/spaces/curriculum.yaml").read_text())
    stages = [{"name": "search-1", "kind": "search", "trials": 4, "done": False}]
    stages += [{"name": "confirm-1", "kind": "confirm", "done": False}]
    (run / "state.json").write_text(json.dumps(stages))
    (run / "train-joint.config.json").write_text(config.model_dump_json())


def changed_space(here: Path) -> None:
    unfinished(here)
    (here / "runs" / "fashion-mini-smoke" / "space.yaml").write_text("terms.contrast.temperature: {low: 0.1, high: 1}")


def damaged_study(here: Path) -> None:
    unfinished(here)
    (here / "runs" / "fashion-mini-smoke" / "study.journal").write_text("\x00\x00\x00\nmore\n")


def file_for_a_run(here: Path) -> None:
    (here / "runs").mkdir()
    (here / "runs" / "fashion-mini-smoke").write_text("a file where the run's folder belongs")
