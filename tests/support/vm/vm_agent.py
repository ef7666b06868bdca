#!/usr/bin/python3
"""The first process of a test machine's Debian: runs one command after another for vm.py, which is outside.

A request is a line of JSON, [argv, seconds]; its answer [exit status, output], stderr among it. A negative status is a
signal; a command that takes longer is killed, and answered with null.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"}
SET_UP = """
    mkdir -p /dev/pts /dev/shm
    mount -t devpts devpts /dev/pts
    mount -t tmpfs shm /dev/shm
    mkdir -p /dev/net && test -e /dev/net/tun
    ln -s /proc/self/fd /dev/fd
    ip link set lo up
    hostname vm
"""


def main() -> None:
    subprocess.run(["sh", "-e", "-c", SET_UP], env=ENVIRONMENT, check=True)
    [port] = Path("/dev").glob("vport*")
    channel = os.open(port, os.O_RDWR | os.O_CLOEXEC)
    say(channel, b"ready\n")
    while line := read_line(channel):
        argv, seconds = json.loads(line)
        say(channel, json.dumps(run(argv, seconds)).encode() + b"\n")
    sys.exit("vm_agent: nobody is outside any more")


def say(channel: int, line: bytes) -> None:
    while line:
        line = line[os.write(channel, line) :]


def read_line(channel: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        got = os.read(channel, 65536)
        if not got:
            return b""
        line += got
    return line


def run(argv: list[str], seconds: float) -> list[object]:
    with tempfile.TemporaryFile() as output:  # not a pipe, which what the command leaves behind might hold open
        try:
            process = subprocess.Popen(
                argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            return [127, str(error)]
        status = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        return [status, output.read().decode(errors="replace")]


main()
