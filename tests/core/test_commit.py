"""The commit of a checkout, and of nothing else."""

import subprocess

from synthcl.core.commit import commit


def test_a_checkout_has_a_commit_and_a_folder_within_one_has_none(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert commit(tmp_path) == ""  # nothing is committed yet
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert len(commit(tmp_path)) >= 7
    assert head.startswith(commit(tmp_path))
    (tmp_path / "site-packages").mkdir()
    assert commit(tmp_path / "site-packages") == ""
