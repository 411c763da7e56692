"""A finished run's folder without a search: a real Optuna journal, records, checkpoints, samples and event files.

The scores are chosen so that validation and test disagree: trial-002 leads on validation, trial-004 on test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from torch.utils.tensorboard import SummaryWriter

from synthcl.comparison.arms import ARMS, BASELINES, EQUAL_TIME
from synthcl.config.schema import Config
from synthcl.runs import checkpoint
from synthcl.search.study import BASELINE_STUDY, OPPONENT_STUDY, STUDY, journal
from synthcl.training.networks import make_networks

SEEDS = (1000, 1001, 1002)
RUNGS = (2048, 4096, 8192)
SOURCE = "fashion-mini"

# name: for each seed (validation linear, validation transfer, test linear, test transfer)
CONFIRMED = {
    "real-only": [(80.0, 60.0, 79.0, 59.0), (81.0, 62.0, 80.0, 60.0), (82.0, 61.0, 81.0, 64.0)],
    "frozen-gan": [(79.0, 58.0, 78.5, 57.0), (80.5, 59.0, 79.0, 58.5), (80.0, 60.0, 80.5, 59.0)],
    "joint": [(78.0, 58.0, 79.5, 60.0), (79.0, 59.0, 80.5, 61.0), (80.0, 60.0, 81.5, 62.0)],
    "trial-002": [(84.0, 61.0, 80.0, 60.5), (85.0, 62.0, 80.5, 61.0), (86.0, 63.0, 82.0, 66.0)],
    "trial-004": [(82.0, 64.0, 83.0, 65.0), (83.0, 65.0, 84.0, 66.0), (84.0, 66.0, 85.0, 67.0)],
}
BEST_SEED = {"real-only": 1002, "frozen-gan": 1001, "joint": 1002, "trial-002": 1002, "trial-004": 1002}

# label, state, scores at the rungs reached, transfer, diverged
TRIALS: list[tuple[str, TrialState, list[float], float | None, str | None]] = [
    ("real-only", TrialState.COMPLETE, [70.0, 74.0, 80.5], 60.5, None),
    ("frozen-gan", TrialState.COMPLETE, [69.0, 73.5, 79.5], 59.5, None),
    ("trial-002", TrialState.COMPLETE, [71.0, 76.0, 84.5], 61.5, None),
    ("trial-003", TrialState.PRUNED, [66.0], None, None),
    ("trial-004", TrialState.COMPLETE, [72.0, 77.0, 82.5], 64.5, None),
    ("trial-005", TrialState.PRUNED, [68.0], None, "loss/contrast became nan by step 24 (3072 images)"),
    ("trial-006", TrialState.PRUNED, [69.5, 72.0], None, None),
    ("trial-007", TrialState.FAIL, [], None, None),
    ("trial-008", TrialState.COMPLETE, [70.5, 75.0, 81.0], 59.0, None),
]


OPPONENTS = [(0.2, [70.0, 74.0, 80.0]), (0.3, [71.0, 75.0, 82.0]), (0.4, [60.0]), (0.1, [72.0, 74.5, 81.0])]
"""of real images alone: temperature, and scores at the rungs reached; the first is the configuration's own"""

EARLIER_VERSION = {"trial-008"}
"""trials whose last rung lacks the measure of the earlier ones"""


def run_config(root: Path) -> Config:
    """Tiny networks under a storage root."""
    return Config(name="finished").with_overrides(
        {
            "encoder.width": 4,
            "heads.main.hidden": 8,
            "heads.main.dim": 8,
            "synthetic.gan.generator_width": 4,
            "synthetic.gan.discriminator_width": 4,
            "synthetic.gan.latent_dim": 8,
            "training.kimg": RUNGS[-1] / 1000,
            "training.batch_images": 128,
            "evaluation.rungs": [0.25, 0.5, 1.0],
            "search.budgets": 7,
            "search.confirm_seeds": len(SEEDS),
            "compute.storage": str(root),
        }
    )


def make_run(
    root: Path,
    *,
    confirmed: dict[str, list[tuple[float, float, float, float]]] | None = None,
    stopped: int = 0,
    one_study: bool = False,
    opponents: bool = False,
) -> Path:
    """Write the run `finished` under a storage root.

    Args:
        root: the storage root.
        confirmed: scores of the confirm runs in place of `CONFIRMED`; none for a search that stopped before them.
        stopped: trials after `TRIALS` that ended at the first rung.
        one_study: baselines among the trials, as older journals have them.
        opponents: whether real-only has been searched, too, as `OPPONENTS` says; else as earlier versions did.

    Returns:
        The run's folder.
    """
    config = run_config(root)
    folder = root / config.name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config.model_dump_json(indent=2))
    trials = TRIALS + [
        (f"trial-{number:03d}", TrialState.PRUNED, [60.0 + number / 10], None, None) for number in range(9, 9 + stopped)
    ]
    _write_study(folder, trials, one_study)
    if opponents:
        _write_opponents(folder)
    for name, scores in (CONFIRMED if confirmed is None else confirmed).items():
        for seed, values in zip(SEEDS, scores, strict=False):
            _write_confirmed(folder, config, name, seed, values)
    return folder


def overrides_of(label: str) -> dict[str, Any]:
    """What the search proposed for a trial, or what defines an arm."""
    if label in ARMS:
        return ARMS[label]
    if label == EQUAL_TIME:
        return {"training.kimg": 2 * RUNGS[-1] / 1000} | ARMS["real-only"]
    if label.startswith("real-only-"):
        return {"terms.contrast.temperature": OPPONENTS[int(label[-3:])][0]} | ARMS["real-only"]
    arm, _, searched = label.partition("+")
    if searched:
        return overrides_of(searched) | ARMS[arm]
    number = int(label.split("-")[1])
    params = {
        "curriculum.hardness.kind": "linear" if number % 2 else "constant",
        "curriculum.hardness.start": round(0.1 * (number % 10), 3),
        "terms.contrast.temperature": round(0.1 + 0.03 * ((number * 5) % 7), 3),
    }
    return params | ({"curriculum.hardness.end": 0.05 * (number % 10)} if number % 2 else {})


def _write_study(folder: Path, trials: list[Any], one_study: bool) -> None:
    quiet = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = journal(folder / "study.journal")
    baselines, study = (
        optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        for name in (STUDY if one_study else BASELINE_STUDY, STUDY)
    )
    optuna.logging.set_verbosity(quiet)
    distributions: dict[str, BaseDistribution] = {
        "curriculum.hardness.kind": CategoricalDistribution(["constant", "linear"]),
        "curriculum.hardness.start": FloatDistribution(0.0, 1.0),
        "curriculum.hardness.end": FloatDistribution(0.0, 1.0),
        "terms.contrast.temperature": FloatDistribution(0.05, 0.5),
    }
    for label, state, scores, transfer, diverged in trials:
        params = {} if label in BASELINES else overrides_of(label)
        curve = dict(zip(RUNGS, scores, strict=False))
        metrics = {"score": scores[-1]} if scores else {}
        if transfer is not None:
            metrics |= {f"val/linear/{SOURCE}@100": scores[-1], "val/transfer/mean": transfer}
            if label not in EARLIER_VERSION:
                metrics["rung_score"] = scores[-2] + 1
        attributes: dict[str, Any] = {"label": label, "metrics": metrics, "images": max(curve, default=0)}
        if label in BASELINES:
            attributes["arm"] = label
        if diverged:
            curve[3072] = 0.0
            attributes |= {"diverged": diverged, "images": 3072}
        (baselines if label in BASELINES else study).add_trial(
            optuna.trial.create_trial(
                state=state,
                value=scores[-1] if state is TrialState.COMPLETE else None,
                params=params,
                distributions={path: distributions[path] for path in params},
                intermediate_values=curve,
                user_attrs=attributes,
            )
        )


def _write_opponents(folder: Path) -> None:
    study = optuna.create_study(study_name=OPPONENT_STUDY, storage=journal(folder / "study.journal"))
    for number, (temperature, scores) in enumerate(OPPONENTS):
        whole = len(scores) == len(RUNGS)
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if whole else TrialState.RUNNING,
                value=scores[-1] if whole else None,
                params={"terms.contrast.temperature": temperature},
                distributions={"terms.contrast.temperature": FloatDistribution(0.05, 0.5)},
                intermediate_values=dict(zip(RUNGS, scores, strict=False)),
                user_attrs={"label": f"real-only-{number:03d}", "arm": "real-only", "until": RUNGS[len(scores) - 1]}
                | {"images": RUNGS[len(scores) - 1], "metrics": {"score": scores[-1]}},
            )
        )


def _write_confirmed(
    folder: Path, config: Config, name: str, seed: int, scores: tuple[float, float, float, float]
) -> None:
    overrides = overrides_of(name) | {"training.seed": seed}
    label = f"{name}-seed{seed}"
    networks = make_networks(own := config.with_overrides(overrides), _untrained_gan(config), torch.device("cpu"))
    states = {part: network.state_dict() for part, network in vars(networks).items() if network is not None}
    samples = None
    if networks.generator is not None:
        samples = torch.rand(2, 8, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    where = Path("confirm-1") / label
    checkpoint.save(folder / where, own, {"networks": states}, samples)

    if samples is not None:
        grids = folder / "samples" / label
        grids.mkdir(parents=True)
        for images in RUNGS:
            (grids / f"{images:012d}.png").write_bytes((folder / where / "samples.png").read_bytes())
    with SummaryWriter(str(folder / "tensorboard" / "confirm" / label)) as writer:
        for images in RUNGS:
            writer.add_scalar("loss/contrast", 5.0 - images / 4096, images)
            if samples is not None:
                writer.add_scalar("synthetic/pair_similarity", 0.9 - images / 16384, images)
                writer.add_scalar("gan/accuracy", 0.6, images)

    linear, transfer, test_linear, test_transfer = scores
    record = {
        "name": name,
        "label": label,
        "overrides": overrides,
        "seed": seed,
        "images": RUNGS[-1],
        "seconds": 20.0,
        "metrics": {
            "score": linear,
            f"val/linear/{SOURCE}@100": linear,
            "val/transfer/mean": transfer,
            f"test/knn/{SOURCE}": test_linear - 2,
            f"test/linear/{SOURCE}@100": test_linear,
            f"test/linear/{SOURCE}@10": test_linear - 5,
            f"test/linear/{SOURCE}@1": test_linear - 15,
            "test/transfer/mean": test_transfer,
        },
        "checkpoint": where.as_posix(),
    }
    (folder / "confirm").mkdir(exist_ok=True)
    (folder / "confirm" / f"{label}.json").write_text(json.dumps(record))


def _untrained_gan(config: Config) -> dict[str, dict[str, torch.Tensor]]:
    from synthcl.method.synthetic.gan.networks import make_discriminator, make_generator

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = (config.data.channels, config.gan_image_size)
        generator, discriminator = make_generator(config.gan, *size), make_discriminator(config.gan, *size)
    return {"generator": generator.state_dict(), "discriminator": discriminator.state_dict()}
