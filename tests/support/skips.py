"""In CI a skipped test is a failure, unless it needs a GPU: a run that leaves tests out must not look like a whole one.

CI is where the environment variable CI is `true`, as `.ci/run` and the usual services set it.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


def fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip in CI into a failure that names its reason; an expected failure is no skip."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if "GPU" not in reason:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: {reason}; in CI only a missing GPU may skip a test"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_skipped(report)
    return report
