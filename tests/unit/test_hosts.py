"""Requests to an agent that hangs, or says what makes no sense: they end, with a reason."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from lazy_source import eventually

from criu_lazy_ext.checks.needs import pack_ids
from criu_lazy_ext.destination.succession import Succession
from criu_lazy_ext.destination.undo import Made
from criu_lazy_ext.profile import Destination
from criu_lazy_ext.remote.channel import MAX_JSON_BYTES, MAX_PAYLOAD_BYTES
from criu_lazy_ext.remote.hosts import HostError, HostInDoubt, HostLost, RemoteHost, pack_files
from criu_lazy_ext.system.processes import is_alive

# Programs in the agent's place.
HANGS = "import time; time.sleep(1000)"
SAYS = """
import sys
text = sys.argv[1].encode()
sys.stdout.buffer.write(len(text).to_bytes(4, 'big') + text)
sys.stdout.flush()
sys.stdin.read()
"""
DEADLINE_S = 20.0  # far beyond any limit in these tests


def with_agent(program: str, *arguments: str, use: Callable[[RemoteHost], Coroutine[Any, Any, None]]) -> None:
    """Run `use` with a host whose agent is `program`, a Python script."""

    async def run() -> None:
        prefix = [sys.executable, "-c", program, *arguments]
        destination = Destination(local=True, prefix=prefix, criu_lazy="x")
        host = await RemoteHost.connect(destination, 1, lambda message: message["x"])
        try:
            async with asyncio.timeout(DEADLINE_S):
                await use(host)
        finally:
            await host.close(0.1)

    asyncio.run(run())


def test_what_ssh_says_is_an_event_and_a_part_of_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written to the terminal it would stand in the panel."""
    (tmp_path / "ssh").write_text("#!/bin/sh\nprintf 'a banner\\r\\nno such host\\n' >&2; exit 255\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said: list[str] = []

    async def run() -> None:
        host = await RemoteHost.connect(Destination(ssh="b"), 1, lambda message: said.append(message["line"]))
        with pytest.raises(HostLost, match=r"b: ssh to it failed: .* \(no such host\)"):
            await host.hello(1)
        await host.close(0.1)

    asyncio.run(run())
    assert said == ["a banner", "no such host"]


def test_a_limit_covers_the_sending_too() -> None:
    async def use(host: RemoteHost) -> None:
        for _ in range(4):
            with pytest.raises(HostInDoubt, match="no answer within"):
                await host.request("write", payload=bytes(MAX_PAYLOAD_BYTES), within=0.2)

    with_agent(HANGS, use=use)


def test_what_is_sent_has_an_end_when_the_other_side_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "big.img").write_bytes(bytes(4 << 20))

    async def use(host: RemoteHost) -> None:
        host._channel.silence_s = 0.5
        with pytest.raises(HostLost, match="took nothing for"):
            await host.send_files(tmp_path)

    with_agent(HANGS, use=use)


def test_files_go_together_in_order_and_whole(tmp_path: Path) -> None:
    sizes = [0, 1, 5000, MAX_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES - 5001, 3 * MAX_PAYLOAD_BYTES + 7, 0, *[3] * 700]
    files = {f"{number:03}.img": os.urandom(size) for number, size in enumerate(sizes)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "dump.log").write_text("not an image")
    came: dict[str, bytes] = {}
    messages = list(pack_files(tmp_path))
    for parts, payload in messages:
        assert len(payload) == sum(size for _, size, _ in parts) <= MAX_PAYLOAD_BYTES
        for name, size, first in parts:
            assert first == (name not in came)
            came[name] = came.get(name, b"") + payload[:size]
            payload = payload[size:]
    assert came == files and list(came) == sorted(files)
    assert len(messages) < 10


@pytest.mark.parametrize(
    "message", [{"id": []}, {"event": "none that this version knows"}, [1], {"id": 1, "payload": -1}]
)
def test_a_message_that_makes_no_sense_loses_the_host_with_a_reason(message: object) -> None:
    async def use(host: RemoteHost) -> None:
        assert "can't be used" in (reason := await host.lost) or "malformed" in reason
        with pytest.raises(HostLost, match=r"malformed|can't be used"):
            await host.request("ping")

    with_agent(SAYS, json.dumps(message), use=use)


def test_a_message_that_is_too_long_is_refused_before_it_is_sent() -> None:
    async def use(host: RemoteHost) -> None:
        with pytest.raises(HostError, match="is too long") as raised:
            await host.request("prepare", pids="1" * MAX_JSON_BYTES)
        assert not isinstance(raised.value, HostInDoubt)

    with_agent(HANGS, use=use)


# --- undoing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reaper", [os.getpid(), 1], ids=["keeper", "no keeper any more"])
def test_whoever_has_a_pid_of_the_restored_tasks_but_is_not_ours_is_left_alone(tmp_path: Path, reaper: int) -> None:
    """It began after the restore, with a pid that the source named: another's all the same, as it isn't below us."""
    (tmp_path / "images").mkdir()
    script = "sleep 1000 >/dev/null & echo $!"
    stranger = int(subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, check=True, timeout=5).stdout)
    ours = subprocess.Popen(["sleep", "1000"])
    (tmp_path / "images" / f"core-{ours.pid}.img").touch()
    try:
        made = Made(str(tmp_path), reaper, pack_ids([stranger]), restore=2**22, restore_began=1)
        made.kill_restored()
        assert ours.wait(5) == -signal.SIGKILL
        assert is_alive(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)
        ours.kill()


def test_what_the_restore_left_behind_is_killed(tmp_path: Path) -> None:
    """Of any pid: as long as the restore is there, what it restored is below it."""
    began = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    command = ["sh", "-c", "sleep 1000 & echo $!; wait"]
    restore = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert restore.stdout is not None
    child = int(restore.stdout.readline())
    Made(str(tmp_path), os.getpid(), restore=restore.pid, restore_began=began - 1).kill_restored()
    assert restore.wait(5) == -signal.SIGKILL
    eventually(lambda: not is_alive(child), "its child is gone, too")


# --- successors -----------------------------------------------------------------------------------------------------


def test_a_killed_daemon_is_always_succeeded_and_a_failed_one_while_there_is_a_guardian(tmp_path: Path) -> None:
    succession = Succession()
    assert succession.delay(1, tmp_path) is None, "the first one failed by itself"
    delays = [succession.delay(-signal.SIGKILL, tmp_path) for _ in range(20)]
    assert delays == sorted(delays, key=float) and delays[0] == 0 and delays[-1] == 10
    assert succession.delay(0, tmp_path) is None
    assert succession.delay(1, tmp_path) is None, "nothing is held here"
