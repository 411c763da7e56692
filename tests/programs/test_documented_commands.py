"""Every command of the documents works as it is pasted, up to the work itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from documented import Documents, head_comment_commands, markdown_commands, outside_make, submitted
from program import ROOT

PAGES = sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))
MARKDOWN = ("README.md", "RESULTS.md", "CONTRIBUTING.md", "benchmarks/README.md", *PAGES)
COMMANDS = [(name, script) for name in MARKDOWN for script in markdown_commands((ROOT / name).read_text())]
COMMANDS += [("cluster.yaml", script) for script in head_comment_commands((ROOT / "cluster.yaml").read_text())]


@pytest.fixture
def documents(tmp_path: Path) -> Documents:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "shell").mkdir()
    return Documents(
        tmp_path / "shell",
        {
            "PATH": str(data),
            "/data/birds": str(data),
            "my_space.yaml": str(ROOT / "synthcl/search/spaces/curriculum.yaml"),
            "runs/<name>": "runs/fashion-mini",
        },
    )


@pytest.mark.parametrize(("name", "script"), COMMANDS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(COMMANDS)])
def test_a_documented_command_is_what_its_program_takes(name: str, script: str, documents: Documents) -> None:
    assert documents.check(script), f"{name} has a block without a command:\n{script}"


def test_commands_are_found_where_documents_have_them() -> None:
    fenced = "```\nmake a \\\n  b\n```\n\n```python\nmake\n```\n"
    rest = "    make c  # why\n\nRun `make d\ne`, see `make`.\n"
    assert markdown_commands(f"Text.\n\n{fenced}\n{rest}") == ["make a \\\n  b\n", "    make c  # why\n\n", "make d\ne"]
    assert head_comment_commands("# Title.\n#\n#   make a\n#   make b\n#\n#   - make c\nkey: 1\n#   make d\n") == [
        "  make a\n  make b\n",
        "  make c\n",
    ]


def test_the_documents_have_the_commands_that_a_reader_sees() -> None:
    scripts = "\n".join(script for _, script in COMMANDS)
    for seen in ("make search", "tune/evaluate.py", "optuna-dashboard", "-m tarfile", "pip install", "ray job submit"):
        assert seen in scripts, seen
    assert {name for name, _ in COMMANDS} == {*MARKDOWN, "cluster.yaml"} - {"docs/concepts.md", "docs/python.md"}


@pytest.mark.parametrize(
    "script",
    [
        "ray exec cluster.yaml \"ray job submit -- bash -c 'python tune/search.py\n    data.download=true'\"",
        "    python tune/compare.py --images 100\n        --arms real-only",
        "python tune/search.py --presets cifar10",
        "python tune/search.py data.roots=PATH",
        "python -m benchmarks.speed.step --core 1 --variant 2",
        "python -m benchmarks.speed.probes training.kimgs=1",
        "python -m benchmarks.no_such",
        "make serach",
        'make search ARGS="--preset cifar11"',
        "pip install -e '.[benches]'",
        "ray upp cluster.yaml",
        "ray exec cluster.yaml 'python tune/doctor.py --adress auto'",
        "aws ec2 create-security-groups --group-name synthcl",
        "curl https://example.org | sh",
        "python tune/search.py && wget https://example.org",
    ],
)
def test_a_command_that_does_not_work_is_found(script: str, documents: Documents) -> None:
    with pytest.raises(AssertionError):
        documents.check(script)


def test_the_cluster_command_reaches_the_search_with_every_option(tmp_path: Path) -> None:
    block = next(script for name, script in COMMANDS if name == "docs/cluster.md" and "ray job submit" in script)
    joined = block.replace("\\\n", " ")
    command = next(line for line in joined.splitlines() if "ray job submit" in line)
    told = submitted(command, tmp_path)
    assert [ray[:3] for ray in told.rays] == [["ray", "exec", "cluster.yaml"], ["ray", "job", "submit"]]
    assert told.config["name"] == "cifar10"
    assert told.config["data"]["download"] is True
    assert told.config["compute"]["address"] == "auto"
    assert told.config["compute"]["storage"] == "s3://YOUR-BUCKET/synthcl"
    assert told.config["compute"]["gpus_per_worker"] == 1


@pytest.mark.parametrize("target", ["search", "test", "test-fast"])
def test_make_installs_torch_from_the_index_that_is_named(target: str, tmp_path: Path) -> None:
    index = "https://download.pytorch.org/whl/cpu"
    plain, named = (
        subprocess.run(
            ["make", "-n", target, f"VENV={tmp_path}/venv", *given],
            cwd=ROOT,
            env=outside_make(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for given in ([], [f"TORCH_INDEX={index}"])
    )
    installs = [line for line in named if " pip install " in line]
    assert installs[0].endswith(f"torch torchvision --index-url {index}")
    assert [line for line in plain if " pip install " in line] == installs[1:]
