"""`lazy-pages --push`: what page servers that can't push make of it. (One that can: tests/c/test_push.c.)"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from criu_lazy_ext.bench.handmade import lazy_migrate_by_hand, start_memtask
from criu_lazy_ext.testbed import Testbed


@pytest.fixture(scope="module", params=["4.1", "4.2"])
def hosts(request: pytest.FixtureRequest) -> Iterator[Testbed]:
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    series = request.param
    with Testbed.start(criu=(series, series), name=f"push-{series.replace('.', '')}-{os.getpid()}") as started:
        yield started


def test_a_stock_source_answers_the_hello_harmlessly_and_serves_all_pages(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=None)
    task = start_memtask(hosts, "--mib", "64", "--ops", "all")
    try:
        done = lazy_migrate_by_hand(hosts, task, daemon_options=["--push=4"], timeout=60)
        verdict = task.verify(hosts.dst)
    finally:
        task.kill(hosts.src)
        task.kill(hosts.dst)
    assert done.engine["push_streams"] == 0
    assert verdict["errors"] == 0 and verdict["children_bad"] == 0
