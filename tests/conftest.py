"""What several test files share."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
from c_build import build
from hypothesis import HealthCheck, settings
from migrating import RUNS

from testbed import instances

__all__ = ["build"]

# What takes longest, for `make test`, whose workers take one file after another: the last ones should be short. In turn
# some that keep CPUs busy and some that wait most of the time.
LONGEST = (
    *("soft_dirty", "migrate_container", "c_programs", "push_server", "uffd_guardian", "debian_package", "checks"),
    *("migrate_agent", "crash_matrix", "migrate_running", "testbed", "migrate", "page_server", "migrate_rolls_back"),
    *("evacuate", "memory_content", "network_lock", "migrate_precopy", "final_words", "tls", "service_network"),
    *("dump_death", "model"),
)
SEED = "CRIU_LAZY_SEED"


def pytest_configure(config: pytest.Config) -> None:
    """One seed for all that is random; repeat a run by setting it."""
    os.environ.setdefault(SEED, os.urandom(4).hex())  # workers inherit it
    # No test is about time, and a busy machine is no fault of the code's.
    settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any-machine")
    if config.getoption("dist", "no") == "no":  # a worker, or the only process
        let_children_hear_signals()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Of an interrupted run: workers that needed too long to end were killed, and left their testbeds."""
    if config.getoption("dist", "no") != "no" and os.geteuid() == 0:
        with instances.registry_lock():
            instances.remove_abandoned()


def pytest_report_header() -> str:
    return f"{SEED}={os.environ[SEED]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What migrations have told, of a test that fails."""
    report = yield
    if report.failed:
        report.sections += [(f"criu-lazy of {run.path}", run.told()) for run in RUNS]
    if call.when == "teardown":
        RUNS.clear()
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several workers: the longest files first."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        ranks = {f"test_{name}": rank for rank, name in enumerate(LONGEST)}
        items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def let_children_hear_signals() -> None:
    """A shell without job control starts its background jobs with SIGINT and SIGQUIT ignored, nohup with SIGHUP, and
    what a test starts would inherit that. A handler which does nothing is the same to pytest, but exec() drops it.
    """
    for ignored in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(ignored) is signal.SIG_IGN:
            signal.signal(ignored, lambda *_: None)
