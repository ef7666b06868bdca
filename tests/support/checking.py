"""What `criu-lazy check PROFILE` finds, of each profile whose path is a line of the input: by one agent of dst's, and
without a start of Python for each. A line of JSON answers each line."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from criu_lazy_ext.checks.check import accept
from criu_lazy_ext.migration import preflight
from criu_lazy_ext.migration.preflight import AtSource
from criu_lazy_ext.profile import Destination, load
from criu_lazy_ext.remote.hosts import RemoteHost
from criu_lazy_ext.remote.way_back import Way
from criu_lazy_ext.source.dump import find_task
from criu_lazy_ext.system.limits import raise_descriptors

SILENCE_S = 60.0


async def main() -> None:
    host = await RemoteHost.connect(Destination(ssh="dst"), SILENCE_S, lambda _: None)
    hello = await host.hello(SILENCE_S)
    while line := await asyncio.to_thread(sys.stdin.readline):
        profile = load(Path(line.strip()))
        source = await AtSource.look(profile, find_task(profile.task))
        way = await Way.find(host, profile.destination, profile.source, hello["peer"])
        both = await preflight.both(host, source, hello, way)
        found = accept([*source.findings, *both], profile.accept)
        print(json.dumps([finding.as_json() for finding in found]), flush=True)
    await host.close()


if __name__ == "__main__":
    raise_descriptors()
    asyncio.run(main())
