"""Plans a preset on clusters of GPUs: what a step computes, reads and sends, what it keeps, and what breaks first.

    python -m benchmarks.speed.plan [--preset NAME] [--gpus 8,256] [--tflops N] [--network-gb N] ... [field=value ...]

Nothing is timed: sizes come from the preset and the networks themselves, floating-point operations are counted as in
`bounds.py`, and the rates of the hardware are assumptions that can be given. For every number of GPUs three layouts:
the preset's trials side by side, one trial on all GPUs with the preset's batch where it can be shared out among them,
and one with the preset's images a GPU.
W processes share a batch of B images, 2B views, in a step (bytes are what one process sends or receives):

    compute          FLOPs of E, G, G_ema and D over W and the rate of a GPU
    gradients        2 (W - 1) / W * 4 bytes * parameters, a ring of all-reduces: of D, then of E, projector and G
    contrastive      (W - 1) / W * 2B * 4 bytes * dim, gathered, and as much scattered in the backward pass
    statistics       (W - 1) / W * 2B * 4 bytes * feature_dim: features gathered for realism and diversity
    collectives      9 + 2 a batch normalisation, each at a latency, whatever it carries
    images           of the encoder and of D, B (1 - s) + B s / 2 at a synthetic fraction s, read as JPEG where streamed
    checkpoint       weights, average, and moments of those that learn, of a trial, every checkpoint_minutes

The parts of a step do not overlap in this code, so they add up; reading and decoding go on beside them. The longest
wait breaks first, and is given as a multiple of the computing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.speed.bounds import make_trainer, of_step, parts
from benchmarks.support.harness import arguments, comma_separated, finish, table
from synthcl.config import cli
from synthcl.config.cli import parse_overrides
from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.runs.disk import checkpoint_bytes

FLOAT_BYTES = 4
GROUP_BYTES = 8
COLLECTIVES = 9
"""a step's own: D's gradients, E's and G's, embeddings and their gradient, groups, features of real and of synthetic
views, centre of the embeddings, norms at G's images"""


@dataclass(frozen=True)
class Networks:
    """What the networks of a preset amount to."""

    flops_per_image: float
    learning: int
    """parameters whose gradients are averaged"""
    batch_norms: int
    feature_dim: int


@dataclass(frozen=True)
class Layout:
    """How a cluster is used."""

    kind: str
    trials: int
    config: Config

    @property
    def workers(self) -> int:
        return self.config.compute.workers_per_trial

    @property
    def batch(self) -> int:
        return self.config.training.batch_images

    @property
    def name(self) -> str:
        return f"{self.trials} x {self.workers}, batch {self.batch:,}"


@dataclass(frozen=True)
class Step:
    """One step of every trial of a layout, by what it waits for, in seconds, and what one process sends, in bytes."""

    compute: float
    gradients: float
    contrastive: float
    statistics: float
    latency: float
    decoding: float
    """where images are streamed, which is done beside the GPU's work"""
    storage: float
    """likewise"""
    gradient_bytes: float
    contrastive_bytes: float
    statistics_bytes: float
    images: int
    """read by all processes of a trial"""

    @property
    def seconds(self) -> float:
        """Of a step whose images lie on the GPU."""
        return self.compute + self.gradients + self.contrastive + self.statistics + self.latency

    def first_to_break(self, streamed: bool) -> str:
        """What takes longest of all that is no computing, and how many times the computing."""
        waits = {
            "gradients": self.gradients,
            "gathers": self.contrastive + self.statistics,
            "latency of collectives": self.latency,
        }
        if streamed:
            waits |= {"decoding": self.decoding, "storage": self.storage}
        name = max(waits, key=lambda wait: waits[wait])
        return f"{name}, {waits[name] / self.compute:.2g} x"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--preset", default="imagenet100")
    parser.add_argument("--gpus", type=comma_separated(int), default=[8, 256])
    parser.add_argument("--tflops", type=float, default=100.0, help="TFLOP/s that a GPU reaches in these networks")
    parser.add_argument("--node-gpus", type=int, default=8, help="GPUs of one node")
    parser.add_argument("--node-gb", type=float, default=200.0, help="GB/s from GPU to GPU inside a node")
    parser.add_argument("--network-gb", type=float, default=25.0, help="GB/s from a GPU to one of another node")
    parser.add_argument("--latency-us", type=float, default=40.0, help="microseconds of a small collective")
    parser.add_argument("--storage-gb", type=float, default=2.0, help="GB/s that the storage gives to all processes")
    parser.add_argument("--images", type=int, default=126_689, help="in the training part")
    parser.add_argument("--jpeg-kb", type=float, default=110.0, help="of one image file")
    parser.add_argument("--decoded", type=float, default=300.0, help="images a second and core: read, decode, shrink")
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    options = parser.parse_intermixed_args()
    config = load_preset(options.preset).with_overrides(parse_overrides(options.overrides))
    networks = measure(config)
    ratios: dict[str, float] = {}
    for gpus in options.gpus:
        chosen = layouts(config, gpus)
        steps = [plan(layout, networks, options) for layout in chosen]
        columns = [describe(layout, step, options) for layout, step in zip(chosen, steps, strict=True)]
        print(f"{config.name} on {gpus} GPUs: trials x GPUs of each, images in a batch\n")
        if config.training.batch_images % (2 * gpus):
            print(
                f"One trial with the preset's batch is left out: training.batch_images {config.training.batch_images} "
                f"is no multiple of {2 * gpus}, two images a GPU.\n"
            )
        rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
        table(("", *(layout.name for layout in chosen)), rows)
        print()
        for layout, step in zip(chosen, steps, strict=True):
            ratios[f"{gpus}_gpus_{layout.kind}_communication_over_compute"] = step.seconds / step.compute - 1
    finish(ratios)


def measure(config: Config) -> Networks:
    """Count what the joint step of a preset computes and what its networks weigh."""
    trainer = make_trainer(config.with_overrides({"compute.workers_per_trial": 1}), "joint", torch.device("cpu"))
    networks = trainer.networks
    learning = [networks.encoder, networks.projector, networks.generator, networks.discriminator]
    normed = [module for network in learning[:2] if network for module in network.modules()]
    return Networks(
        flops_per_image=of_step(parts(trainer)).flops / config.training.batch_images,
        learning=sum(map(parameters, filter(None, learning))),
        batch_norms=sum(isinstance(module, _BatchNorm) for module in normed),
        feature_dim=int(networks.encoder.feature_dim),  # type: ignore[arg-type]
    )


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def layouts(config: Config, gpus: int) -> list[Layout]:
    """Trials side by side, one trial on all GPUs if its batch can be shared out, and one with the same images a GPU.

    Raises:
        UserError: when the GPUs are no multiple of a trial's.
    """
    workers, batch = config.compute.workers_per_trial, config.training.batch_images
    if gpus % workers:
        raise UserError(f"--gpus {gpus} must be a multiple of compute.workers_per_trial {workers}")
    on_all: dict[str, object] = {"compute.workers_per_trial": gpus, "compute.min_workers_per_trial": None}
    larger = {"training.batch_images": batch * gpus // workers}
    chosen = [Layout("side_by_side", gpus // workers, config)]
    if batch % (2 * gpus) == 0:
        chosen.append(Layout("one_trial", 1, config.with_overrides(on_all)))
    return [*chosen, Layout("one_trial_large_batch", 1, config.with_overrides(on_all | larger))]


def plan(layout: Layout, networks: Networks, hardware: argparse.Namespace) -> Step:
    """Formulae of this file's head, for the middle of a run."""
    config, workers, batch = layout.config, layout.workers, layout.batch
    mix, others = config.mix_at(0.5), (workers - 1) / workers
    images = mix.images + mix.latents
    gradient = 2 * others * FLOAT_BYTES * networks.learning
    contrastive = others * 2 * batch * (2 * FLOAT_BYTES * config.heads["main"].dim + GROUP_BYTES)
    statistics = others * 2 * batch * FLOAT_BYTES * networks.feature_dim
    collectives = (COLLECTIVES + 2 * networks.batch_norms) * (workers > 1)
    sent_per_second = 1e9 * (hardware.node_gb if workers <= hardware.node_gpus else hardware.network_gb)
    cores = workers * config.compute.cpus_per_worker
    return Step(
        compute=networks.flops_per_image * batch / workers / (1e12 * hardware.tflops),
        gradients=gradient / sent_per_second,
        contrastive=contrastive / sent_per_second,
        statistics=statistics / sent_per_second,
        latency=collectives * 1e-6 * hardware.latency_us,
        decoding=images / (cores * hardware.decoded),
        storage=layout.trials * images * 1e3 * hardware.jpeg_kb / (1e9 * hardware.storage_gb),
        gradient_bytes=gradient,
        contrastive_bytes=contrastive,
        statistics_bytes=statistics,
        images=images,
    )


def describe(layout: Layout, step: Step, hardware: argparse.Namespace) -> dict[str, object]:
    """The rows of one layout's column."""
    config, training = layout.config, layout.config.training
    rate = layout.trials * step.images / step.seconds
    checkpoint, data = checkpoint_bytes(config), hardware.images * 1e3 * hardware.jpeg_kb
    processes, share = layout.trials * layout.workers, (1 - config.data.validation_fraction) * hardware.images
    similarities = 2 * layout.batch / layout.workers * 2 * layout.batch * FLOAT_BYTES
    return {
        "views a GPU": 2 * layout.batch // layout.workers,
        "synthetic fraction after rounding": config.knobs_at(0.5).synthetic_fraction,
        "compute, ms a step": 1e3 * step.compute,
        "gradients, ms": 1e3 * step.gradients,
        "contrastive, ms": 1e3 * step.contrastive,
        "statistics, ms": 1e3 * step.statistics,
        "latency of collectives, ms": 1e3 * step.latency,
        "step, ms": 1e3 * step.seconds,
        "hours a trial": training.steps * step.seconds / 3600,
        "gradients, MB a process and step": step.gradient_bytes / 1e6,
        "contrastive, MB": step.contrastive_bytes / 1e6,
        "statistics, MB": step.statistics_bytes / 1e6,
        "similarities, MiB a process": similarities / 2**20,
        "real images a second, all trials": rate,
        "streamed: GB/s from storage": rate * 1e3 * hardware.jpeg_kb / 1e9,
        "streamed: decoding cores a GPU": rate / hardware.decoded / processes,
        "resident: GB read at the start": data * processes / 1e9,
        "resident: minutes from storage": data * processes / 1e9 / hardware.storage_gb / 60,
        "resident: minutes to decode": share / (max(1, config.data.loader_workers) * hardware.decoded) / 60,
        "checkpoint, MB": checkpoint / 1e6,
        "checkpoints, MB/s": layout.trials * checkpoint / 1e6 / (60 * training.checkpoint_minutes),
        "waits for, longest, resident": step.first_to_break(streamed=False),
        "waits for, longest, streamed": step.first_to_break(streamed=True),
    }


if __name__ == "__main__":
    cli.main(main)
