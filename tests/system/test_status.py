"""`criu-lazy status`: what it lists is what goes on, at both ends."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

from lazy_source import eventually
from migrating import (
    BASE,
    COMMITTED,
    FAILED,
    HOLD,
    UNDECIDED,
    Migration,
    Terminal,
    Worker,
    assert_moved,
    assert_stayed,
    held,
    kill,
    kill_ours,
    pids_of,
    running,
)
from prometheus import give_client
from prometheus_client.parser import text_string_to_metric_families
from report_page import Page

from testbed import Host

NOTHING = "no migration is on record here"


def status(host: Host, *options: str) -> tuple[int, str]:
    done = host.run(["criu-lazy", "status", *options], check=False)
    assert not done.stderr
    return done.returncode, done.stdout


def listed(host: Host) -> dict[str, Any]:
    """The only one."""
    (seen,) = json.loads(status(host, "--json")[1])
    return dict(seen)


def measured(host: Host) -> dict[tuple[str, str], float]:
    """What Prometheus is told there: by name, and state or outcome."""
    told = host.run(["criu-lazy", "metrics"], env=give_client(host)).stdout
    samples = [sample for family in text_string_to_metric_families(told) for sample in family.samples]
    return {(s.name, s.labels.get("state", "") + s.labels.get("outcome", "")): s.value for s in samples}


def reported(host: Host, runs: str) -> str:
    """The words of the page of the newest."""
    return Page(host.run(["criu-lazy", "report", runs, "-o", "-"]).stdout).words


def test_what_is_sent_before_the_freeze_is_told_of(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    worker.testbed.link.set(rate_mbit=10, rtt_ms=0.2)
    terminal = Terminal()
    profile = BASE.replace("strategy: lazy", "strategy: hybrid")
    migration = Migration(worker.testbed, profile, terminal=terminal, environment={"TERM": "xterm"})
    eventually(lambda: migration.is_in("pre-copy") and listed(src)["rate"], "its figures are known")
    table = status(src)[1]
    assert re.search(r" pre-copy +\d+ MB sent +\d MB/s +-\n +pre-copy, round 1, \d+% read", table), table
    assert measured(src)["criu_lazy_migration_precopied_bytes_total", ""] > 0
    assert "pre-copy: the task runs at the source, and " in status(dst)[1]
    assert re.search(r"link +\d MB/s", terminal.text())
    migration.process.send_signal(signal.SIGTERM)
    assert migration.end() == FAILED
    assert worker.answers(src) == "right\n"


def test_a_migration_is_listed_at_both_ends_while_it_goes_on(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    assert (status(src)[0], status(src)[1].splitlines()[0]) == (0, NOTHING)
    terminal = Terminal()
    migration = running(worker, terminal=terminal, environment={"TERM": "xterm"})
    here = eventually(lambda: (seen := listed(src))["rate"] and seen, "its figures are known")
    assert (here["role"], here["state"], here["task"], here["peer"]) == ("source", "running", worker.pid, "dst")
    assert here["driver"] in pids_of(src, "criu-lazy migrate") and not here["needs_decision"]
    assert 0 < here["missing_bytes"] < here["total_bytes"]
    assert here["seconds_left"] == here["missing_bytes"] / here["missing_rate"]
    there = listed(dst)
    assert (there["role"], there["state"], there["peer"]) == ("destination", "running", "10.77.0.1")
    assert there["driver"] in pids_of(dst, "criu-lazy agent") and there["total_bytes"] == here["total_bytes"]
    code, table = status(src)
    assert code == 0 and table.startswith("MIGRATION") and f" {worker.pid} " in table and " MB/s" in table
    eventually(lambda: "the task runs there, its memory follows" in terminal.text(), "the panel tells it")
    for words in (r"memory +\d+/\d+ MB \(.* MB missing, about .* s left", r"link +\d+ MB/s, most so far \d"):
        eventually(lambda words=words: re.search(words, terminal.text()), "figures are known")
    assert re.search(r"downtime +\d+ ms so far", terminal.text()) and re.search(r"downtime +\d+ ms  ", terminal.text())
    assert "[  0." in terminal.text().splitlines()[0], "lines, too"
    src.run(["kill", "-USR1", str(here["driver"])])
    eventually(lambda: re.search(r"\] running, .* MB \(.*, downtime \d+ ms", terminal.text()), "a signal asks")
    told = measured(src)
    assert told["criu_lazy_migration_state", "running"] == told["criu_lazy_migration_driven", ""] == 1
    assert told["criu_lazy_migration_memory_bytes", ""] == here["total_bytes"]
    assert 0 < told["criu_lazy_migration_missing_bytes", ""] < here["total_bytes"]
    assert told["criu_lazy_migration_received_bytes_total", ""] > 0
    watching = src.popen(["criu-lazy", "status", "--watch", "--json"], stdout=-1, text=True)
    assert json.loads(watching.stdout.readline())[0]["state"] == "running"
    by_people = [host.popen(["criu-lazy", "status", "--watch"], stdout=-1, text=True) for host in (src, dst)]
    for each in by_people:
        assert each.stdout.readline().startswith("MIGRATION ")
    worker.testbed.link.set()
    assert_moved(worker, migration)
    last = json.loads(watching.communicate(timeout=60)[0].splitlines()[-1])
    assert [seen["state"] for seen in last] in ([], ["committed"]), "its record goes a moment after its end"
    assert watching.returncode == 0
    at_source, at_destination = (each.communicate(timeout=60)[0].splitlines()[-1] for each in by_people)
    assert re.fullmatch(rf"{migration.name}: committed, downtime \d+ ms: criu-lazy report {migration.name}", at_source)
    assert at_destination.endswith(": over; the source, 10.77.0.1, knows how it ended")
    assert status(dst)[1].splitlines()[0] == NOTHING
    nothing, last = status(src)[1].splitlines()
    ended = rf"committed \d\d:\d\d, downtime {migration.report['downtime_s'] * 1e3:.0f} ms"
    assert nothing == NOTHING
    assert re.fullmatch(rf"last: {migration.name} {ended}: criu-lazy report {migration.name}", last)
    assert status(src, "--json")[1] == "[]\n"
    told = measured(src)
    assert told["criu_lazy_last_run_outcome", "committed"] == 1
    assert told["criu_lazy_last_run_downtime_seconds", ""] == migration.report["downtime_s"]


def test_who_watches_before_it_begins_sees_it(worker: Worker) -> None:
    src = worker.testbed.src
    watching = src.popen(["criu-lazy", "status", "--watch"], stdout=-1, stderr=-1, text=True)
    assert "waiting for one to begin, 10 s" in watching.stderr.readline()
    migration = Migration(worker.testbed, BASE)
    assert_moved(worker, migration)
    shown = watching.communicate(timeout=60)[0].splitlines()
    assert shown[0].startswith("MIGRATION ") and shown[-1].startswith(f"{migration.name}: committed, downtime ")


def test_a_migration_is_cancelled_until_its_task_runs_there(worker: Worker) -> None:
    src = worker.testbed.src

    def cancel(word: str) -> tuple[int, str]:
        done = src.run(["criu-lazy", "cancel", word], check=False)
        return done.returncode, done.stdout + done.stderr

    first = held(worker.testbed, BASE + HOLD)
    said = cancel(first.name)
    assert said == (0, f"{first.name}: task {worker.pid} -> dst: rolled-back; the source task runs on\n")
    assert_stayed(worker, first, "stopped by SIGTERM")
    second = running(worker)
    said = cancel(second.path)
    assert said[0] == 1 and "the task runs at dst already, and its memory follows: too late" in said[1]
    worker.testbed.link.set()
    assert_moved(worker, second)
    assert "no migration of that name is under way" in cancel(second.name)[1]


def test_a_restored_task_that_was_killed_is_told_of_at_both_ends(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    migration = running(worker)
    dst.run(["kill", "-9", str(worker.pid)])
    assert migration.end() == UNDECIDED, migration.stderr
    there = listed(dst)
    assert there["state"] == "failed" and "was killed by SIGKILL with" in there["notes"][0]
    missing = re.search(r" with (\d+) pages missing", there["notes"][0])
    assert missing and there["missing_bytes"] == listed(src)["missing_bytes"] == 4096 * int(missing[1])
    assert "(100%)" not in status(dst)[1]
    code, table = status(src)
    assert code == UNDECIDED and "the restored task was killed with pages missing" in table
    made = src.run(["criu-lazy", "report", f"/var/lib/criu-lazy/{migration.name}.runs", "-o", "-"])
    assert "the migration waits for a decision: criu-lazy migrate --status" in Page(made.stdout).words
    assert migration.decide("--abort", "--force").returncode == 0
    assert worker.answers(src) == "right\n"
    again = running(worker)
    worker.testbed.link.set()
    assert again.end() == COMMITTED, again.stderr
    assert worker.answers(dst) == "right\n"
    (way_out,) = re.findall(r"once that is done, this record is of no use any more: (rm -r \S+)", status(dst)[1])
    dst.run(["sh", "-c", way_out])
    assert status(dst)[1].splitlines()[0] == NOTHING


def test_a_stopped_one_comes_with_the_way_out(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    migration = running(worker)
    kill(src, "criu-lazy migrate")
    code, table = status(src)
    assert code == UNDECIDED and "nobody drives it: criu-lazy migrate --status PROFILE" in table
    assert "pages are on their way" in table and not listed(src)["driver"]
    assert table.splitlines()[1].split()[4] == "undriven" and listed(src)["state"] == "running"
    runs = f"/var/lib/criu-lazy/{migration.name}.runs"
    assert re.search(r"last words of its migrate, \d+ s ago: the task runs at the destination", table)
    assert f"what it saw until then: criu-lazy report {runs}/" in table
    words = reported(src, migration.name)
    assert "under-way" in reported(src, migration.path)
    assert "under-way" in words and "migrate had not ended then, or was killed" in words
    assert "this host's record, as this page was made: running" in words and "pages are on their way" in words
    assert "the task runs at the destination; downtime" in words
    kill_ours(dst)
    assert "nothing of it runs any more" in status(dst)[1]
    dst.run(["kill", "-9", str(worker.pid)], check=False)
    assert migration.decide("--abort", "--force").returncode == 0
    assert status(src)[0] == 0 and listed(src)["state"] == "rolled-back"
    words = reported(src, runs)
    assert re.search(r"rolled-back at 2.*: made by criu-lazy migrate --abort; migrate had left it without an", words)
    assert "this host's record" not in words
    assert worker.answers(src) == "right\n"


def test_one_that_nobody_drives_is_watched_while_its_pages_come(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    migration = running(worker)
    kill(src, "criu-lazy migrate")
    watching = src.popen(["criu-lazy", "status", "--watch"], stdout=-1, text=True)
    cancel = src.run(["criu-lazy", "cancel", migration.name], check=False)
    assert cancel.returncode == FAILED and "nobody drives it any more: criu-lazy migrate --status" in cancel.stderr
    heads = (line for line in watching.stdout if line.startswith("MIGRATION "))
    assert next(heads) and next(heads), "it goes on"
    worker.testbed.link.set()
    last = watching.communicate(timeout=60)[0].splitlines()[-1]
    way_out = f"criu-lazy migrate --commit PROFILE ({migration.name}.yaml)"
    assert last == f"{migration.name}: every page arrived, and nobody drives it: {way_out}"
    assert watching.returncode == UNDECIDED
    assert migration.decide("--commit").returncode == 0
    assert worker.answers(dst) == "right\n"
    assert status(src)[0] == 0


def test_what_was_seen_is_on_file_wherever_migrate_is_killed(worker: Worker) -> None:
    src = worker.testbed.src
    migration = held(worker.testbed, BASE + HOLD)
    runs = f"/var/lib/criu-lazy/{migration.name}.runs"
    written = ["sh", "-c", f"cat {runs}/*.json"]
    eventually(lambda: '"serving"' in src.run(written).stdout, "that is on file: of a freeze a moment later")
    kill(src, "criu-lazy migrate")
    migration.end()
    facts = json.loads(src.run(written).stdout)
    assert facts["report"]["outcome"] == "under-way" and list(facts["report"]["phases_s"])[-1] == "serving"
    assert facts["frozen_s"] < facts["report"]["total_s"] and facts["resumed_s"] is None and "settled" not in facts
    src.run(["rm", "/run/held"])
    eventually(lambda: "rolled-back" in migration.decide("--status").stdout, "the page server lets the task run on")
    words = reported(src, runs)
    assert "rolled-back at" in words and "found by criu-lazy migrate --status; migrate had left it without" in words
    assert "an end, at serving" in words
    assert worker.answers(src) == "right\n"
