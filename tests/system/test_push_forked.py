"""Pages that forked tasks have in common are pushed once; each task's are right, whatever breaks."""

from __future__ import annotations

from lazy_migration import lazy_migration
from paths import SUPPORT

from bench.handmade import MemTask
from testbed import Testbed

MIB = 32
PAGES = MIB * 256
SHARED = PAGES * 3 * 15 // 16  # of three children, which have written to one page of sixteen
PROGRAM, STATUS = "/usr/local/bin/forked_tree", "/var/tmp/lazy-migration/tree.json"


def start_tree(tb: Testbed) -> MemTask:
    if not (tb.dst.root / PROGRAM.lstrip("/")).exists():
        tb.src.write("/tmp/forked_tree.c", (SUPPORT / "forked_tree.c").read_text())
        tb.src.run(["cc", "-O1", "-o", PROGRAM, "/tmp/forked_tree.c"])
        tb.dst.write(PROGRAM, (tb.src.root / PROGRAM.lstrip("/")).read_bytes(), mode=0o755)
    return MemTask(int(tb.src.run([PROGRAM, str(MIB), STATUS]).stdout), STATUS)


def test_what_forked_tasks_share_comes_once(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=None)
    with lazy_migration(hosts, (), ("--push=2",), push=True, start=start_tree) as migration:
        stats = migration.complete()
        push = migration.last_state["push"]
    assert stats["total_pages"] >= 4 * PAGES
    assert push["also_pages"] > 0.9 * SHARED
    assert stats["received_bytes"] < (4 * PAGES - 0.8 * SHARED) * 4096


def test_sessions_lost_meanwhile_lose_no_page(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=30, rtt_ms=0.2)
    options = ("--push=2", "--reconnect-seconds", "60")
    with lazy_migration(hosts, (), options, push=True, start=start_tree) as migration:
        for i in range(3):
            migration.until_share(0.1 + 0.2 * i)
            migration.op("drop")
            migration.until(lambda s, i=i: s["reconnects"] > i, "the daemon is back")
        hosts.link.set(rate_mbit=300, rtt_ms=0.2)
        stats = migration.complete()
        push = migration.last_state["push"]
    assert stats["reconnects"] == 3
    assert push["also_pages"] > 0.8 * SHARED
    assert stats["received_bytes"] < (4 * PAGES - 0.7 * SHARED) * 4096
