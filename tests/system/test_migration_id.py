"""One id finds all that is logged of a migration, on both hosts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import journald
import pytest
from lazy_source import eventually
from migrating import BASE, COMMITTED, Migration, Worker, daemons, kill_pids, pids_of, running

from testbed import Host

ID = re.compile(r"[0-9a-f]{12}")
HOOK = "hooks: {after_dump: [{run: 'echo $CRIU_LAZY_MIGRATION >/srv/hook-saw', on: destination}]}\n"
KEEPING = BASE.replace("strategy: lazy", "strategy: hybrid") + "keep_files: true\n" + HOOK
CRIUS = {"dump.log", "restore.log"}  # they have no place for an id


@pytest.fixture
def both(worker: Worker) -> Iterator[list[journald.Journal]]:
    if not journald.is_there():
        pytest.skip("this machine has no systemd-journald to bring to the hosts")
    with journald.journals(worker.testbed.src, worker.testbed.dst) as kept:
        yield kept


def logs(host: Host, pattern: str) -> dict[str, list[str]]:
    """Lines of our own logs, by the files' names."""
    found: dict[str, list[str]] = {}
    for path in sorted((host.root / "var/lib/criu-lazy").glob(pattern)):
        if path.name not in CRIUS:
            found[path.name] = path.read_text().splitlines()
    return found


def assert_all_marked(found: dict[str, list[str]], migration: str) -> None:
    without = [f"{name}: {line}" for name, lines in found.items() for line in lines if f"[{migration}] " not in line]
    assert not without


def test_each_line_of_a_migration_has_its_id_and_so_has_each_entry_of_the_journals(
    worker: Worker, both: list[journald.Journal]
) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    other = Migration(worker.testbed, BASE, "--dry-run")
    assert other.end() == 0, other.stderr
    migration = Migration(worker.testbed, KEEPING)
    assert migration.end() == COMMITTED, migration.stderr
    found = migration.report["id"]
    assert ID.fullmatch(found)
    assert f"migration {found}" in migration.stderr.splitlines()[0], "an operator sees it first"
    assert found in Path(f"{src.root}{migration.report['run_file']}").read_text()
    assert migration.journal()["id"] == found
    assert dst.read("/srv/hook-saw").strip() == found
    here, there = logs(src, f"{migration.name}/*.log"), logs(dst, f"{migration.name}-{found}/work/*.log")
    assert set(here) == {"migrate.log", "page-server.log"} and all(here.values())
    assert set(there) == {"agent.log", "lazy-pages.log", "page-store.log"} and all(there.values())
    assert_all_marked(here | there, found)
    for journal, role, says in zip(both, ("source", "destination"), ("the task runs at", "every page"), strict=True):
        entries = journal.entries(f"CRIU_LAZY_MIGRATION={found}")
        assert any(says in entry["MESSAGE"] for entry in entries)
        assert {entry["CRIU_LAZY_ROLE"] for entry in entries} == {role}
        everything = journal.entries("SYSLOG_IDENTIFIER=criu-lazy")
        assert len(everything) > len(entries), "the other migration's"
    assert both[0].entries(f"CRIU_LAZY_MIGRATION={found}")[-1]["MESSAGE"] == "committed"


def test_where_output_goes_to_the_journal_each_line_is_one_entry(worker: Worker, both: list[journald.Journal]) -> None:
    journal, src = both[0], worker.testbed.src
    src.write("/root/m0.yaml", BASE)
    as_of_a_unit = 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"'  # systemd sets it
    src.run([*journal.cat, "sh", "-c", as_of_a_unit, "sh", "criu-lazy", "migrate", "/root/m0.yaml"])

    def said() -> list[str]:
        return [str(entry["MESSAGE"]) for entry in journal.entries("_TRANSPORT=stdout")]

    eventually(lambda: any(line.startswith("committed: task ") for line in said()), "the report is there")
    told = [entry["MESSAGE"] for entry in journal.entries("CRIU_LAZY_NAME=m0")]
    assert told[0].startswith("preflight: ") and told[-1] == "committed"
    assert not any("preflight: " in line for line in said()), "once is enough"


def test_successors_write_its_id_too(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    migration = running(worker, BASE + "keep_files: true\n")
    found = migration.journal()["id"]
    for host in (src, dst):
        listed = json.loads(host.run(["criu-lazy", "status", "--json"]).stdout)
        assert [one["migration"] for one in listed] == [found]
    server = min(pids_of(src, "page-server", "--dump-status-fd"))
    kill_pids(src, server)
    eventually(lambda: pids_of(src, "page-server --resume"), "another page server")
    agent = pids_of(dst, "python", "criu-lazy agent")[-1]
    daemon = daemons(dst)
    kill_pids(dst, agent, *daemon)
    eventually(lambda: set(pids_of(dst, "lazy-pages", "--resume")) - daemon, "the keeper has started another daemon")
    worker.testbed.link.set(rate_mbit=1000, rtt_ms=0.2)
    migration.end()
    here, there = logs(src, f"{migration.name}/*.log"), logs(dst, f"{migration.name}-{found}/work/*.log")
    assert {"migrate.log", "page-server.log"} <= set(here) and "lazy-pages.log" in there
    assert_all_marked(here | there, found)
