"""Two hosts, and a machine of its own: fixtures of the tests that need them. Those in tests/unit must not."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

import pytest
from migrating import Worker, compile_task, kill_ours
from vm import Machine, machine

from testbed import Testbed

SHARED = pytest.StashKey[Testbed]()


@pytest.fixture(scope="session")
def testbed(request: pytest.FixtureRequest) -> Iterator[Testbed]:
    """Two hosts with criu 4.2 and a client, shared by all tests of a session: leave them as you found them."""
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(name=f"tests-{os.getpid()}") as started:
        request.config.stash[SHARED] = started
        yield started


@pytest.fixture(scope="module", autouse=True)
def low_pids(request: pytest.FixtureRequest) -> None:
    """Thousands of processes later dst's pids would come to where src's begin, and those of tasks that move."""
    if (shared := request.config.stash.get(SHARED, None)) is not None:
        shared.dst.run(["sh", "-c", "echo 300 >/proc/sys/kernel/ns_last_pid"])


@pytest.fixture(scope="module", params=["4.1", "4.2"])
def hosts(request: pytest.FixtureRequest) -> Iterator[Testbed]:
    """A testbed of the module's own, once with each criu on both hosts. A module may have another `hosts`."""
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    series = request.param
    module = request.module.__name__.removeprefix("test_").replace("_", "-")
    with Testbed.start(criu=(series, series), name=f"{module}-{series.replace('.', '')}-{os.getpid()}") as started:
        yield started


@pytest.fixture(scope="session")
def pair(testbed: Testbed) -> Testbed:
    """The session's testbed, with what `worker` needs on both hosts."""
    compile_task(testbed)
    return testbed


@pytest.fixture
def worker(pair: Testbed) -> Iterator[Worker]:
    """A task of 32 MiB on src, to be moved; all of it, and of its migrations, goes after the test."""
    pair.link.set(rate_mbit=1000, rtt_ms=0.2)
    made = Worker(pair, 32)
    yield made
    made.end()
    pair.link.mend()
    pair.link.set()
    for host in (pair.src, pair.dst):
        kill_ours(host)
        host.run(["sh", "-c", "rm -rf /var/lib/criu-lazy* /srv/worker* /run/worker.pid /root/m*.yaml"])


@pytest.fixture
def slow_link(hosts: Testbed) -> Iterator[None]:
    """For a module with `hosts`: slow enough that a transfer can be interrupted, on a busy machine too."""
    hosts.link.set(rate_mbit=250, rtt_ms=0.2)
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
