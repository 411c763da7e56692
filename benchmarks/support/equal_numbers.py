"""Does a refactoring change a number? Weights and metrics of 20 steps of every arm, to the last bit.

    python -m benchmarks.support.equal_numbers --write before.json data.root=PATH     # with the code as it was
    python -m benchmarks.support.equal_numbers --check before.json data.root=PATH     # with the code as it is

Every arm of the presets (CIFAR-10 under PATH for `cifar10-weak-views`) trains 20 steps in one process and again in two
(gloo), in fp32 on one thread each, from a GAN of a short warm-up. Compared are SHA-256 digests of the warmed-up GAN, of
every network, every logged metric and the scores of the encoder. Digests hold on one machine with one version of torch,
so both commands are given on the same one; `--write` and `--check` of the same code must agree, else the comparison
itself is broken. Exit code 1: something differs, and the lines say what. About three minutes on two cores; `--arms`
takes some of them.
"""

import hashlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.support.harness import arguments, comma_separated
from synthcl import load_preset
from synthcl.comparison.arms import apply_arm, arms_of
from synthcl.config.cli import parse_overrides
from synthcl.config.schema import Config
from synthcl.data import open_split
from synthcl.evaluation.protocol import score
from synthcl.runs.gan_cache import warm_up
from synthcl.training.networks import GanState
from synthcl.training.trainer import Trainer

STEPS = 20
PRESETS = ("fashion-mini", "cifar10-weak-views")
CPU = torch.device("cpu")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--presets", type=comma_separated(str), default=list(PRESETS))
    parser.add_argument("--arms", type=comma_separated(str), help="all that a preset has, unless given")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the digests there")
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare with the digests written there")
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    options = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    found: dict[str, str] = {}
    for preset in options.presets:
        base = short(load_preset(preset).with_overrides(parse_overrides(options.overrides)))
        arms = options.arms or arms_of(base)[: 2 if options.quick else None]
        found |= {f"{preset} {name}": digest for name, digest in digests(base, arms)}
        print(f"{preset}: {len(found)} digests", flush=True)
    if options.write:
        options.write.write_text(json.dumps(found, indent=1) + "\n")
    if options.check:
        before = json.loads(options.check.read_text())
        named = found if options.arms else {*before, *found}
        different = [name for name in sorted(named) if before.get(name) != found.get(name)]
        print("\n".join(f"differs: {name}" for name in different) or f"all {len(found)} digests are equal")
        sys.exit(1 if different else 0)


def short(preset: Config) -> Config:
    """The preset with 20 steps as its whole budget, so that its schedules run from beginning to end."""
    batch = preset.training.batch_images
    return preset.with_overrides(
        {
            "training.kimg": STEPS * batch / 1000,
            "training.log_kimg": 5 * batch / 1000,
            "synthetic.gan.warmup_kimg": 10 * preset.gan.warmup_batch_images / 1000,
            "evaluation.early_label_images": 500,
        }
    )


def digests(base: Config, arms: list[str]) -> list[tuple[str, str]]:
    """Named digests of the warm-up and of every arm, in one process and in two."""
    images = open_split(base.data, "unlabelled", CPU).images
    gan, statistics = warm_up(base, images, CPU, progress=False)
    found = [("warm-up", digest([gan, statistics]))]
    for arm in arms:
        found += [(f"{arm}, one process, {what}", value) for what, value in run(base, arm, gan).items()]
    both = base.with_overrides({"compute.workers_per_trial": 2})
    with TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (folder, both.model_dump_json(), arms, gan), nprocs=2)
        for rank in range(2):
            for arm, values in json.loads(Path(folder, f"{rank}.json").read_text()).items():
                found += [(f"{arm}, process {rank} of two, {what}", value) for what, value in values.items()]
    return found


def work(rank: int, folder: str, config: str, arms: list[str], gan: GanState) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    base = Config.model_validate_json(config)
    Path(folder, f"{rank}.json").write_text(json.dumps({arm: run(base, arm, gan) for arm in arms}))
    torch.distributed.destroy_process_group()


def run(base: Config, arm: str, gan: GanState) -> dict[str, str]:
    """Digests of one arm after 20 steps: of networks, metrics and scores."""
    config = apply_arm(base, arm)
    images = open_split(config.data, "unlabelled", CPU).images
    trainer = Trainer(config, images, gan if config.needs_gan else None, CPU)
    history = trainer.advance(STEPS)
    scores = score(trainer.networks.encoder, config, CPU, quick=True)
    networks = trainer.state_dict()["networks"]
    return (
        {f"weights of the {name}": digest(state) for name, state in networks.items()}
        | {f"metric {name}": digest([point.get(name) for point in history]) for name in sorted(history[-1])}
        | {f"score {name}": digest(value) for name, value in scores.items()}
    )


def digest(value: Any) -> str:
    """Of tensors and plain values: the first 16 hex digits of the SHA-256 over their exact bytes."""
    sha = hashlib.sha256()

    def feed(node: Any) -> None:
        if isinstance(node, torch.Tensor):
            sha.update(f"{node.dtype}{tuple(node.shape)}".encode())
            sha.update(node.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(node, dict):
            for name in sorted(node):
                sha.update(name.encode())
                feed(node[name])
        elif isinstance(node, list | tuple):
            for each in node:
                feed(each)
        else:
            sha.update((node.hex() if isinstance(node, float) else repr(node)).encode())

    feed(value)
    return sha.hexdigest()[:16]


if __name__ == "__main__":
    main()
