"""`criu-lazy evacuate`: many migrations at once, one link, and a driver that may be killed at any moment."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from evacuating import OTHER, Evacuation, clean, is_at, open_client, plan_of
from lazy_source import eventually
from migrating import COMMITTED, FAILED, ROLLED_BACK, UNDECIDED, USAGE, Worker, kill, pids_of

from testbed import Host, Testbed

LAZY = "profile: {strategy: lazy, timeouts: {silence: 3}}"


@pytest.fixture
def tasks(pair: Testbed) -> Iterator[dict[str, Worker]]:
    """Four of 16 MiB, on src."""
    pair.link.set(rate_mbit=1000, rtt_ms=0.2)
    yield {name: Worker(pair, 16) for name in ("a", "b", "c", "d")}
    clean(pair)


def test_all_move_in_their_order(pair: Testbed, tasks: dict[str, Worker]) -> None:
    """By priority; who is to follow others waits until they have moved."""
    keys = {"d": ", priority: 9", "a": ", after: [b, c]"}
    evacuation = Evacuation(pair, plan_of(tasks, LAZY, **keys))
    assert evacuation.end() == COMMITTED, evacuation.stderr
    for worker in tasks.values():
        is_at(worker, pair.dst)
    frozen = [line.split("] ")[1][0] for line in evacuation.stderr.splitlines() if "the task is frozen" in line]
    assert (frozen[0], frozen[-1], sorted(frozen)) == ("d", "a", ["a", "b", "c", "d"])
    for item in evacuation.items.values():
        assert (item["state"], item["place"]) == ("committed", "dst")
        assert item["downtime_s"] > 0
        assert (pair.src.root / item["run_file"][1:]).is_file()
    assert pair.src.run(["sh", "-c", "ls -d /var/lib/criu-lazy/*/journal.json"], check=False).stdout == ""
    status = pair.src.run(["criu-lazy", "evacuate", evacuation.path, "--status"]).stdout
    assert "4 of 4 moved" in status
    again = Evacuation(pair, "", again=evacuation)
    assert again.end() == FAILED and "no process has pid" in again.stderr, "it doesn't take others for them"


def test_selected_by_their_group(pair: Testbed, tasks: dict[str, Worker]) -> None:
    """All tasks of a control group and those below it; who is named in the plan as well goes as named."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    group = Path(next(words[1] for words in mounts if words[2].startswith("cgroup")), f"criu-lazy-{os.getpid()}")
    below = group / "below"
    below.mkdir(parents=True)
    try:
        for name, directory in (("a", group), ("b", below), ("c", group)):
            (directory / "cgroup.procs").write_text(str(pair.src.outer_pid(tasks[name].pid)))
        told = pair.src.read(f"/proc/{tasks['a'].pid}/cgroup")
        path = next(line.split(":", 2)[2] for line in told.splitlines() if group.name in line)
        plan = (
            f"destinations: [{{ssh: dst}}]\nmove:\n- cgroup: {path}\n- {{task: {{pid: {tasks['c'].pid}}}, name: c}}\n"
        )
        done = Evacuation(pair, plan, "--dry-run")
        shown, _ = done.process.communicate(timeout=60)
        assert shown.count("can be moved to dst") == 3
        assert sorted(line.split(":")[0] for line in shown.splitlines()) == sorted(
            ["c", *(f"patterned_task-{tasks[name].pid}" for name in ("a", "b"))]
        )
        empty = Evacuation(pair, f"destinations: [{{ssh: dst}}]\nmove: [cgroup: {path}/none]\n")
        assert (empty.end(), empty.report["items"]) == (COMMITTED, [])
        assert ":2: move: nothing runs here that this means" in empty.stderr
    finally:
        for worker in tasks.values():
            worker.end()
        for directory in (below, group):
            eventually(lambda directory=directory: not (directory / "cgroup.procs").read_text(), "they have ended")
            directory.rmdir()


def test_elsewhere(pair: Testbed, tasks: dict[str, Worker]) -> None:
    """A place that has no room isn't taken; one that fails is followed by another; what fits nowhere stays."""
    open_client(pair, tasks.values())
    places = f"{{ssh: dst, name: full, memory: 40M}}, {{ssh: dst, name: broken, criu_lazy: /none}}, {OTHER}"
    keys = {"a": ", to: [full], priority: 2", "b": ", to: [broken, other]", "c": ", to: [full], priority: 1",
            "d": ", to: [full], after: [a]"}  # fmt: skip
    evacuation = Evacuation(pair, plan_of(tasks, LAZY, places, **keys))
    assert evacuation.end() == ROLLED_BACK, evacuation.stderr
    assert list(evacuation.states.values()) == ["committed"] * 3 + ["failed"], evacuation.stderr
    for name, host in (("a", pair.dst), ("b", pair.client), ("c", pair.dst), ("d", pair.src)):
        is_at(tasks[name], host)
    items = evacuation.items
    assert "none of full has room for its 17 MB" in items["d"]["message"]
    assert "install criu-lazy there" in items["b"]["tried"][0]["message"] and items["b"]["place"] == "other"


@pytest.mark.parametrize("on_failure", ["skip", "stop"])
def test_a_failure(pair: Testbed, tasks: dict[str, Worker], on_failure: str) -> None:
    """The others move, or nothing more does; who was to follow it stays. It is known before the first is frozen."""
    places = "{ssh: dst}, {ssh: dst, name: broken, criu_lazy: /none}"
    keys = {"a": ", to: [dst]", "b": ", to: [broken]", "c": ", after: [b]", "d": ", to: [dst]"}
    evacuation = Evacuation(pair, plan_of(tasks, f"{LAZY}\non_failure: {on_failure}", places, **keys))
    stops = on_failure == "stop"
    assert evacuation.end() == (FAILED if stops else ROLLED_BACK), evacuation.stderr
    moved = [name for name, state in evacuation.states.items() if state == "committed"]
    assert moved == ([] if stops else ["a", "d"])
    for name, worker in tasks.items():
        is_at(worker, pair.dst if name in moved else pair.src)
    assert "b failed" in evacuation.items["a"]["message"] or not stops
    assert "b, which it is to follow, has not moved" in evacuation.items["c"]["message"] or stops


def test_each_reason_is_told_once(pair: Testbed, tasks: dict[str, Worker]) -> None:
    """On one stream. A report that goes elsewhere is whole."""
    hooks = "{hooks: {before_restore: [{run: 'echo it is full >&2; false'}]}}"
    places = "{ssh: dst}, {ssh: dst, name: broken, criu_lazy: /none}"
    keys = {"a": f", to: [dst], profile: {hooks}", "b": ", to: [broken]"}
    workers = {name: tasks[name] for name in keys}
    pair.src.write("/root/e0.yaml", plan_of(workers, LAZY, places, **keys))
    reasons = ("status 1: it is full", "/none is not there")
    for options, where, counts in (("", "2>&1", (1, 1)), ("--dry-run", "2>&1", (0, 1)), ("", "2>/dev/null", (1, 1))):
        told = pair.src.run(["sh", "-c", f"criu-lazy evacuate {options} /root/e0.yaml {where}"], check=False).stdout
        assert tuple(map(told.count, reasons)) == counts, told
        assert options or re.search(r"^a  rolled-back(: .*)?\nb  failed", told, re.MULTILINE)


@pytest.mark.parametrize("when", ["preflight", "rounds", "following"])
def test_the_driver_is_killed(pair: Testbed, tasks: dict[str, Worker], when: str) -> None:
    """--resume settles what was under way, and moves the rest; killed again, it does so again."""
    strategy = "hybrid" if when == "rounds" else "lazy"
    pair.link.set(rate_mbit=8, rtt_ms=0.2)
    plan = plan_of(tasks, f"profile: {{strategy: {strategy}, timeouts: {{silence: 3}}}}")
    evacuation = Evacuation(pair, plan)
    reached = {"preflight": "preflight", "rounds": "pre-copy", "following": "running"}[when]
    eventually(lambda: any(evacuation.journal(name).get("state") == reached for name in tasks), f"one is at {reached}")
    time.sleep(random.random() * 0.3)
    evacuation.kill()
    refused = Evacuation(pair, "", again=evacuation)
    assert refused.end() == USAGE and "was interrupted: --resume goes on with it" in refused.stderr
    second = Evacuation(pair, "", "--resume", again=evacuation)
    eventually(lambda: len(pids_of(pair.src, "page-server")) > 0, "it goes on")
    time.sleep(random.random())
    second.kill()
    pair.link.set(rate_mbit=1000, rtt_ms=0.2)
    third = Evacuation(pair, "", "--resume", again=evacuation)
    assert third.end() == COMMITTED, (third.stderr, third.report)
    for worker in tasks.values():
        is_at(worker, pair.dst)
    told = [json.loads(pair.src.read(item["run_file"])) for item in third.items.values()]
    settled = [run["settled"] for run in told if "settled" in run]
    assert [run.get("settled", run["report"])["outcome"] for run in told] == ["committed"] * len(tasks)
    assert when != "following" or (settled and all("by criu-lazy evacuate" in each["how"] for each in settled))


def test_stopped_by_a_signal(pair: Testbed, tasks: dict[str, Worker]) -> None:
    """What is frozen is seen through, the rest stays; --resume moves it."""
    pair.link.set(rate_mbit=8, rtt_ms=0.2)
    evacuation = Evacuation(pair, plan_of(tasks, LAZY))
    eventually(lambda: evacuation.journal("a").get("state") == "running", "the first one runs there")
    evacuation.process.send_signal(signal.SIGTERM)
    assert evacuation.end() == ROLLED_BACK, evacuation.stderr
    assert evacuation.states["a"] == "committed" and evacuation.states["d"] == "failed"
    assert "stopped by SIGTERM" in evacuation.items["d"]["message"]
    pair.link.set(rate_mbit=1000, rtt_ms=0.2)
    assert Evacuation(pair, "", "--resume", again=evacuation).end() == COMMITTED
    for worker in tasks.values():
        is_at(worker, pair.dst)


@pytest.mark.parametrize("killed", [False, True])
def test_a_destination_is_lost(pair: Testbed, tasks: dict[str, Worker], killed: bool) -> None:
    """It holds up nobody who goes elsewhere, nor if the driver is killed and --resume waits for it. Whose memory is on
    its way there waits; a second signal ends that wait, and it has to be decided; once the destination is back,
    --resume sees it through."""
    open_client(pair, tasks.values())
    pair.link.set(rate_mbit=4, rtt_ms=0.2)
    keys = {"a": ", to: [dst], priority: 9"} | dict.fromkeys("bcd", ", to: [other]")
    evacuation = Evacuation(pair, plan_of(tasks, LAZY, f"{{ssh: dst}}, {OTHER}", **keys))
    eventually(lambda: evacuation.journal("a").get("state") == "running", "the first one runs there")
    pair.link.cut()
    if killed:
        evacuation.kill()
        evacuation = Evacuation(pair, "", "--resume", again=evacuation)
    for name in ("b", "c", "d"):
        eventually(lambda name=name: evacuation.record()[name]["state"] == "committed", f"{name} has moved", 60)
    assert evacuation.record()["a"]["state"] == "moving"
    if not killed:
        run = evacuation.journal("a")["run_file"]
        told = pair.src.read(run)
        eventually(lambda: pair.src.read(run) != told, "its run file tells of the wait")
    for _ in range(2):
        evacuation.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    assert evacuation.end() == UNDECIDED, evacuation.stderr
    assert evacuation.items["a"]["state"] == "undecided"
    pair.link.set(rate_mbit=1000, rtt_ms=0.2)
    pair.link.mend()
    last = Evacuation(pair, "", "--resume", again=evacuation)
    assert last.end() == COMMITTED, (last.stderr, last.report)
    is_at(tasks["a"], pair.dst)
    for name in ("b", "c", "d"):
        is_at(tasks[name], pair.client)


def test_a_plan_that_is_changed(pair: Testbed, tasks: dict[str, Worker]) -> None:
    """--resume goes on as it began; another plan of that name is none of its business."""
    pair.link.set(rate_mbit=8, rtt_ms=0.2)
    evacuation = Evacuation(pair, plan_of(tasks, LAZY))
    eventually(lambda: evacuation.journal("a").get("state") == "running", "the first one runs there")
    status = ["criu-lazy", "evacuate", evacuation.path, "--status"]
    told = pair.src.run(status).stdout
    assert told.startswith("under way (pid ") and json.loads(pair.src.run([*status, "--json"]).stdout)
    assert re.search(r"^a  moving: running, \d+/17 MB \(\d+%\), ", told, re.MULTILINE), told
    evacuation.kill()
    told = pair.src.run(status, check=False).stdout
    assert told.startswith("nobody drives it: --resume goes on\n")
    assert re.search(r"^a  moving: undriven, \d+/17 MB \(\d+%\), .*nobody drives it$", told, re.MULTILINE), told
    assert re.search(r"^b  (rolled-back|failed)$", told, re.MULTILINE), told
    pair.src.run(["sh", "-c", f"mkdir -p /root/o && cp {evacuation.path} /root/o/"])
    other = pair.src.run(["criu-lazy", "evacuate", f"/root/o/{evacuation.name}.yaml", "--resume"], check=False)
    assert other.returncode == USAGE and f"another plan, {evacuation.path}" in other.stderr
    pair.src.write(evacuation.path, plan_of({"a": tasks["a"]}, destinations="{ssh: nowhere}"))
    pair.link.set(rate_mbit=1000, rtt_ms=0.2)
    last = Evacuation(pair, "", "--resume", again=evacuation)
    assert last.end() == COMMITTED, last.stderr
    assert "has changed since" in last.stderr
    for worker in tasks.values():
        is_at(worker, pair.dst)


def test_an_earlier_journal_is_none_of_this_one(pair: Testbed, tasks: dict[str, Worker]) -> None:
    """Of a task that has moved by this name, a journal stayed; killed in the preflight, the next one has not moved."""
    kept = LAZY.replace("strategy", "keep_files: true, strategy")
    first = Evacuation(pair, plan_of({"a": tasks["a"]}, kept))
    assert first.end() == COMMITTED, first.stderr
    assert first.journal("a")["state"] == "committed"
    pair.src.write(first.path, plan_of({"a": tasks["b"]}, kept))
    second = Evacuation(pair, "", again=first)
    eventually(lambda: second.record().get("a", {}).get("state") == "moving", "it has begun")
    second.kill()
    assert first.journal("a").get("state") != "committed"
    last = Evacuation(pair, "", "--resume", again=first)
    assert last.end() == COMMITTED, last.stderr
    is_at(tasks["b"], pair.dst)


def test_two_plans_that_name_the_same_task(pair: Testbed, tasks: dict[str, Worker]) -> None:
    """Also if the dump is dead, and the task stands there, stopped."""
    open_client(pair, tasks.values())
    pair.link.set(rate_mbit=4, rtt_ms=0.2)
    plan = plan_of({"a": tasks["a"]}, LAZY)
    first = Evacuation(pair, plan)
    eventually(lambda: first.journal("a").get("state") == "running", "it runs there")
    kill(pair.src, "criu dump")
    second = Evacuation(pair, plan.replace("{ssh: dst}", OTHER))
    assert second.end() == FAILED, second.stderr
    assert f"{first.name}.a moves task {tasks['a'].pid} already (it is at running)" in second.items["a"]["message"]
    pair.link.set(rate_mbit=1000, rtt_ms=0.2)
    assert first.end() == COMMITTED, first.stderr
    is_at(tasks["a"], pair.dst)


def test_who_has_ended_is_gone(pair: Testbed, tasks: dict[str, Worker]) -> None:
    """Before its turn: nothing of it is left here, and who is to follow it goes."""
    pair.link.set(rate_mbit=4, rtt_ms=0.2)
    keys = {"b": ", priority: 9", "c": ", after: [a]"}
    evacuation = Evacuation(pair, plan_of({name: tasks[name] for name in "abc"}, f"{LAZY}\nat_once: 1", **keys))
    eventually(lambda: evacuation.journal("b").get("state") == "running", "the first one runs there")
    evacuation.kill()
    pair.src.run(["kill", "-KILL", str(tasks["a"].pid)])
    pair.link.set(rate_mbit=1000, rtt_ms=0.2)
    last = Evacuation(pair, "", "--resume", again=evacuation)
    assert last.end() == COMMITTED, last.stderr
    assert last.states == {"a": "gone", "b": "committed", "c": "committed"}
    assert f"task {tasks['a'].pid} has ended" in last.items["a"]["message"]


def test_opposite_directions(pair: Testbed, tasks: dict[str, Worker]) -> None:
    """Both hosts are emptied at once, into each other."""
    here = {name: tasks[name] for name in "ab"}
    there = {name: tasks[name] for name in "cd"}
    assert Evacuation(pair, plan_of(there, LAZY)).end() == COMMITTED
    both = [
        Evacuation(pair, plan_of(here)),
        Evacuation(pair, plan_of(there, destinations="{ssh: src}"), source=pair.dst),
    ]
    for evacuation in both:
        assert evacuation.end() == COMMITTED, evacuation.stderr
    hosts: tuple[Host, Host] = (pair.dst, pair.src)
    for workers, host in zip((here, there), hosts, strict=True):
        for worker in workers.values():
            is_at(worker, host)


def test_nothing_to_resume(pair: Testbed, tasks: dict[str, Worker]) -> None:
    for option in ("--resume", "--status"):
        evacuation = Evacuation(pair, plan_of(tasks), option)
        assert evacuation.end() == USAGE
        assert "no evacuation by this plan is on record here" in evacuation.stderr
    two = {"a": tasks["a"], "b": tasks["a"]}
    evacuation = Evacuation(pair, plan_of(two))
    assert evacuation.end() == FAILED and "move: b is a, which the plan has already" in evacuation.stderr
