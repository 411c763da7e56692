"""Run a program of tune/ in this process."""

import io
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

ROOT = Path(__file__).parents[1]


def run(program, *given, out=None):
    """Run a program in this process: importing torch and Ray for every line of a table would take minutes.

    `out` is where its standard output goes, for whoever reads along.
    """
    script = str(ROOT / f"tune/{program}.py")
    out, err = out or io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", [script, *given]), redirect_stdout(out), redirect_stderr(err):
        try:
            runpy.run_path(script, run_name="__main__")
            code = 0
        except SystemExit as leave:
            code = leave.code
    return SimpleNamespace(returncode=code or 0, stdout=out.getvalue(), stderr=err.getvalue())
