"""What others see of a running `criu-lazy lazy-pages`: socket, files, descriptors, signals; as with criu."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from host_with_criu import HostWithCriu, host_with_criu
from paths import IMAGES

# Tools for the scripts below, which run on the host: a directory of images and a work directory of their own.
PRELUDE = """
import base64, json, os, signal, socket, stat, subprocess, tempfile, time
# A shell's background job or nohup's, as a CI may be, has these ignored, and so would criu.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
top = tempfile.TemporaryDirectory()
images, work = f"{top.name}/images", f"{top.name}/work"
os.mkdir(images)
os.mkdir(work)
for name, content in given.items():
    with open(f"{images}/{name}", "wb") as file:
        file.write(base64.b64decode(content))

class Daemon:
    def __init__(self, *words, keep=(), program="criu-lazy", env=None):
        ready, status = os.pipe()
        self.process = subprocess.Popen(
            [program, "lazy-pages", "-D", "images", "-W", "work", "--status-fd", str(status), *words],
            cwd=top.name, pass_fds=[status, *keep], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        self.status = status
        os.close(status)
        self.up = os.read(ready, 1) == b"\\0"
        self.closed = os.read(ready, 1) == b""
        os.close(ready)
    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.wait()
    def wait(self):
        self.out, self.errors = self.process.communicate(timeout=20)
        return self.process.returncode

def restore():
    connection = socket.socket(socket.AF_UNIX)
    before = os.getcwd()
    os.chdir(work)
    connection.connect("lazy-pages.socket")
    os.chdir(before)
    return connection

def read(path):
    with open(path) as file:
        return file.read()
"""


@pytest.fixture(scope="module")
def host() -> Iterator[HostWithCriu]:
    with host_with_criu() as found:
        yield found


def run(host: HostWithCriu, script: str) -> Any:
    files = {path.name: path.read_bytes() for path in (IMAGES / "criu-4.1.1").glob("*.img")}
    given = {name: base64.b64encode(content).decode() for name, content in files.items()}
    return host.python(f"{PRELUDE}\n{script}", given)


@pytest.mark.parametrize("program", ["criu", "criu-lazy"])
def test_it_listens_in_the_work_directory_and_says_so_once(host: HostWithCriu, program: str) -> None:
    seen = run(
        host,
        f"""
daemon = Daemon("-o", "log", "-v4", "--pidfile", "pid", program="{program}")
mode = os.stat(f"{{work}}/lazy-pages.socket").st_mode
restore().close()
result = dict(up=daemon.up, closed=daemon.closed, socket=stat.S_ISSOCK(mode), rc=daemon.wait(),
              files=sorted(os.listdir(work)), log_mode=os.stat(f"{{work}}/log").st_mode & 0o777,
              log=read(f"{{work}}/log"), images=len(os.listdir(images)) == len(given))
""",
    )
    log = seen.pop("log")
    assert seen == {
        "up": True,
        "closed": True,
        "socket": True,
        "rc": 1,  # the restore hung up
        "files": ["lazy-pages.socket", "log"],  # no pidfile without --daemon
        "log_mode": 0o600,
        "images": True,
    }
    assert "uffd: Waiting for incoming connections on lazy-pages.socket" in log
    assert "Error" in log
    assert all(line.startswith("(00.") for line in log.splitlines())


@pytest.mark.parametrize("program", ["criu", "criu-lazy"])
def test_in_the_background(host: HostWithCriu, program: str) -> None:
    seen = run(
        host,
        f"""
kept, other = os.pipe()
daemon = Daemon("-d", "--pidfile", "pid", "-o", "log", keep=[kept], program="{program}")
rc = daemon.wait()
pid = int(read(f"{{work}}/pid"))
fields = read(f"/proc/{{pid}}/stat").rpartition(")")[2].split()
links = [os.readlink(f"/proc/{{pid}}/fd/{{fd}}") for fd in (0, 1, 2)]
result = dict(up=daemon.up, rc=rc, leads_session=int(fields[3]) == pid, stdio=links,
              cwd=os.readlink(f"/proc/{{pid}}/cwd") == os.path.realpath(work),
              kept=os.path.exists(f"/proc/{{pid}}/fd/{{kept}}"),
              pid_mode=os.stat(f"{{work}}/pid").st_mode & 0o777)
again = Daemon("-d", "--pidfile", "pid", program="{program}")
result["again"] = [again.up, again.wait()]
os.kill(pid, signal.SIGKILL)
""",
    )
    assert seen == {
        "up": True,
        "rc": 0,
        "leads_session": True,
        "stdio": ["/dev/null"] * 3,
        "cwd": True,
        "kept": True,
        "pid_mode": 0o600,
        "again": [False, 1],  # a pidfile that exists is never overwritten
    }


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"])
def test_a_signal_ends_it_as_it_ends_criu(host: HostWithCriu, number: str) -> None:
    seen = run(
        host,
        f"""
result = []
for program in ("criu", "criu-lazy"):
    waiting = Daemon(program=program).end(signal.{number})
    daemon = Daemon(program=program)  # replaces the socket which the first one left
    connection = restore()
    result.append([waiting, daemon.end(signal.{number})])
""",
    )
    assert seen[0] == seen[1]
    assert seen[0][0] < 0


def test_a_restore_that_fails_early_costs_the_source_nothing(host: HostWithCriu) -> None:
    seen = run(
        host,
        """
source = socket.create_server(("127.0.0.1", 0))
daemon = Daemon("--page-server", "--address", "127.0.0.1", "--port", str(source.getsockname()[1]))
restore().close()
rc = daemon.wait()
source.setblocking(False)
try:
    source.accept()
    called = True
except BlockingIOError:
    called = False
result = dict(rc=rc, called=called, errors=daemon.errors)
""",
    )
    assert seen["rc"] == 1
    assert not seen["called"], "a page server serves one connection ever, and its end kills the task"
    assert "criu restore hung up" in seen["errors"]


def test_a_page_server_that_refuses_ends_it(host: HostWithCriu) -> None:
    seen = run(
        host,
        """
unused = socket.create_server(("127.0.0.1", 0))
port = unused.getsockname()[1]
unused.close()
daemon = Daemon("--page-server", "--address", "localhost", "--port", str(port), "-v3", "-o", "log")
connection = restore()
connection.send((-105).to_bytes(4, "little", signed=True))  # a zombie comes first
result = dict(rc=daemon.wait(), log=read(f"{work}/log"), port=port)
""",
    )
    assert seen["rc"] == 1
    assert f"Connecting to server 127.0.0.1:{seen['port']}" in seen["log"]
    assert f"can't connect to the page server localhost:{seen['port']}: Connection refused" in seen["log"]


@pytest.mark.parametrize("program", ["criu", "criu-lazy"])
def test_action_scripts_run_before_the_status_byte(host: HostWithCriu, program: str) -> None:
    seen = run(
        host,
        f"""
script = f"{{top.name}}/script"
with open(script, "w") as file:
    file.write('#!/bin/sh\\necho "$CRTOOLS_SCRIPT_ACTION $(ls $CRTOOLS_IMAGE_DIR/pstree.img | wc -l) $PWD" '
               '>> ran; exit ${{RC:-0}}\\n')
os.chmod(script, 0o755)
daemon = Daemon("--action-script", script, "--action-script", script, program="{program}")
result = dict(up=daemon.up, ran=read(f"{{work}}/ran"), rc=daemon.end(), work=os.path.realpath(work))
bad = Daemon("--action-script", script, program="{program}", env=dict(RC="3"))
result["bad"] = [bad.up, bad.wait()]
""",
    )
    assert (seen["up"], seen["rc"], seen["bad"]) == (True, -15, [False, 1])
    assert seen["ran"] == f"status-ready 1 {seen['work']}\n" * 2


def test_stats_are_json_lines_and_tell_how_it_ended(host: HostWithCriu) -> None:
    seen = run(
        host,
        """
counters, ours = os.pipe()
daemon = Daemon("--stats-fd", str(ours), keep=[ours])
os.close(ours)
first = os.read(counters, 4096)
restore().close()
rc = daemon.wait()
with os.fdopen(counters) as file:
    rest = file.read()
result = dict(rc=rc, lines=[json.loads(line) for line in (first.decode() + rest).splitlines()])
daemon = Daemon("--stats-fd", "77")
result["closed fd"] = daemon.up, daemon.end()
""",
    )
    first, last = seen["lines"][0], seen["lines"][-1]
    assert (first["state"], first["total_pages"], len(first["fault_wait_us"])) == ("waiting", 160, 64)
    assert first["remaining_pages"] == 160
    assert (seen["rc"], last["state"]) == (1, "failed")
    assert last["error"]
    assert seen["closed fd"] == [True, -15]


def test_images_that_go_missing_after_the_start_are_told(host: HostWithCriu) -> None:
    seen = run(
        host,
        """
os.unlink(f"{images}/pagemap-104.img")
daemon = Daemon()
result = dict(rc=daemon.wait(), errors=daemon.errors)
""",
    )
    assert seen["rc"] == 1
    assert "104" in seen["errors"]
