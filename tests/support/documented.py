"""The shell commands of the documents: found in the text, split by a real bash, parsed by the programs they name."""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from unittest import mock

import pytest
import setuptools  # noqa: F401 (once pip is imported, as below, it cannot be, and torch.compile needs it)
from program import ROOT, run, run_script
from torch import nn

import synthcl.comparison.begin
import synthcl.comparison.plan
import synthcl.programs.evaluate
from synthcl.config.cli import parse_overrides
from synthcl.config.presets import load_preset

SHELL_LANGUAGES = {"", "sh", "bash", "shell", "console"}
INLINE = re.compile(
    r"`((?:python3?|make|pip|tensorboard|optuna-dashboard|\.venv/bin/\S+|synthcl (?:search|train) --preset)\s[^`]+)`"
)
UNLABELLED_IMAGES = 45_000
"""of CIFAR-10's 50,000 for training, less the validation split of the presets: what counting them would find"""


def outside_make() -> dict[str, str]:
    """This environment less what a `make test ARGS=...` hands on to every make below it."""
    return {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKEOVERRIDES", "ARGS"}}


def markdown_commands(text: str) -> list[str]:
    """The fenced and the indented shell blocks of a Markdown text, and its inline commands."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    blocks = [found[2] for found in fenced.finditer(text) if found[1] in SHELL_LANGUAGES]
    rest = fenced.sub("\n", text)
    blocks += [found[0] for found in re.finditer(r"(?<=\n\n)(?: {4}.*\n)(?:(?: {4}.*)?\n)*", rest)]
    return blocks + [found[1] for found in INLINE.finditer(rest)]


def head_comment_commands(text: str) -> list[str]:
    """The blocks that the comment at the head of a YAML file indents by two; `- ` before one is of its lists."""
    head = re.match(r"(?:#.*\n)+", text)
    lines = re.sub(r"^# ?(  - )?", lambda found: "  " if found[1] else "", head[0] if head else "", flags=re.MULTILINE)
    return [found[0] for found in re.finditer(r"(?<=\n\n)(?:  .*\n)+", lines)]


class Shell:
    """A bash that knows the programs of the documents and nothing else, and records how each is called.

    Args:
        folder: an empty one, which it fills.
    """

    PROGRAMS = (
        "python",
        "python3",
        "synthcl",
        "make",
        "ray",
        "pip",
        "pytest",
        "tensorboard",
        "optuna-dashboard",
        "aws",
    )

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.bin = folder / "checkout", folder / "home", folder / "bin"
        self._calls = folder / "calls"
        environment = self.folder / ".venv/bin"
        for made in (environment, self.home / "synthcl", self.bin):
            made.mkdir(parents=True)
        (environment / "activate").touch()
        for program in (
            *(self.bin / name for name in self.PROGRAMS),
            environment / "pre-commit",
            environment / "python",
        ):
            program.write_text(
                "#!/bin/bash\n" + r"""{ printf '%s\x1f' "${0##*/}" "$@"; printf '\x1e'; } >> """ + f"'{self._calls}'\n"
            )
            program.chmod(0o755)
        for name in ("bash", "sh"):
            (self.bin / name).symlink_to(f"/bin/{name}")

    def calls(self, script: str, shell: str = "bash") -> list[list[str]]:
        """The argument lists with which a script calls programs, in order.

        Raises:
            AssertionError: where the shell complains, such as of a program that is not known.
        """
        self._calls.write_text("")
        environment = {"PATH": str(self.bin), "HOME": str(self.home)}
        done = subprocess.run(
            [f"/bin/{shell}", "-ec", script], env=environment, cwd=self.folder, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{script}\n{done.stderr}"
        return [call.split("\x1f")[:-1] for call in self._calls.read_text().split("\x1e")[:-1]]


class Parsed(BaseException):
    """A program has read its arguments; nothing of it runs."""


class Documents:
    """Checks the commands of a document.

    Args:
        folder: an empty one.
        placeholders: words of the documents -> what stands there in the check.
    """

    DRY_RUN = ("tune/search.py", "tune/train.py", "tune/doctor.py", "tune/compare.py")

    def __init__(self, folder: Path, placeholders: dict[str, str]) -> None:
        self.shell = Shell(folder)
        self._placeholders = placeholders

    def check(self, script: str, shell: str = "bash") -> list[list[str]]:
        """Every call that a script makes, after the program it names has accepted its arguments.

        Raises:
            AssertionError: for a call that is not understood.
        """
        for word, value in self._placeholders.items():
            script = re.sub(rf"(?<![\w$.-]){re.escape(word)}(?![\w-])", value, script)
        calls = self.shell.calls(script, shell)
        for name, *given in calls:
            for path in re.findall(
                r"(?<![\w/.-])(?:benchmarks|tests|tune|notebooks|synthcl)/[\w./-]+", " ".join(given)
            ):
                assert (ROOT / path).exists(), f"{path} is not there: {name} {shlex.join(given)}"
            try:
                self._programs[name](self, given)
            except (Exception, SystemExit) as error:
                raise AssertionError(f"{name} {shlex.join(given)}: {error}") from error
        return calls

    def _python(self, given: list[str]) -> None:
        if given[:1] == ["-m"] and given[1].startswith("benchmarks."):
            given = [f"{given[1].replace('.', '/')}.py", *given[2:]]
            assert (ROOT / given[0]).is_file(), f"{given[0]} is not there"
        if given[:1] == ["-m"]:
            module = given[1]
            if module in ("pip", "pytest"):
                self._programs[module](self, given[2:])
            else:
                with stops_at_the_parser() as parsed, mock.patch.object(sys, "argv", given[1:]):
                    runpy.run_module(module, run_name="__main__")
                assert parsed, f"{module} has not read {given[2:]}"
            return
        script, *given = given
        whole = script == "tune/evaluate.py" or "--cluster" in given
        dry = script in self.DRY_RUN and not whole and "--report" not in given
        if whole or dry:
            with data_imitated():
                done = run_script(script, *given, *(["--dry-run"] if dry and "--dry-run" not in given else []))
            healthy = {0, 1} if "--cluster" in given else {0}  # 1: the doctor found values that are to be filled in
            assert done.returncode in healthy, f"{script} {given}: {done.stderr}"
        else:
            with stops_at_the_parser() as parsed, peers_imitated():
                print(run_script(script, *given).stderr)
            assert parsed, f"{script} does not take {given}"
            preset = load_preset(getattr(parsed[0], "preset", "fashion-mini"))
            preset.with_overrides(parse_overrides(getattr(parsed[0], "overrides", [])))

    def _synthcl(self, given: list[str]) -> None:
        program, *rest = given
        if program == "fields":
            from synthcl.programs.fields import lines

            assert list(lines(*rest)), given
        elif (ROOT / "tune" / f"{program}.py").is_file():
            self._python([f"tune/{program}.py", *rest])
        else:
            with stops_at_the_parser() as parsed:
                print(run(program, *rest).stderr)
            assert parsed, given

    def _make(self, given: list[str]) -> None:
        done = subprocess.run(["make", "-n", *given], cwd=ROOT, env=outside_make(), capture_output=True, text=True)
        assert done.returncode == 0, f"make {given}: {done.stderr}"
        for line in done.stdout.splitlines():
            if line.startswith(".venv/bin/python "):
                self.check(line)

    def _ray(self, given: list[str]) -> None:
        from ray.scripts.scripts import cli

        command, arguments = cli, list(given)
        while hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        parameters = command.make_context(command.name, arguments).params
        if given[0] == "exec":
            self.check(parameters["cmd"])
        elif given[:2] == ["job", "submit"]:
            self.check(
                shlex.join(parameters["entrypoint"]), shell="sh"
            )  # as Ray joins it, and as its supervisor runs it

    def _pip(self, given: list[str]) -> None:
        from pip._internal.commands import create_command

        command, *arguments = given
        _, names = create_command(command).parse_args(arguments)
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        editable = [word for word in arguments if word.startswith(".")]
        assert names or editable
        for word in editable:
            asked = re.fullmatch(r"\.(?:\[([\w,]+)\])?", word)
            assert asked, word
            assert set((asked[1] or "").split(",")) <= {"", *extras}, word

    def _pytest(self, given: list[str]) -> None:
        assert {word for word in given if word.startswith("-")} <= {"-k", "-m", "-n"}

    def _tensorboard(self, given: list[str]) -> None:
        from tensorboard.plugins.core.core_plugin import CorePluginLoader
        from tensorboard.program import TensorBoard

        TensorBoard(plugins=[CorePluginLoader()]).configure(argv=("tensorboard", *given))

    def _optuna_dashboard(self, given: list[str]) -> None:
        assert [Path(word).name for word in given] == ["study.journal"]

    def _aws(self, given: list[str]) -> None:
        from botocore.session import get_session

        service, operation, *options = given
        if (service, operation) == ("s3", "sync"):  # the client's own
            assert [word for word in options if word.startswith("-")] == ["--only-show-errors"]
            assert len(options) == 3
            return
        name = operation.title().replace("-", "")
        model = get_session().get_service_model(service).operation_model(name)
        short = {"protocol", "port", "cidr", "source-group"}  # the client's own, for authorize-security-group-ingress
        known = {re.sub(r"(?<!^)(?=[A-Z])", "-", member).lower() for member in model.input_shape.members} | short
        assert {word[2:] for word in options if word.startswith("--")} <= known

    def _pre_commit(self, given: list[str]) -> None:
        assert given == ["install"]

    _programs: ClassVar[dict[str, Callable[[Documents, list[str]], None]]] = {
        "python": _python,
        "python3": _python,
        "synthcl": _synthcl,
        "make": _make,
        "ray": _ray,
        "pip": _pip,
        "pytest": _pytest,
        "tensorboard": _tensorboard,
        "optuna-dashboard": _optuna_dashboard,
        "aws": _aws,
        "pre-commit": _pre_commit,
    }


@contextmanager
def stops_at_the_parser() -> Iterator[list[argparse.Namespace]]:
    """Inside, a program ends when argparse has read its arguments, which are then in the list."""
    parsed: list[argparse.Namespace] = []

    def stop(parse):
        def parse_and_stop(parser, *given):
            parsed.append(parse(parser, *given))
            raise Parsed

        return parse_and_stop

    with ExitStack() as patches:
        for name in ("parse_args", "parse_intermixed_args"):
            parse = getattr(argparse.ArgumentParser, name)
            patches.enter_context(mock.patch.object(argparse.ArgumentParser, name, stop(parse)))
        with suppress(Parsed):
            yield parsed


@contextmanager
def data_imitated() -> Iterator[None]:
    """Inside, every data set has CIFAR-10's number of images, and every file of an encoder holds one."""
    labelled = SimpleNamespace(labels=range(UNLABELLED_IMAGES), classes=range(10))
    with (
        chdir(ROOT),
        mock.patch.object(synthcl.comparison.plan, "unlabelled_count", return_value=UNLABELLED_IMAGES),
        mock.patch.object(synthcl.comparison.plan, "open_split", return_value=labelled),
        mock.patch.object(synthcl.comparison.begin, "describe_folders", return_value=[]),
        mock.patch(
            "synthcl.runs.preflight.open_data",
            return_value=SimpleNamespace(describe=lambda: "data as imitated", images=None),
        ),
        mock.patch("synthcl.runs.view_pictures.draw_views"),
        mock.patch.object(
            synthcl.programs.evaluate, "load_any", return_value=(nn.Identity(), load_preset("fashion-mini"))
        ),
        mock.patch.object(synthcl.programs.evaluate, "score", return_value={}),
    ):
        yield


WITHOUT_DATA = """
import runpy, sys
from types import SimpleNamespace
import synthcl.runs.preflight
synthcl.runs.preflight.open_data = lambda config, **options: SimpleNamespace(describe=lambda: "data as imitated")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a program whose dry run finds data, which this machine may not have and must not download."""


@contextmanager
def peers_imitated() -> Iterator[None]:
    """Inside, libraries that benchmarks compare with can be imported, installed or not."""
    names = ("kornia", "kornia.augmentation", "lightly", "lightly.transforms")
    with pytest.MonkeyPatch.context() as patched:  # mock.patch.dict would also forget what is imported meanwhile
        for name in names:
            patched.setitem(sys.modules, name, mock.MagicMock())
        yield


def submitted(command: str, folder: Path) -> SimpleNamespace:
    """What the search program is told where a command submits it: run by bash, by Ray's rules, and by the program.

    Args:
        command: of a shell, `ray exec ... "ray job submit ..."`.
        folder: an empty one.

    Returns:
        `config`: as `--dry-run` prints it; `rays`: the argument lists of ray.
    """
    from ray.scripts.scripts import cli

    shell = Shell(folder)
    outer = shell.calls(command)
    inner = shell.calls(cli.commands["exec"].make_context("exec", outer[0][2:]).params["cmd"])
    submit = cli.commands["job"].commands["submit"]
    entrypoint = shlex.join(submit.make_context("submit", inner[0][3:]).params["entrypoint"])
    (shell.home / "synthcl").rmdir()
    (shell.home / "synthcl").symlink_to(ROOT)
    program = folder / "program.py"
    program.write_text(WITHOUT_DATA)
    (shell.bin / "python").write_text(f"#!/bin/bash\nexec '{sys.executable}' '{program}' \"$@\" --dry-run\n")
    environment = os.environ | {"PATH": str(shell.bin), "HOME": str(shell.home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["/bin/sh", "-c", entrypoint], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config, _ = json.JSONDecoder().raw_decode(done.stdout)
    return SimpleNamespace(config=config, rays=outer + inner)
