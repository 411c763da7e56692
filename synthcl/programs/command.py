"""The command `synthcl`, which starts one of the programs."""

from __future__ import annotations

import importlib
import sys

PROGRAMS = {
    "search": "search for the curriculum that teaches best",
    "train": "train one configuration",
    "compare": "compare arms over numbers of images and seeds",
    "report": "the page of a search, running or finished",
    "evaluate": "score a frozen encoder",
    "calibrate": "which scores without labels may choose encoders",
    "embed": "write the features of a folder of images",
    "neighbours": "a page of images beside those an encoder finds alike",
    "invert": "write twins of your images, made by the GAN",
    "export": "write an encoder as ONNX or TorchScript",
    "doctor": "look at this machine, or at every node of a cluster",
    "fields": "what can be set, with types, bounds, defaults and a line each",
    "completion": "what a shell needs to complete all this",
}


def main() -> None:
    """Start the program that the first argument names; it has the others."""
    name, given = next(iter(sys.argv[1:]), ""), sys.argv[2:]
    if name not in PROGRAMS:
        print(_usage(), file=sys.stdout if name in ("", "-h", "--help") else sys.stderr)
        sys.exit(0 if name in ("-h", "--help") else 2)
    from synthcl.config import cli  # torch, which takes seconds, is no matter of the list above

    sys.argv = [f"synthcl {name}", *given]
    cli.main(importlib.import_module(f"synthcl.programs.{name}").main)


def _usage() -> str:
    rows = [f"  {name:<10} {what}" for name, what in PROGRAMS.items()]
    return "\n".join(["usage: synthcl PROGRAM ...; synthcl PROGRAM --help says more", "", *rows])


if __name__ == "__main__":
    main()
