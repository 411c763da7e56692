"""A secret stays where it was typed: no config keeps it, no line shows it."""

from functools import reduce
from operator import getitem

import pytest
from program import run

from synthcl import Config, UserError, load_preset
from synthcl.core.secrets import first_secret, hide

KEY, SECRET = "AKIA" + "Q7" * 8, "wJalrXUtnFEMI/K7MDENG" + "+bPxRfiCY"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYzEXAMPLEKEY"[:18]
SECRETS = [
    (f"s3://{KEY}:secret@bucket/runs", "s3://...@bucket/runs"),
    (f"s3://{KEY}:{SECRET}@bucket/runs", "s3://...@bucket/runs"),
    ("s3://key@bucket/runs", "s3://...@bucket/runs"),
    ("ray://user:pass@10.0.0.1:10001", "ray://...@10.0.0.1:10001"),
    ("https://token@host/path?x=1", "https://...@host/path?x=1"),
    (f"s3://bucket/runs?access_key={KEY}&region=eu-west-1", "s3://bucket/runs?access_key=...&region=eu-west-1"),
    (f"s3://bucket/runs?secret_key={SECRET}&region=eu", "s3://bucket/runs?secret_key=...&region=eu"),
    (f"aws_secret_access_key={SECRET}", "aws_secret_access_key=..."),
    (f"override aws.secret='{SECRET}': there is no field", "override aws.secret='...': there is no field"),
    (f"{{'password': 'x', 'AWS_SESSION_TOKEN': '{SECRET}'}}", "{'password': '...', 'AWS_SESSION_TOKEN': '...'}"),
    (KEY, "..."),
    ("ghp_" + "a1" * 18, "..."),
    ("hf_" + "Zz" * 17, "..."),
    ("abfs://container:key@account.dfs.core.windows.net/runs", "abfs://...@account.dfs.core.windows.net/runs"),
    ("redis://:password@10.0.0.1:6379", "redis://...@10.0.0.1:6379"),
    ("abfs://container@account/runs?sas_token=sv%3D2024", "abfs://container@account/runs?sas_token=..."),
    ("https://account/runs?sv=2024&sig=a1%2Bb2&se=2027", "https://account/runs?sv=2024&sig=...&se=2027"),
    ("gs://bucket/runs?token=abc&region=eu", "gs://bucket/runs?token=...&region=eu"),
    ("{'token': 'abc'}", "{'token': '...'}"),
    ("HF_TOKEN=abc", "HF_TOKEN=..."),
    ("sk-proj-" + "a1B-" * 8, "..."),
    ("sk-" + "a1B2" * 10, "..."),
    (AWS_SECRET, "..."),
    (f"training.kimg={AWS_SECRET}", "training.kimg=..."),
]
PLAIN = [
    "s3://bucket/synthcl?region=eu-west-1&endpoint_override=127.0.0.1:5000",
    "/data/me@home/images",
    "s3://bucket/runs@2",
    "ray://10.0.0.1:10001",
    "curriculum.hardness.kind=linear",
    "my_module:MyGenerator",
    "export RAY_AUTH_MODE=token there",
    "trial-004-seed1000",
    "abfs://container@account.dfs.core.windows.net/runs",
    "abfss://container@account.dfs.core.windows.net/me@home",
    "hdfs://user@namenode:8020/synthcl",
    "hdfs://namenode:8020/data/me@home",
    "s3://bucket/synthcl?endpoint_override=http://10.0.0.1:9000/me@home",
    "ssh://ubuntu@10.0.0.1",
    "/data/passwords=old",
    "data.root=/data/passwords=old/token=1",
    "/runs/sk-learn-features-of-birds-and-cats",
    "tokenizer=bert max_tokens=512",
    "unexpected token: ':'",
    "task-number-" + "12345" * 8,
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",  # a commit or SHA-1: 40 digits
    "data/Images/FashionMNIST16/Train/Class01",
    "FashionMnistWeakViewsHardnessLinear20264",
]


@pytest.mark.parametrize(("text", "shown"), SECRETS)
def test_a_secret_is_hidden_and_its_place_is_not(text, shown):
    assert hide(text) == shown
    assert hide(shown) == shown


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_is_left_alone(text):
    assert hide(text) == text


def test_a_secret_is_found_wherever_it_stands():
    tree = {"data": {"root": "data", "list": ["a", f"s3://{KEY}:x@bucket"]}}
    assert first_secret(tree) == ("data.list.1", "s3://...@bucket")
    assert first_secret({"data": {"root": "data", "n": 1}}) is None


@pytest.mark.parametrize(
    "field", ["compute.storage", "compute.address", "data.root", "synthetic.gan.generator", "search.space"]
)
def test_no_config_keeps_a_secret(field):
    with pytest.raises(UserError, match="holds what looks like a secret") as error:
        load_preset("fashion-mini").with_overrides({field: f"s3://{KEY}:{SECRET}@bucket/synthcl"})
    assert field in str(error.value)
    assert KEY not in str(error.value)
    assert SECRET not in str(error.value)
    tree = load_preset("fashion-mini").model_dump()
    *places, name = field.split(".")
    reduce(getitem, places, tree)[name] = f"s3://{KEY}:{SECRET}@bucket/synthcl"
    with pytest.raises(ValueError, match="holds what looks like a secret"):
        Config.model_validate(tree)


@pytest.mark.parametrize("program", ["search", "train"])
@pytest.mark.parametrize(
    "given",
    [
        ["--storage", f"s3://{KEY}:{SECRET}@bucket/synthcl"],
        ["compute.storage=s3://bucket/synthcl?secret_key=" + SECRET],
        ["--address", f"ray://user:{SECRET}@10.0.0.1:10001"],
        [f"aws_secret_access_key={SECRET}"],
        [f"training.kimg={KEY}"],
        [f"data.secret={SECRET}"],
        [KEY],
        ["--dry-run", f"data.root=s3://{KEY}:{SECRET}@bucket"],
    ],
    ids=lambda given: given[0].split("=")[0],
)
def test_no_program_shows_or_writes_a_secret(program, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = run(program, *given)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stderr + done.stdout
    assert KEY not in done.stderr + done.stdout
    assert not list(tmp_path.iterdir())
