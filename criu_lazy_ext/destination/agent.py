"""The agent: the destination's half of a migration, with an operation for each request of the source.

It speaks channel.py's messages on its standard input and output: requests {"id", "op", ...}, each answered by
{"id", "ok": true, ...} or {"id", "ok": false, "error": one line}; and events {"event": ...} at any time.

It keeps one promise: until the restored task has been resumed (the source said "go"), the end of its input, or any
failure, leaves nothing behind: daemon, restore and half-restored tasks are killed, files removed. After that it stays,
connected or not, until the daemon has every page; it then leaves nothing but, if that failed, its files with the
outcome in outcome.json.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import stat
import sys
import time
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

from criu_lazy_ext import __version__
from criu_lazy_ext.checks import catalogue
from criu_lazy_ext.checks.check import run_all
from criu_lazy_ext.checks.destination import is_in_memory
from criu_lazy_ext.checks.needs import Arrival
from criu_lazy_ext.criu import program as criu
from criu_lazy_ext.criu.contrary import said_in_files
from criu_lazy_ext.criu.explain import cause_in_log
from criu_lazy_ext.destination.daemon import Daemon
from criu_lazy_ext.destination.page_store_process import PageStoreProcess
from criu_lazy_ext.destination.restored import RestoredTasks
from criu_lazy_ext.destination.undo import AgentError, Made, say
from criu_lazy_ext.destination.workplace import Workplace
from criu_lazy_ext.engines.engine import RUNTIME_PID, Command, container_as_message, container_of_message, engine_of
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.profile import Container
from criu_lazy_ext.remote.channel import HELLO_WITHIN_S, PROTOCOL, Channel, ChannelError, Message
from criu_lazy_ext.system import kept_packets, loopback, network_lock
from criu_lazy_ext.system.awaited import await_end, pipe_reader
from criu_lazy_ext.system.conntrack import Translated
from criu_lazy_ext.system.events import Events
from criu_lazy_ext.system.hooks import run_hook
from criu_lazy_ext.system.kept_packets import KeptPackets, Let
from criu_lazy_ext.system.live_state import LiveState
from criu_lazy_ext.system.migration_id import VARIABLE, current_id, is_id
from criu_lazy_ext.system.processes import describe_status, start_time, thread_states
from criu_lazy_ext.system.service_network import ServiceNetwork

REACH_WITHIN_S = 5.0
OPENS_WITHIN_S = 2.0
ANNOUNCED_AGAIN_S = (0.1, 1.0)  # an announcement may be lost
RUNTIME_POLL_S = 0.02
RESUMES_LOOK_S = 0.002
MOST_PACKETS_BYTES = 1 << 20
DELIVER_S, DELIVERED_AT_ONCE = 0.025, 50  # so long they may add to the downtime; the rest is taken while the task runs

GATE_SCRIPT = """#!/bin/sh
# criu restore runs this when everything is restored and nothing runs yet; its failure kills what was restored. Later,
# when nothing can fail any more but nothing runs yet, the service addresses are opened: with no agent, from here.
cd "${{0%/*}}" || exit
case "$CRTOOLS_SCRIPT_ACTION" in
post-restore)
	ask='echo ask > gate.ask &&'
	while answer=$(timeout {timeout} sh -c "$ask read answer < gate.answer && echo \\$answer"); [ "$answer" = wait ]; do
		ask=
	done
	[ "$answer" = go ] ;;
pre-resume) {open} ;;
esac
"""
OPEN = """timeout {seconds:g} sh -c 'echo open > gate.ask && read answer < gate.answer' || nft '{remove}'"""
TELL = """timeout {seconds:g} sh -c 'echo open > gate.ask'"""  # what an engine does after it is no downtime


class Agent:
    """One migration's destination. `run` serves requests until the end; `keeper` is a pipe to the keeper,
    whose pid is `keeper_pid`."""

    def __init__(self, channel: Channel, keeper: int, keeper_pid: int) -> None:
        self.place = Workplace(channel, keeper)
        self.keeper_pid = keeper_pid
        self.silence_s = HELLO_WITHIN_S  # for so long the source may say nothing
        self.tasks = RestoredTasks(self.place)
        self.daemon = Daemon(self.place, self.tasks)
        self.page_store = PageStoreProcess(self.place)
        self.restore: Process | None = None
        self.gate: asyncio.Future[bool] | None = None
        self.container: Container | None = None  # what is restored by its engine
        self.with_others = False  # of its pod, to which "go" is said at the same time
        self.opened = False  # the service addresses are
        self.translated: list[Translated] = []  # connections that lead behind them
        self.packets: list[bytes] = []  # for them, which came to the source: see kept_packets.py
        self.kept: KeptPackets | None = None  # what comes here before they are open
        self.let: asyncio.Future[Let] | None = None  # which of them may be delivered
        self.runtime_ended: asyncio.Task[None] | None = None  # see await_runtime

    # ---- requests ----

    async def hello(self, request: Message) -> Message:
        """Who is here: {"silence_s": the source pings more often than that, "protocol": which it speaks, "migration":
        its id}."""
        migration = str(request.get("migration", ""))
        if migration and is_id(migration):
            os.environ[VARIABLE] = migration  # of all that is started here
            self.place.events = Events(migration, CRIU_LAZY_ROLE="destination")
        self.silence_s = self.place.channel.silence_s = float(request["silence_s"])
        version = await asyncio.to_thread(criu.version)
        self.place.spawn(asyncio.to_thread(criu.import_pycriu))  # while the source looks at its task
        kernel = os.uname()
        versions = {"version": __version__, "protocol": PROTOCOL, "criu": list(version)}
        return {**versions, "hostname": kernel.nodename, "machine": kernel.machine, "peer": peer()}

    async def ping(self, request: Message) -> Message:
        """The source is there. What time it is here: {"time"}, in seconds since 1970."""
        return {"time": time.time()}

    async def check(self, request: Message) -> Message:
        """Run the destination's checks: {"arrival"}, as the source packed it. Their findings."""
        arrival = Arrival.unpack(request["arrival"])
        checks = catalogue.CONTAINER_DESTINATION if arrival.container else catalogue.DESTINATION
        findings = await asyncio.to_thread(run_all, checks, arrival, "")
        return {"findings": [finding.as_json() for finding in findings]}

    async def prepare(self, request: Message) -> Message:
        """Make the migration's directory, and have a daemon load what it needs: {"directory", "logs", "ids", "keep",
        "undo_hooks", "store", "daemon": "criu-lazy"|"stock"}. In the answer, "pod": the ID of what was made, or "".

        `logs`: the directory for the logs of a failure; an earlier migration's are removed. `ids`: packed pids and tids
        of the task; `store`: the directory for the pages that come before the dump, or "".
        """
        self.container = container_of_message(request["container"]["profile"]) if request.get("container") else None
        directory, logs, pod = Path(request["directory"]), str(request["logs"]), ""
        store = str(request.get("store", ""))
        problems = [f"{path} exists already" for path in (directory, store) if path and Path(path).exists()]
        if problems:
            raise AgentError("; ".join(problems))
        made = Made(str(directory), self.keeper_pid, str(request["ids"]), store, keep_files=bool(request["keep"]))
        also = {"logs": logs, "undo_hooks": request["undo_hooks"], "migration": current_id()}
        self.place.made = dataclasses.replace(made, **also)
        if self.container is not None:
            known = request["container"]
            self.place.made.room = known["profile"] if known["expected"].get("pod") else None
        self.place.tell_keeper()
        if self.container is not None:
            try:
                pod = await asyncio.to_thread(engine_of(self.container).make_room, request["container"]["expected"])
            except CriuLazyError:
                self.place.made.room = None  # of that name there may be another's
                raise
            if pod:
                self.place.made.room = request["container"]["profile"] | {"pod": pod}
                self.place.tell_keeper()
        shutil.rmtree(logs, ignore_errors=True)
        try:
            (directory / "images").mkdir(parents=True, mode=0o700)
            (directory / "work").mkdir(mode=0o700)
            if store:
                Path(store).mkdir(parents=True, mode=0o700)
        except OSError as error:
            what = f"{error.filename}: {error.strerror}"
            raise AgentError(f"{what}: let directories.destination, or precopy.directory, be elsewhere") from error
        self.place.live = LiveState(directory)
        ours = [(pid, start_time(pid)) for pid in (os.getpid(), self.keeper_pid)]
        self.place.events.keep_in(directory / "work/agent.log")
        self.place.events.tell(f"prepared {directory} for {peer() or 'a source that is not known'}")
        self.place.live.note(peer=peer() or "unknown", processes=ours, state="prepared", migration=current_id())
        if request["daemon"] == "criu-lazy":
            await self.daemon.stand_by()
        where = Path(store or directory)
        return {"free_bytes": shutil.disk_usage(where).free, "in_memory": is_in_memory(where), "pod": pod}

    async def reach(self, request: Message) -> Message:
        """Whether this host can connect to the source, and gets what it sends, in how many seconds: {"address", "port",
        "bytes"}."""
        address, port, wanted = str(request["address"]), int(request["port"]), int(request.get("bytes", 0))
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), REACH_WITHIN_S)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or f"no answer in {REACH_WITHIN_S:g} s"
            raise AgentError(
                f"can't connect to the source at {address} port {port}: {reason}; see source.address"
            ) from error
        received, began = 0, time.monotonic()
        try:
            while received < wanted:
                piece = await asyncio.wait_for(reader.read(1 << 16), REACH_WITHIN_S)
                if not piece:
                    raise AgentError(f"the source at {address} port {port} hung up after {received} of {wanted} bytes")
                received += len(piece)
        except TimeoutError:
            raise AgentError(
                f"the path from the source's {address} passes small packets, but not bulk data: {received} of {wanted} "
                "bytes came (an MTU that is too large for it? a firewall that drops by length?)"
            ) from None
        finally:
            writer.close()
        return {"seconds": time.monotonic() - began}

    async def write(self, request: Message, payload: bytes) -> Message:
        """Append the payload's parts to image files: {"parts": [[name, bytes, whether they are its first], ...]}."""
        self.place.touch()
        at = 0
        for name, size, first in request["parts"]:
            if "/" in name or name in ("", ".", ".."):
                raise AgentError(f"not the name of an image: {name!r}")
            path = self.place.images() / name
            try:
                with path.open("wb" if first else "ab") as file:
                    file.write(payload[at : at + size])
            except OSError as error:
                raise AgentError(f"{path}: {error.strerror}") from error
            at += size
        return {}

    async def hook(self, request: Message) -> Message:
        """Run a command: {"run", "env", "timeout"}."""
        self.place.touch()
        await run_hook(request["run"], request["env"], float(request["timeout"]))
        return {}

    async def start_restore(self, request: Message) -> Message:
        """Restore: {"options", "timeout", "translated": connections, as Translated.of_message takes them, "pod": the ID
        of the one here that the container goes into, or "", "others": whether others go into it}; sends the event "ask"
        when the task may run, waits for op "go"."""
        if self.container is not None and request.get("pod"):
            self.container = dataclasses.replace(self.container, pod=str(request["pod"]))
        self.with_others = bool(request.get("others"))
        self.translated = [Translated.of_message(each) for each in request["translated"]]
        work = self.place.work()
        self.place.note_state("restoring")
        network = ServiceNetwork.of_facts(self.place.made.network)
        script = self.write_gate(work, int(float(request["timeout"])) + 1, network)
        # Both ends are held here, so that neither the script nor this process ever blocks in open().
        ask = os.open(work / "gate.ask", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        answer = os.open(work / "gate.answer", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hear() -> None:
            if b"open" in os.read(ask, 64):
                self.open_network(answer)
            asked.set()

        loop.add_reader(ask, hear)
        self.gate = loop.create_future()
        if network is not None:
            self.receive(network)
            self.let = asyncio.ensure_future(asyncio.to_thread(self.look_at_connections))
        self.place.made.restore_began = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
        command = self.restore_command(request["options"], script)
        if self.container is not None:
            self.place.made.container = container_as_message(self.container)
        try:
            self.restore = await self.start_command(command)
            self.place.made.restore = self.restore.pid
            self.place.tell_keeper()
            ended = asyncio.ensure_future(self.restore.wait())
            waiting = asyncio.ensure_future(asked.wait())
            self.runtime_ended = asyncio.ensure_future(self.await_runtime(work))
            either: set[asyncio.Future[Any]] = {ended, waiting, self.runtime_ended, self.daemon.starving}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED, timeout=request["timeout"])
            waiting.cancel()
            if not asked.is_set():
                raise await self.restore_failed(work)
            await self.pass_gate(answer, ended, work, float(request["timeout"]))
        finally:
            if self.runtime_ended is not None:
                self.runtime_ended.cancel()
            loop.remove_reader(ask)
            os.close(ask)
            os.close(answer)
        return {}

    def write_gate(self, work: Path, timeout: int, network: ServiceNetwork | None) -> Path:
        """The script that criu runs when all is restored, which waits so many seconds for an answer, or for being told
        to wait on; and its pipes."""
        for name in ("gate.ask", "gate.answer"):
            os.mkfifo(work / name, 0o600)
        script = work / "gate.sh"
        tells = TELL.format(seconds=OPENS_WITHIN_S) if self.container is not None else ""
        opens = OPEN.format(seconds=OPENS_WITHIN_S, remove=network.removal()) if network else tells
        script.write_text(GATE_SCRIPT.format(timeout=timeout, open=opens))
        script.chmod(stat.S_IRWXU)
        return script

    async def start_command(self, command: Command) -> Process:
        """A container may keep what is its engine's output: that is no way to the source."""
        with contextlib.ExitStack() as stack:
            output: int | Any = 2 if self.container is None else asyncio.subprocess.DEVNULL
            if command.output is not None:
                output = stack.enter_context(command.output.open("wb"))
            return await asyncio.create_subprocess_exec(
                *command.argv, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, **command.environment},
            )  # fmt: skip

    async def await_runtime(self, work: Path) -> None:
        """The end of the runtime that an engine runs for the restore, which leaves its pid there. (What is no engine's,
        or is its only process, is known by `restore`.)"""
        path = work / RUNTIME_PID
        while not path.exists():
            await asyncio.sleep(RUNTIME_POLL_S)
        pid = int(path.read_text().split()[0])
        if (began := start_time(pid)) is not None:
            await await_end(pid, began)

    def restore_command(self, options: list[str], gate: Path) -> Command:
        """What restores, with criu's options; `gate` is its action script."""
        work = self.place.work()
        if self.container is not None:
            return engine_of(self.container).restore(work.parent, options, gate)
        argv = ["criu", "restore", "-d", "--lazy-pages", "-D", str(self.place.images()), "-W", str(work)]
        argv += ["-o", "restore.log", "-v2", "--pidfile", "restored.pid", "--action-script", str(gate), *options]
        return Command(argv, {})

    async def mute(self, request: Message) -> Message:
        """Service addresses will come with the task, and nobody is to answer for them before it does: {"network"}, by
        ServiceNetwork.facts()."""
        network = ServiceNetwork.of_facts(request["network"])
        assert network is not None
        self.place.made.network = network.facts()
        self.place.tell_keeper()
        network.mute()
        return {}

    async def deliver(self, request: Message, payload: bytes) -> Message:
        """Packets for the service addresses that came to the source, as kept_packets.py packs them."""
        if sum(map(len, self.packets)) < MOST_PACKETS_BYTES:
            self.packets += kept_packets.unpack(payload)
        if self.opened:
            await self.deliver_all()
        return {}

    def look_at_connections(self) -> Let:
        """Those that are restored; what goes wrong with it has clients send again, no more."""
        with contextlib.suppress(Exception):
            translated = {each.ends for each in self.translated}
            return Let(network_lock.connections(self.place.images()) | translated)
        return Let()

    async def deliver_all(self) -> None:
        """Others have their turns meanwhile."""
        if self.let is not None:
            await self.let
        while self.packets:
            self.deliver_packets()
            await asyncio.sleep(0)

    def deliver_packets(self) -> None:
        """The first of them, as many as there is time for. The addresses are open."""
        network = ServiceNetwork.of_facts(self.place.made.network)
        if self.let is None or network is None:
            self.packets = []
            return
        deadline, problems = time.monotonic() + DELIVER_S, []
        while self.let.done() and self.packets and time.monotonic() < deadline:
            some, self.packets = self.packets[:DELIVERED_AT_ONCE], self.packets[DELIVERED_AT_ONCE:]
            problems += network.deliver(some, self.let.result())
        say(list(dict.fromkeys(problems)))

    def receive(self, network: ServiceNetwork) -> None:
        """The addresses come here. Raises AgentError, and what ServiceNetwork.arrive does.

        Before they are open, what the restore sends may ask for a neighbour's address, and tell that neighbour so
        where they are."""
        if taken := network.here():
            raise AgentError(f"{taken[0]} is here already")
        self.place.made.arrived = True
        self.place.tell_keeper()
        with contextlib.suppress(OSError):  # then some clients send again
            self.kept = network.keep_packets()
        network.arrive()

    def translate(self) -> None:
        """Connections lead behind the service addresses here as they did at the source."""
        if self.translated and (network := ServiceNetwork.of_facts(self.place.made.network)) is not None:
            say(network.translate(self.translated))

    def open_network(self, answer: int) -> None:
        """The restored task is about to run."""
        self.translate()
        self.place.made.open_network()
        self.opened = True
        # Before the restored task says anything: else who is answered sends what it says next to the source, and again
        # only when TCP's time is up (200 ms and more).
        announced = self.place.made.begin_to_announce()
        if self.kept is not None:
            self.packets += self.kept.take()
            announced.callback(self.kept.close)
            self.kept = None
        self.deliver_packets()
        os.write(answer, b"opened\n")
        if self.packets:
            self.place.spawn(self.deliver_all())
        self.place.spawn(self.tell_resumes())
        if self.place.made.network is not None:
            self.place.spawn(self.settle_network(announced))

    async def tell_resumes(self) -> None:
        """The source counts the downtime: until criu, which holds the restored processes, has let them go."""
        deadline = time.monotonic() + OPENS_WITHIN_S
        held = [process.pid for process in self.tasks.waiting]
        with contextlib.suppress(OSError):  # it runs, and has ended
            while any("t" in thread_states(pid) for pid in held) and time.monotonic() < deadline:
                await asyncio.sleep(RESUMES_LOOK_S)
        with contextlib.suppress(ChannelError):
            await self.place.channel.send({"event": "resumes"})

    async def settle_network(self, announced: contextlib.ExitStack) -> None:
        """What was kept back by the filter is asked for, and the neighbours are told once more."""
        await asyncio.to_thread(announced.close)
        pids = [process.pid for process in self.tasks.waiting]
        for problem in await asyncio.to_thread(network_lock.probe, pids, self.place.images()):
            print(f"criu-lazy agent: warning: {problem}", file=sys.stderr, flush=True)
        for seconds in ANNOUNCED_AGAIN_S:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.place.made.announce_network)

    async def pass_gate(self, answer: int, ended: asyncio.Future[int], work: Path, timeout: float) -> None:
        """Everything is restored, nothing runs: ask, wait for "go", pass it on, and wait for the end of the restore.

        Others of its pod may take long. For as long as the source pings (else all is undone), the gate is told to wait.
        """
        assert self.restore is not None and self.gate is not None
        if self.container is not None:
            self.tasks.look_in_namespaces()  # an engine may have let go of them
        else:
            self.tasks.look(self.restore.pid)
        await self.place.channel.send({"event": "ask"})
        assert self.runtime_ended is not None
        either: set[asyncio.Future[Any]] = {ended, self.gate, self.runtime_ended}
        while not (await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED, timeout=timeout / 2))[0]:
            os.write(answer, b"wait\n")
        if not self.gate.done():
            raise await self.restore_failed(work)
        self.place.made.running = True
        self.place.tell_keeper()
        os.write(answer, b"go\n")
        self.place.note_state("running")
        self.daemon.protect()
        status = await ended
        if status < 0:
            # The restored tasks are its ptracees by now: its death lets them go.
            raise AgentError(f"criu restore {describe_status(status)} while it resumed the restored task")
        if status > 0 and self.container is not None and not self.tasks.missing():
            failure = engine_of(self.container).failure(work)
            raise AgentError(f"the engine's restore {describe_status(status)} as it resumed the container: {failure}")
        if status > 0:
            raise await self.restore_failed(work)
        if not self.opened:
            self.place.made.open_network()
            self.opened = True
            self.place.made.announce_network()
            if self.kept is not None:  # else what comes from now on would be delivered once more
                self.packets += self.kept.take()
                self.kept.close()
                self.kept = None
            await self.deliver_all()

    async def restore_failed(self, work: Path) -> AgentError:
        """Nothing of it is left when the source hears of it: the source task may run on."""
        status = self.restore.returncode if self.restore else None
        daemon = self.daemon.why_failed(work)  # later it fails as the restore has
        await asyncio.to_thread(self.place.made.kill_restored)
        self.place.made.running = False
        self.place.tell_keeper()
        if status is None and self.daemon.starving.done():
            return AgentError(str(self.daemon.starving.result()))
        how = "did not get ready in time" if status is None else describe_status(status)
        if status is None and self.runtime_ended is not None and self.runtime_ended.done():
            how = "lost its runtime"
        log = work / "restore.log"
        reason = cause_in_log(log)
        if self.container is not None and not log.exists():
            reason = engine_of(self.container).failure(work)
        what = "criu restore" if self.container is None else "the engine's restore"
        return AgentError(f"{what} {how}: {reason}{daemon}{said_in_files()}")

    def check_ready(self) -> None:
        """Raises AgentError if the restored task could not run, were "go" said now."""
        if self.gate is None or self.gate.done():
            raise AgentError("no restore waits for a go")
        if not self.daemon.lives:
            raise AgentError("lazy-pages has ended; no task was resumed")
        if self.runtime_ended is not None and self.runtime_ended.done():
            raise AgentError("the engine's runtime has ended; nothing was resumed")
        if missing := self.tasks.missing():
            raise AgentError(f"the waiting process {missing} has ended; no task was resumed")

    async def ready(self, request: Message) -> Message:
        """All of its pod is restored, and may send within it again: whether "go" could be said."""
        self.check_ready()
        if self.place.made.room:
            await asyncio.to_thread(loopback.let_go, self.tasks.waiting[0].pid)
        return {}

    async def go(self, request: Message) -> Message:
        """The restored task may run."""
        self.place.made.with_others = self.with_others  # even if it can't
        self.place.tell_keeper()
        self.check_ready()
        assert self.gate is not None
        self.gate.set_result(True)
        return {}

    async def withdraw(self, request: Message) -> Message:
        """"go" was said, and yet nothing of its pod is left here: its service addresses go."""
        self.place.made.with_others = False
        await asyncio.to_thread(self.place.made.kill_restored)
        self.place.tell_keeper()
        return {}

    async def finish(self, request: Message) -> Message:
        """The migration is over: remove its files, unless they are to be kept."""
        self.place.made.remove_files()
        return {}

    async def answer(self, request: Message, payload: bytes) -> None:
        operations = {
            "hello": self.hello, "ping": self.ping, "reach": self.reach, "check": self.check,
            "prepare": self.prepare, "mute": self.mute, "hook": self.hook,
            "page-store": self.page_store.start, "page-stored": self.page_store.stored,
            "drop-page-store": self.page_store.drop, "daemon": self.daemon.start, "restore": self.start_restore,
            "ready": self.ready, "go": self.go, "withdraw": self.withdraw, "finish": self.finish,
        }  # fmt: skip
        with_payload = {"write": self.write, "deliver": self.deliver}
        reply: Message = {"id": request.get("id"), "ok": True}
        try:
            operation = request.get("op")
            if operation in with_payload:
                reply |= await with_payload[operation](request, payload)
            elif operation in operations:
                reply |= await operations[operation](request)
            else:
                raise AgentError(f"unknown operation {operation!r}: are both hosts' criu-lazy of the same version?")
        except (Exception, SystemExit) as error:  # whatever it is, the source must not wait for an answer
            may_run = request.get("op") in ("restore", "go") and self.place.made.running
            reply = {"id": request.get("id"), "ok": False, "error": describe_error(error), "may_run": may_run}
            self.place.events.tell(f"{request.get('op')}: {reply['error']}", "error")
        with contextlib.suppress(ChannelError):
            await self.place.channel.send(reply)

    async def run(self) -> int:
        """Serve until the source closes the channel or falls silent; then undo, or see the transfer through."""
        with contextlib.suppress(ChannelError, TimeoutError):
            while True:
                request, payload = await self.place.channel.receive(self.silence_s)
                if request.get("op") in ("write", "deliver"):
                    await self.answer(request, payload)  # in order
                else:
                    self.place.spawn(self.answer(request, payload))
        self.place.connected = False
        self.place.channel.abort()
        if self.place.made.running:
            await asyncio.gather(*self.place.background, return_exceptions=True)
        if self.place.made.running:
            if self.daemon.process is not None and self.daemon.process.returncode == 0:
                self.place.made.remove_files()
            return 0
        for task in self.place.background:
            task.cancel()
        await asyncio.gather(*self.place.background, return_exceptions=True)
        self.place.events.tell("undoing all of it: the restored task was not resumed", "warning")
        if self.place.made.with_others:
            self.translate()
        await asyncio.to_thread(self.place.made.undo)
        self.place.made = Made()
        self.place.tell_keeper()
        return 1


def peer() -> str:
    """The source's address, as this host knows it; "" if it does not (sudo drops it)."""
    return os.environ.get("SSH_CONNECTION", "").partition(" ")[0]


def describe_error(error: BaseException) -> str:
    """One line for the other side."""
    text = str(error) if isinstance(error, CriuLazyError | OSError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


async def serve(keeper: int, keeper_pid: int, reports: int) -> int:
    loop = asyncio.get_running_loop()
    reader = await pipe_reader(os.dup(0))
    # Whatever else prints must not come between messages.
    out = os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, out)
    channel = Channel(reader, asyncio.StreamWriter(transport, protocol, None, loop))
    agent = Agent(channel, keeper, keeper_pid)
    hearing = asyncio.ensure_future(agent.tasks.hear_keeper(reports))
    try:
        return await agent.run()
    finally:
        hearing.cancel()
