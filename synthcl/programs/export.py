"""An encoder for other programs and people: ONNX, TorchScript, or a folder to publish.

synthcl export runs/fashion-mini/encoder.safetensors --onnx encoder.onnx
synthcl export runs/fashion-mini/encoder.safetensors --torchscript encoder.pt
synthcl export runs/fashion-mini/encoder.safetensors --publish my-encoder --license apache-2.0

The first two take images (n, C, S, S) in [-1, 1] for any n, are compared with the encoder, and are written only when
they give the same features. --onnx needs pip install 'synthcl[onnx]'. --publish writes the weights, a card without
places of this machine, and a README.md with the fields that a model hub reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from synthcl.core.errors import UserError
from synthcl.runs.export import load_any
from synthcl.runs.feature_file import require_writable
from synthcl.runs.portable import require_onnx, write_onnx, write_torchscript
from synthcl.runs.publish import publish


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("encoder", type=Path, help="encoder.safetensors, checkpoint.pt, or a folder with one of them")
    made.add_argument("--onnx", type=Path, metavar="FILE", help="write encoder.onnx")
    made.add_argument("--torchscript", type=Path, metavar="FILE", help="write encoder.pt, for torch.jit.load")
    made.add_argument("--publish", type=Path, metavar="FOLDER", help="write weights, card and README.md into a folder")
    made.add_argument("--license", default="other", help="of the published weights, such as apache-2.0")
    made.add_argument("--trust-code", action="store_true", help="import the module that an encoder of yours names")
    return made


def main() -> None:
    arguments = parser().parse_args()

    if arguments.onnx:
        require_writable("--onnx", arguments.onnx, (".onnx",))
        require_onnx()
    if arguments.torchscript:
        require_writable("--torchscript", arguments.torchscript, (".pt", ".ts"))
    if not (arguments.onnx or arguments.torchscript or arguments.publish):
        raise UserError(
            f"export of {str(arguments.encoder)!r} to nothing; give --onnx FILE, --torchscript FILE or --publish FOLDER"
        )
    if arguments.publish:
        given = {"license": arguments.license, "trust_code": arguments.trust_code}
        for file in publish(arguments.encoder, arguments.publish, **given):
            print(file)
        if not (arguments.onnx or arguments.torchscript):
            return
    encoder, _ = load_any(arguments.encoder, trust_code=arguments.trust_code)
    if arguments.onnx:
        difference = write_onnx(arguments.onnx, encoder)
        found = "not checked: onnxruntime is not installed"
        print(f"{arguments.onnx}: {found if difference is None else _within(difference, 'onnxruntime')}")
    if arguments.torchscript:
        print(f"{arguments.torchscript}: {_within(write_torchscript(arguments.torchscript, encoder), 'TorchScript')}")


def _within(difference: float, by: str) -> str:
    return f"features by {by} are within {difference:.1g} of the encoder's"
