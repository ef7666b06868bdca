"""What several test files share."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterator

import pytest
from c_build import build
from vm import Machine, machine

from testbed import Testbed

__all__ = ["build"]

# What takes longest, for `make test`, whose workers take one file after another: the last ones should be short.
LONGEST = ("soft_dirty", "crash_matrix", "c_programs", "migrate", "push_server", "memory_content", "network_lock")
SEED = "CRIU_LAZY_SEED"


def pytest_configure(config: pytest.Config) -> None:
    """One seed for all that is random; repeat a run by setting it."""
    os.environ.setdefault(SEED, os.urandom(4).hex())  # workers inherit it
    if config.getoption("dist", "no") == "no":  # a worker, or the only process
        let_children_hear_signals()


def pytest_report_header() -> str:
    return f"{SEED}={os.environ[SEED]}"


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


@pytest.fixture(scope="session")
def testbed() -> Iterator[Testbed]:
    """Two hosts with criu 4.2 and a client, shared by all tests of a session: leave them as you found them."""
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(name=f"tests-{os.getpid()}") as started:
        yield started


@pytest.fixture(scope="module", params=["4.1", "4.2"])
def hosts(request: pytest.FixtureRequest) -> Iterator[Testbed]:
    """A testbed of the module's own, once with each criu on both hosts. A module may have another `hosts`."""
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    series = request.param
    module = request.module.__name__.removeprefix("test_").replace("_", "-")
    with Testbed.start(criu=(series, series), name=f"{module}-{series.replace('.', '')}-{os.getpid()}") as started:
        yield started


@pytest.fixture
def slow_link(hosts: Testbed) -> Iterator[None]:
    """For a module with `hosts`: slow enough that a transfer can be interrupted."""
    hosts.link.set(rate_mbit=500, rtt_ms=0.2)
    yield
    if hosts.link.is_cut:
        hosts.link.mend()


@pytest.fixture(scope="module")
def vm(build) -> Iterator[Machine]:
    """A machine of its own whose kernel tracks what is written; in it C programs that tests run there."""
    if os.geteuid() != 0:
        pytest.skip("a machine of its own is made of the testbed's roots, which needs root")
    if platform.machine() != "x86_64":
        pytest.skip("the machine of its own runs what was built for this one, and is an x86-64")
    programs = {name: build(name, "plain") for name in ("test_precopy", "precopy_task")}
    with machine(programs) as started:
        yield started
