"""Score a frozen encoder: linear and nearest-neighbour probes, label fractions, transfer.

As `synthcl evaluate` where the package is installed, or from a checkout:

python tune/evaluate.py runs/fashion-mini/encoder.safetensors
python tune/evaluate.py runs/fashion-mini/confirm-1/joint-seed1000 --test
python tune/evaluate.py encoder.safetensors 'evaluation.transfer=[digits, folder:photos]'
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from synthcl.config.cli import parse_overrides
from synthcl.data import has_labels
from synthcl.evaluation.protocol import score
from synthcl.runs.export import load_any, require_same_encoder
from synthcl.runs.preflight import without_labels


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("checkpoint", type=Path, help="encoder.safetensors, checkpoint.pt, or a checkpoint's folder")
    made.add_argument(
        "overrides", nargs="*", metavar="field=value", help="such as data.root=/data or evaluation.transfer=[mnist]"
    )
    made.add_argument("--test", action="store_true", help="also read the test splits, once every choice is made")
    made.add_argument("--trust-code", action="store_true", help="import the module that an encoder of yours names")
    made.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return made


def main() -> None:
    arguments = parser().parse_intermixed_args()

    encoder, trained = load_any(arguments.checkpoint, trust_code=arguments.trust_code)
    config = trained.with_overrides(parse_overrides(arguments.overrides))
    require_same_encoder(trained, config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder.to(device)
    if not has_labels(config.data):
        print(f"labels: {without_labels(config)}", file=sys.stderr)
    scores = score(encoder, config, device, quick=False, test=arguments.test)
    if arguments.json:
        print(json.dumps(scores))
    else:
        print("\n".join(f"{name:<40}{value:8.2f}" for name, value in scores.items()))
