"""Nothing that travels is unpickled, and nothing that listens is reachable from elsewhere."""

import ast
import hashlib
import os
import pickle
from pathlib import Path

import pytest
from torchvision.datasets import CIFAR10

from synthcl import UserError, load_preset
from synthcl.data import open_split

ROOT = Path(__file__).parents[2]
SOURCES = sorted(file for folder in ("synthcl", "tune", "benchmarks") for file in (ROOT / folder).rglob("*.py"))
PICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}


def unpickling(source: str) -> list[str]:
    """Calls that read a pickle, as `line: call`: of a pickler, or of a library that has one inside."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        module, _, name = call.rpartition(".")
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        bad = [
            module.split(".")[-1] in PICKLERS and name in ("load", "loads", "Unpickler", "open"),
            call == "torch.load" and keywords.get("weights_only") != "True",
            name == "load" and keywords.get("allow_pickle", "False") != "False",
            name in ("read_pickle", "load_from_checkpoint", "unsafe_load", "full_load", "ExperimentAnalysis"),
            name in ("restore", "can_restore") and module.endswith(("Tuner", "Trainer")),  # Ray's, of its own state
        ]
        if any(bad):
            found.append(f"{node.lineno}: {call}")
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_unpickled(file):
    assert unpickling(file.read_text()) == []


@pytest.mark.parametrize(
    "call",
    [
        "pickle.load(file)",
        "ray.cloudpickle.loads(text)",
        "joblib.load(path)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "yaml.full_load(text)",
        "tune.Tuner.restore(path, trainable)",
    ],
)
def test_unpickling_would_be_found(call):
    assert unpickling(f"value = {call}") != []


class Payload:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_forged_cifar_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    """CIFAR is published as pickles; torchvision opens those alone whose checksums it knows."""
    ran = tmp_path / "ran"
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    for name, _ in [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], "")]:
        (folder / name).write_bytes(pickle.dumps(Payload(ran)))
    config = load_preset("cifar10").with_overrides({"data.root": str(tmp_path)}).data
    with pytest.raises(UserError, match="CIFAR10 cannot be opened"):
        open_split(config, "train", "cpu")
    assert not ran.exists()

    checksum = hashlib.md5((folder / "data_batch_1").read_bytes(), usedforsecurity=False).hexdigest()
    for known in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, known, [[name, checksum] for name, _ in getattr(CIFAR10, known)])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": checksum})
    with pytest.raises(UserError):
        open_split(config, "train", "cpu")
    assert ran.is_dir()  # the payload works
