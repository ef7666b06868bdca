"""Who is neither root at the source nor has the migration's key can neither read the task's memory nor end it."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
from lazy_source import LazySource, eventually
from migrating import BASE, Migration, Worker, assert_moved

from testbed import Testbed

# As any local user: connects to each port of a lazy dump that it finds in a command line, and hangs up.
STRANGER = r"""
import os, socket, sys, time
os.setgid(65534); os.setuid(65534)
print("ready", flush=True)
connected = 0
while not os.path.exists("/tmp/stranger.end"):
    for entry in os.listdir("/proc"):
        try:
            words = open(f"/proc/{entry}/cmdline").read().split("\0")
            if "--lazy-pages" in words and "dump" in words:
                port = int(words[words.index("--port") + 1])
                socket.create_connection(("127.0.0.1", port), 1).close()
                connected += 1
        except (OSError, ValueError):
            pass
    time.sleep(0.0005)
print(connected, flush=True)
"""

# A page server on one end of a pair is killed before the dump begins to serve on the other.
DIES_BEFORE_THE_DUMP = r"""
import os, signal, subprocess, sys
from criu_lazy_ext.source.dump import connected_pair
which, version, task, directory = sys.argv[1:]
ours, theirs = connected_pair()
status_read, status_write = os.pipe()
ready_read, ready_write = os.pipe()
given = {"--upstream-fd": ours.fileno(), "--dump-status-fd": status_read, "--status-fd": ready_write}
command = ["criu-lazy", "page-server", "--hold", "--control", f"{directory}/pair", "--wire-version", version]
command += [str(word) for pair in given.items() for word in pair]
server = subprocess.Popen(command, pass_fds=tuple(given.values()))
ours.close()
os.close(ready_write)
assert os.read(ready_read, 1) == b"\0"
guardian = int(open(f"/proc/{server.pid}/task/{server.pid}/children").read())
victims = [server.pid] + ([guardian] if which == "both" else [])
for number in (signal.SIGSTOP, signal.SIGKILL):
    for pid in victims:
        os.kill(pid, number)
server.wait()
command = ["criu", "dump", "-t", task, "-D", f"{directory}/pair-images", "-o", "dump.log", "--lazy-pages"]
command += ["--ps-socket", str(theirs.fileno()), "--status-fd", str(status_write)]
dump = subprocess.Popen(command, pass_fds=(theirs.fileno(), status_write))
theirs.close()
print(dump.wait(60))
"""


@pytest.fixture(scope="module")
def by_version() -> Any:
    if os.geteuid() != 0:
        pytest.skip("criu and the testbed need root")
    with Testbed.start(criu=("4.2", "4.1"), name=f"strangers-{os.getpid()}") as testbed:
        yield {1: testbed.dst, 2: testbed.src}


def test_no_local_user_can_take_the_dumps_connection(worker: Worker) -> None:
    host = worker.testbed.src
    host.write("/srv/stranger.py", STRANGER)
    stranger = host.popen(["python3", "/srv/stranger.py"], stdout=subprocess.PIPE, text=True)
    assert stranger.stdout and stranger.stdout.readline() == "ready\n"
    try:
        assert_moved(worker, Migration(worker.testbed, BASE))
    finally:
        host.run(["touch", "/tmp/stranger.end"])
        said = stranger.communicate(timeout=30)[0]
        host.run(["rm", "/tmp/stranger.end"])
    assert said == "0\n", "there is no port to connect to"


@pytest.mark.parametrize("which", ["server", "both"])
@pytest.mark.parametrize("version", [1, 2], ids=["criu-4.1", "criu-4.2"])
def test_a_page_server_that_dies_before_the_dump_serves(by_version: Any, version: int, which: str) -> None:
    source = LazySource(by_version[version], version, 16, dump=False)
    try:
        (source.root / "pair-images").mkdir()
        argv = ["python3", "-c", DIES_BEFORE_THE_DUMP, which, str(version), str(source.task), source.directory]
        done = source.host.run(argv)
        assert done.stdout == "1\n"
        assert source.task_is_alive()
    finally:
        source.close()


def test_what_another_user_lets_listen_is_not_taken_for_the_dump(by_version: Any) -> None:
    host = by_version[2]
    listen = "import os, socket; os.setuid(65534); socket.create_server(('127.0.0.1', 27999)).accept()[0].recv(99)"
    stranger = host.popen(["python3", "-c", listen])
    eventually(lambda: host.run(["ss", "-Hltn", "sport = 27999"]).stdout, "it listens")
    done = host.run(["criu-lazy", "page-server", "--upstream", "127.0.0.1:27999"], check=False)
    assert (done.returncode, "another user's" in done.stderr) == (1, True), done.stderr
    assert stranger.wait(30) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--address", "0.0.0.0"], "give --tls-psk or --tls, or --plain"),
        (["--address", "::"], "give --tls-psk or --tls, or --plain"),
        (["--tls"], "--tls-cacert FILE names the authority of your clients"),
    ],
)
def test_nothing_listens_for_everybody_without_a_word(by_version: Any, options: list[str], says: str) -> None:
    done = by_version[2].run(["criu-lazy", "page-server", "--upstream", "127.0.0.1:1", *options], check=False)
    assert done.returncode == 2, done
    assert says in done.stderr
