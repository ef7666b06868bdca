"""What several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from criu_lazy_ext.testbed import Testbed


@pytest.fixture(scope="session")
def testbed() -> Iterator[Testbed]:
    """Two hosts with criu 4.2 and a client, shared by all tests of a session: leave them as you found them."""
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(name=f"tests-{os.getpid()}") as started:
        yield started


@pytest.fixture
def slow_link(hosts: Testbed) -> Iterator[None]:
    """For a module with `hosts`: slow enough that a transfer can be interrupted."""
    hosts.link.set(rate_mbit=500, rtt_ms=0.2)
    yield
    if hosts.link.is_cut:
        hosts.link.mend()
