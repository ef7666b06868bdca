"""`make demo`: two hosts on this machine; a container with a Redis, full and under load, moves between them."""

from __future__ import annotations

import argparse
import subprocess
import sys

from criu_lazy_ext.errors import CriuLazyError
from demo.load import SERVICE, VALUE_BYTES, LoadClient
from demo.redis import Redis, RedisContainer, RedisProcess
from testbed import Testbed


def say(text: str) -> None:
    """A line for the reader."""
    print(text, flush=True)


def run(testbed: Testbed, redis: Redis, mib: int, rate_mbit: float, rtt_ms: float) -> bool:
    """One migration of a Redis with `mib` MiB of values; whether every value was right."""
    keys = mib * (1 << 20) // VALUE_BYTES
    testbed.link.set(rate_mbit=rate_mbit, rtt_ms=rtt_ms)
    say(f"two hosts are up: src and dst, {rate_mbit:g} Mbit/s and {rtt_ms:g} ms round trip between them")
    testbed.src.run(["ip", "address", "add", f"{SERVICE}/24", "dev", "svc0"])
    redis.start(testbed.src)
    profile = f"/root/{redis.sample.name}"
    testbed.src.write(profile, redis.sample.read_text())
    client = LoadClient(testbed, keys)
    say(f"Redis runs on src in {redis.kind}, with {keys} values of {VALUE_BYTES} bytes; a client reads and writes")
    say(f"$ criu-lazy migrate {redis.sample.name}")
    status = testbed.src.popen(["criu-lazy", "migrate", profile], stdin=subprocess.DEVNULL).wait()
    left, moved = redis.seen(testbed.src), redis.seen(testbed.dst)
    say(f"Redis on src: {left or 'none'}; on dst: {moved or 'none'}")
    facts = client.end()
    say(
        f"client: {facts['operations']} operations on one connection, {facts['errors']} connection errors, "
        f"longest wait {facts['longest_gap_ms']} ms"
    )
    say(f"{facts['checked']} values checked at the end; wrong values ever: {facts['wrong']}")
    return status == 0 and bool(moved) and not left and facts["wrong"] == facts["errors"] == 0


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 if the migration was committed and every value right."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--mib", type=int, default=320, help="values in Redis (default 320 MiB)")
    parser.add_argument("--rate-mbit", type=float, default=1000)
    parser.add_argument("--rtt-ms", type=float, default=0.2)
    parser.add_argument("--process", action="store_true", help="a plain process moves, not a container")
    options = parser.parse_args(argv)
    redis: Redis = RedisProcess() if options.process else RedisContainer()
    try:
        say("starting the testbed (a minute or so the first time)")
        with Testbed.start(name="demo", own_cgroups=not options.process) as testbed:
            right = run(testbed, redis, options.mib, options.rate_mbit, options.rtt_ms)
    except CriuLazyError as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 1
    say("PASSED: Redis moved, every value is right" if right else "FAILED")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
