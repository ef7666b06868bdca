"""The crash matrix: every fault in every state of a migration, before and after that state's record.

Each cell is one real migration between two hosts. `migrate` stops itself (SIGSTOP, by pausing_migrate.py, not by code
of the product) where the cell says; then comes the fault; then it goes on. When it has ended, or waits for ever and is
interrupted, an operator who knows nothing but the advice of --status follows that, until it says that this is the end.
What was said on the way is compared with what was there: see Run.judge. crash_cells.py has the cells,
docs/reliability.md the promises.

    python tests/support/crash_matrix.py [--soak N] [--share 1/3] [--seed S] [--testbeds 2] [--only TEXT] [--into FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from crash_cells import (
    AFTER_GO,
    DISK_FULL,
    DUMP_FAULTS,
    KILLS,
    LINK_MENDED,
    STOPS,
    VICTIMS,
    Cell,
    Row,
    all_cells,
    driver,
    state_of,
)
from crash_tables import one_line, summary, write_into
from lazy_source import TASK_C, eventually
from migrating import kill_ours, ours

from testbed import Host, Testbed

MEMORY_MIB = 16
RATE_MBIT = 12.0  # so much of such memory takes a few seconds
PROFILE = """
task: {pidfile: /run/worker.pid}
destination: {ssh: dst}
strategy: lazy
timeouts: {silence: 3, restore: 20, dump: 20}
"""
DIRECTORY = "/var/lib/criu-lazy"
DISK_MIB = 48
STOPPED_FOR_S = 5.0  # longer than the profile's silence
CUT_UNTIL_MENDED_S = 8.0
ENDS_WITHIN_S = 36.0
ENDS_WITHOUT_HOSTS_WITHIN_S = 3.0
EXIT_STATUS = {"committed": 0, "failed": 1, "rolled-back": 3, "undecided": 4}
ENDS = ("committed", "rolled-back", "failed")
PAUSING = Path(__file__).with_name("pausing_migrate.py")


# ---- what is there ----


def turns_of(host: Host, pid: int) -> int:
    """How often a process went to sleep: one that runs does so a hundred times a second."""
    with contextlib.suppress(OSError, StopIteration):
        lines = (host.root / f"proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("voluntary_ctxt")).split()[1])
    return 0


class Watch(threading.Thread):
    """Looks whether the task ever runs on both hosts at a time."""

    def __init__(self, testbed: Testbed, pid: int) -> None:
        super().__init__(daemon=True)
        self.hosts, self.pid = (testbed.src, testbed.dst), pid
        self.two = False
        self.over = threading.Event()

    def run(self) -> None:
        last, both = [turns_of(host, self.pid) for host in self.hosts], 0
        while not self.over.wait(0.05):
            now = [turns_of(host, self.pid) for host in self.hosts]
            both = both + 1 if all(new >= old + 2 > 2 for new, old in zip(now, last, strict=True)) else 0
            self.two = self.two or both >= 2
            last = now


# ---- one cell ----


class Run:
    """One migration with one fault, on a testbed of its own."""

    numbers = itertools.count(1)

    def __init__(self, testbed: Testbed, cell: Cell) -> None:
        self.testbed, self.src, self.dst = testbed, testbed.src, testbed.dst
        self.row = Row(cell)
        self.name = f"c{next(Run.numbers)}"
        self.path = f"/root/{self.name}.yaml"
        self.directory = f"/srv/{self.name}"
        self.pid = 0
        self.killed: set[str] = set()
        self.process: Any = None
        self.stdout = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by clean())
        self.stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.watch: Watch | None = None

    def run(self) -> Row:
        began = time.monotonic()
        try:
            self.start()
            if self.pause():
                self.fault()
            if self.row.present:
                self.end()
                self.settle()
                self.look()
        except Exception as error:
            self.row.wrong.append(f"harness: {error!r}")
            print("".join(traceback.format_exception(error)[-3:]), file=sys.stderr)
        finally:
            self.clean()
        self.row.seconds = time.monotonic() - began
        return self.row

    def start(self) -> None:
        for host in (self.src, self.dst):
            host.run(["mkdir", "-p", self.directory])
        start = 'cd "$1" && shift && exec /usr/local/bin/patterned_task "$@"'
        self.pid = self.src.start(["sh", "-c", start, "sh", self.directory, str(MEMORY_MIB)])
        self.src.write("/run/worker.pid", f"{self.pid}\n")
        eventually(lambda: (self.src.root / self.directory[1:] / "info").exists(), "the task has started")
        self.src.write(self.path, PROFILE)
        self.watch = Watch(self.testbed, self.pid)
        self.watch.start()
        cell = self.row.cell
        command = ["python3", "/root/pausing_migrate.py", cell.state, cell.when, self.path, "--json"]
        # Files: what outlives the driver has its standard error.
        self.process = self.src.popen(command, stdout=self.stdout, stderr=self.stderr)

    def pause(self) -> bool:
        """Wait until the driver has stopped itself; False if it ended."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if any(state_of(host, pid) == "T" for host, pid in driver(self)):
                return True
            time.sleep(0.01)
        return False

    def fault(self) -> None:
        fault = self.row.cell.fault
        if fault in KILLS or fault in STOPS:
            name, number = (KILLS | STOPS)[fault]
            victims = VICTIMS[name](self)
            self.row.present = bool(victims)
            self.signal(victims, number)
            if number == signal.SIGKILL:
                self.killed = {name}
            elif name != "driver":
                self.go_on()
            if number == signal.SIGSTOP and victims:
                time.sleep(STOPPED_FOR_S)
                self.signal(victims, signal.SIGCONT)
        elif fault == DISK_FULL:
            self.src.run(["sh", "-c", f"cat /dev/zero >{DIRECTORY}/fill"], check=False)
        else:
            self.testbed.link.cut()
            self.go_on()
            time.sleep(1)
            if fault == LINK_MENDED:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(CUT_UNTIL_MENDED_S)
            self.testbed.link.mend()
        self.go_on()

    def go_on(self) -> None:
        """Let the driver go on, and nsenter, which stops itself when its child is stopped."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            os.kill(self.process.pid, signal.SIGCONT)

    def signal(self, victims: list[tuple[Host, int]], number: int) -> None:
        for host in (self.src, self.dst):
            pids = [str(pid) for at, pid in victims if at is host]
            if pids:
                host.run(["kill", f"-{int(number)}", *pids], check=False)

    def end(self) -> None:
        """The command's end, and what it said."""
        row = self.row
        for numbers in ((), (signal.SIGINT, signal.SIGTERM), (signal.SIGKILL,)):
            for number in numbers:
                row.interrupted = True
                self.process.send_signal(number)
            if signal.SIGKILL in numbers:
                row.wrong.append("the command hangs, also after SIGINT and SIGTERM")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(ENDS_WITHIN_S / 2)
                break
        self.process.wait(30)
        for file in (self.stdout, self.stderr):
            file.seek(0)
        stdout, stderr = self.stdout.read(), self.stderr.read()
        with contextlib.suppress(ValueError):
            report = json.loads(stdout)
            row.said, row.message = report["outcome"], report["message"]
            if EXIT_STATUS[row.said] != self.process.returncode:
                row.wrong.append(f"exit status {self.process.returncode} of {row.said}")
        if not row.said:
            row.said = "killed" if self.process.returncode < 0 or self.process.returncode >= 128 else "?"
            row.message = stderr.strip().splitlines()[-1] if stderr.strip() else ""
        if row.said == "?":
            row.wrong.append(f"no report, exit status {self.process.returncode}: {row.message}")
        self.src.run(["rm", "-f", f"{DIRECTORY}/fill"])
        self.judge(row.said, "it said", row.message)
        if row.cell.fault in DUMP_FAULTS and row.cell.state in AFTER_GO and row.said != "committed":
            row.wrong.append(f"(criu dump is not needed any more, and it said {row.said}: {row.message})")

    def runs(self, host: Host) -> bool:
        """Whether the task is there and gets on."""
        before, deadline = turns_of(host, self.pid), time.monotonic() + 2
        while state_of(host, self.pid) in "RSD" and time.monotonic() < deadline:
            if turns_of(host, self.pid) > before + 1:
                return True
            time.sleep(0.05)
        return False

    def judge(self, word: str, who: str, message: str = "") -> None:
        """Whether `word` is true now."""
        source, restored = state_of(self.src, self.pid), state_of(self.dst, self.pid)
        wrong = ""
        if word == "committed":
            # It may have been killed by the cell's own fault, after its last page.
            lives = restored != "-" or self.killed & {"restored task", "all at the destination"}
            wrong = "" if source == "-" and lives else f"source {source}, restored {restored}"
        elif word in ("rolled-back", "failed") and "source task" not in self.killed:
            deadline = time.monotonic() + 5
            while not (self.runs(self.src) and not self.runs(self.dst)):
                if time.monotonic() > deadline:
                    wrong = f"source {source}, restored {restored}"
                    break
        elif word in ("rolled-back", "failed") and source == "-" and "runs on" in message:
            wrong = "the source task was killed"
        elif word == "undecided" and source not in "tT" and "source task" not in self.killed:
            wrong = f"source {source}, restored {restored}"
        if wrong:
            self.row.wrong.append(f"{who} {word}, but: {wrong} ({message})")

    # ---- the operator ----

    def decide(self, *options: str) -> tuple[int, str]:
        self.row.did += [" ".join(options)] if options != ("--status",) else []
        began = time.monotonic()
        done = self.src.run(["criu-lazy", "migrate", self.path, *options], check=False, timeout=120)
        if options == ("--status",) and time.monotonic() - began > 20:
            self.row.wrong.append(f"--status took {time.monotonic() - began:.0f} s")
        if "Traceback" in done.stderr:
            self.row.wrong.append(f"{options}: {done.stderr.strip().splitlines()[-1]}")
        return done.returncode, done.stdout + done.stderr

    def settle(self) -> None:
        """Do what --status advises, until it tells an end."""
        row = self.row
        word, text, looks = "", "", 0
        for _ in range(40):
            status, text = self.decide("--status")
            first = text.splitlines()[0] if text else ""
            found = re.search(r": ([a-z-]+)(?: \(pid \d+\))?$", first)
            word = found[1] if found else ""
            cleaned = "is on record here" in text  # migrate has cleaned up after itself, or did not begin
            if cleaned:
                word = row.said if row.said in ENDS else "nothing"
            row.status = row.status or word or text.strip()[:80]
            if cleaned or (status == 0 and word in ENDS):
                break
            looks = self.follow(text, looks)
        row.end = word
        if word not in (*ENDS, "nothing"):
            row.wrong.append(f"no way out: {text.strip()!r}")
        else:
            self.judge("rolled-back" if word == "nothing" else word, "--status said", text)

    def follow(self, text: str, looks: int) -> int:
        """One step of what an operator does after reading that. `looks`: how often in a row nothing was done."""
        row = self.row
        comes = "pages are on their way" in text and state_of(self.dst, self.pid) != "-" and "PAUSED" not in text
        commits = ("--commit ends it", "--commit finishes it", "every page had arrived", "page server: drained")
        if any(words in text for words in commits):
            self.decide("--commit")
        elif "--abort closes" in text or ("not resumed" in text and "--abort" in text):
            self.decide("--abort")
        elif (comes or "does not answer" in text or "To go on:" in text or "still dumping" in text) and looks < 12:
            time.sleep(1)
            return looks + 1
        elif "does not answer" in text:
            server = re.search(r"kill -KILL (\d+)", text)
            if server:
                row.did.append("kill page server")
                self.src.run(["kill", "-KILL", server[1]], check=False)
        elif "To go on:" in text:
            row.did.append("resume")
            command = text.rpartition("To go on: ")[2].strip().splitlines()[0]
            self.src.popen(["sh", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(2)
        elif "to stay" in text and state_of(self.dst, self.pid) != "-":
            self.decide("--commit", *(["--force"] if "--force" in text else []))
        elif state_of(self.src, self.pid) == "-":
            self.decide("--commit", "--force")
        else:
            row.did.append("kill the restored task")
            self.dst.run(["kill", "-9", str(self.pid)], check=False)
            self.decide("--abort", "--force")
        return 0

    # ---- the end ----

    def look(self) -> None:
        """Where the task is at last, and its memory."""
        row = self.row
        at = [name for name, host in (("source", self.src), ("destination", self.dst)) if self.runs(host)]
        row.where = " and ".join(at) or "nowhere"
        if len(at) == 1:
            host = self.src if at == ["source"] else self.dst
            row.memory = self.ask(host)
            if row.memory != "right":
                row.wrong.append(f"memory at the {at[0]}: {row.memory}")
        elif len(at) == 2:
            row.wrong.append("TWO run at the end")
        elif not self.excused():
            row.wrong.append(f"LOST: source {state_of(self.src, self.pid)}, restored {state_of(self.dst, self.pid)}")
        assert self.watch is not None
        self.watch.over.set()
        self.watch.join()
        if self.watch.two:
            row.wrong.append("TWO ran")
        with contextlib.suppress(AssertionError):
            eventually(lambda: not ours(self.src) and not ours(self.dst), "nothing is left", 5)
        row.left = [p.command[:60] for host in (self.src, self.dst) for p in ours(host)]

    def excused(self) -> bool:
        """Whether the fault itself was the end of the only copy, and that was said."""
        if "source task" in self.killed:
            return self.row.end in ("failed", "nothing", "rolled-back", "committed")
        return bool(self.killed & {"restored task", "all at the destination"}) and self.row.end == "committed"

    def ask(self, host: Host) -> str:
        inside = host.root / self.directory[1:]
        (inside / "answer").unlink(missing_ok=True)
        (inside / "ask").touch()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                return (inside / "answer").read_text().strip()
            time.sleep(0.02)
        return "no answer"

    def keep_logs(self) -> None:
        patterns = {self.src: ("*/*.log", "*/journal.json"), self.dst: ("*/work/*.log", "*.failed/*.log")}
        for host, pattern in ((host, pattern) for host, wanted in patterns.items() for pattern in wanted):
            for path in (host.root / DIRECTORY[1:]).glob(pattern):
                with contextlib.suppress(OSError):
                    self.row.logs[f"{host.name} {path.name}"] = path.read_text(errors="replace")[-3000:]

    def clean(self) -> None:
        self.stdout.close()
        self.stderr.close()
        if self.row.wrong:
            self.keep_logs()
        if self.watch is not None:
            self.watch.over.set()
        if self.process is not None and self.process.poll() is None:
            self.process.kill_session()
        with contextlib.suppress(Exception):
            self.testbed.link.mend()
        for host in (self.src, self.dst):
            for _ in range(3):
                kill_ours(host)
            host.run(["sh", "-c", "pkill -9 -x patterned_task; pkill -9 -x patterned_task; true"])
            host.run(["sh", "-c", f"rm -rf {DIRECTORY}/* /srv/c[0-9]* /run/worker.pid /root/c[0-9]*.yaml"])


# ---- many cells ----


@contextlib.contextmanager
def ready(name: str) -> Iterator[Testbed]:
    """A testbed with all that cells need."""
    with Testbed.start(name=name) as testbed:
        prepare(testbed)
        yield testbed


def prepare(testbed: Testbed) -> None:
    for host in (testbed.src, testbed.dst):
        host.write("/tmp/patterned_task.c", TASK_C.read_text())
        host.run(["cc", "-O1", "-o", "/usr/local/bin/patterned_task", "/tmp/patterned_task.c"])
    testbed.src.run(["mkdir", "-p", DIRECTORY])
    testbed.src.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", DIRECTORY])
    testbed.src.write("/root/pausing_migrate.py", PAUSING.read_text())
    testbed.link.set(rate_mbit=RATE_MBIT, rtt_ms=0.2)


def run_all(
    cells: Iterable[Cell], testbeds: int, until: float = float("inf"), at_least: int = 0, enough: int | None = None
) -> list[Row]:
    """Run the cells side by side. No more are begun with `enough` faults done, or after `until` (time.monotonic()) once
    `at_least` have ended.
    """
    todo, lock = iter(cells), threading.Lock()
    rows: list[Row] = []
    running: list[Testbed] = []
    interrupted = threading.Event()

    def more() -> Cell | None:
        with lock:
            done = enough is not None and sum(row.present for row in rows) >= enough
            late = time.monotonic() > until and len(rows) >= at_least
            return None if done or late or interrupted.is_set() else next(todo, None)

    def work(number: int) -> None:
        with ready(f"matrix{number}-{os.getpid()}") as testbed:
            running.append(testbed)
            while cell := more():
                rows.append(Run(testbed, cell).run())
                print(f"{len(rows)} {one_line(rows[-1])}", flush=True)

    workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(testbeds)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except BaseException:
        interrupted.set()
        for testbed in running:
            testbed.stop()  # a cell that has no hosts any more ends at once
        for worker in workers:
            worker.join(ENDS_WITHOUT_HOSTS_WITHIN_S)
        raise
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soak", type=int, default=0, metavar="N", help="so many migrations, each with a random fault")
    parser.add_argument("--share", type=float, default=1.0, help="a random part of the matrix")
    parser.add_argument("--seed", default=os.environ.get("CRIU_LAZY_SEED") or os.urandom(4).hex())
    parser.add_argument("--testbeds", type=int, default=2)
    parser.add_argument("--only", default="", help="cells with this text")
    parser.add_argument("--into", type=Path, help="write the table there")
    parser.add_argument("--json", type=Path, help="write every row there")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    cells = [cell for cell in all_cells() if options.only in str(cell)]
    print(f"seed {options.seed}", flush=True)
    if options.soak:
        endless = (chance.choice(cells) for _ in itertools.count())
        rows = run_all(endless, options.testbeds, enough=options.soak)
        rows = [row for row in rows if row.present or row.wrong]
    else:
        rows = run_all(chance.sample(cells, round(len(cells) * options.share)), options.testbeds)
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    if options.into:
        write_into(options.into, "soak" if options.soak else "matrix", options.seed, rows)
    print(json.dumps(summary(rows)))
    return 1 if any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
