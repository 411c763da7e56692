"""Run a program of the repository in this process."""

import io
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

ROOT = Path(__file__).parents[2]


def run(program, *given, out=None):
    """Run a program by its name; `out` is where its standard output goes, for whoever reads along."""
    script = f"tune/{program}.py"
    if not (ROOT / script).is_file():
        return run_script("synthcl/programs/command.py", program, *given, out=out)
    return run_script(script, *given, out=out)


def run_script(path, *given, out=None):
    """Run a file of the repository in this process: importing torch and Ray for every line of a table takes minutes."""
    script = str(ROOT / path)
    out, err = out or io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", [script, *given]), redirect_stdout(out), redirect_stderr(err):
        try:
            runpy.run_path(script, run_name="__main__")
            code = 0
        except SystemExit as leave:
            code = leave.code
    return SimpleNamespace(returncode=code or 0, stdout=out.getvalue(), stderr=err.getvalue())
