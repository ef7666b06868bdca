"""TLS to an unmodified `criu dump --lazy-pages --tls`: what it takes, what is refused, and that refusing costs nobody
a task."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import paths
import pytest
from lazy_source import PAGE_BYTES, LazySource, eventually, page

from bench.handmade import (
    DIRECTORY,
    OURS,
    PORT,
    PUSH_PORT,
    STOCK,
    ByHand,
    MemTask,
    MigrationError,
    _copy_images,
    _started,
    lazy_migrate_by_hand,
    start_memtask,
)
from testbed import Host, HostProcess, Testbed

IMAGES = f"{DIRECTORY}/images"
PKI = "/etc/criu-lazy-test-pki"
DAY = ["-days", "1"]


class Authority:
    """A certificate authority in a directory: its own certificate is ca.pem, its revocation list crl.pem."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        directory.mkdir()
        (directory / "index.txt").touch()
        (directory / "crlnumber").write_text("01\n")
        (directory / "ca.cnf").write_text(
            "[ca]\ndefault_ca=this\n[this]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\n"
            "default_crl_days=1\ncertificate=ca.pem\nprivate_key=ca.key\n"
        )
        self._run("req", "-x509", *self._key("ca"), "-out", "ca.pem", *DAY, "-subj", f"/CN={name}")

    def issue(self, name: str, subject: str) -> None:
        """NAME.pem and NAME.key for subject: IP:1.2.3.4 or DNS:some.name; a server's, which will do for a client."""
        (self.directory / "leaf.cnf").write_text(f"subjectAltName={subject}\nextendedKeyUsage=serverAuth\n")
        self._run("req", "-new", *self._key(name), "-out", "request", "-subj", f"/CN={name}")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "leaf.cnf"]
        self._run("x509", "-req", "-in", "request", "-out", f"{name}.pem", *DAY, *signed)

    def revoke(self, name: str) -> None:
        self._run("ca", "-config", "ca.cnf", "-revoke", f"{name}.pem")

    def write_revocation_list(self) -> None:
        self._run("ca", "-config", "ca.cnf", "-gencrl", "-out", "crl.pem")

    @staticmethod
    def _key(name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", f"{name}.key"]

    def _run(self, *argv: str) -> None:
        done = subprocess.run(["openssl", *argv], cwd=self.directory, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def tb(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """The testbed, with the files of two authorities under PKI/ours and PKI/foreign on both hosts."""
    directory = tmp_path_factory.mktemp("pki")
    for where in ("ours", "foreign"):
        authority = Authority(directory / where, where)
        authority.issue("server", f"IP:{testbed.src.address}")
        authority.issue("other-host", "DNS:some.other.host")
        authority.issue("client", f"IP:{testbed.src.address}")
        authority.issue("revoked", f"IP:{testbed.src.address}")
        authority.revoke("revoked")
        authority.write_revocation_list()
    files = [path for path in directory.glob("*/*") if path.suffix in (".pem", ".key")]
    for host in (testbed.src, testbed.dst):
        for path in files:
            host.write(f"{PKI}/{path.relative_to(directory)}", path.read_bytes())
    testbed.link.set(rate_mbit=None)
    yield testbed
    for host in (testbed.src, testbed.dst):
        host.run(["rm", "-rf", PKI])


def tls(name: str, *options: str, ca: str = "ours", cert: str = "ours") -> list[str]:
    """criu's options for someone who shows the certificate NAME."""
    own = ["--tls-cert", f"{PKI}/{cert}/{name}.pem", "--tls-key", f"{PKI}/{cert}/{name}.key"]
    return ["--tls", "--tls-cacert", f"{PKI}/{ca}/ca.pem", *own, *options]


@pytest.fixture
def task(tb: Testbed) -> Iterator[MemTask]:
    """64 MiB, all of it written and checked at random by two threads."""
    started = start_memtask(tb, "--mib", "64", "--threads", "2")
    time.sleep(0.1)
    yield started
    for host in (tb.src, tb.dst):
        started.kill(host)


@pytest.mark.parametrize(
    ("dump", "daemon"),
    [
        (tls("server"), tls("client")),
        (tls("other-host"), tls("client", "--tls-no-cn-verify")),
        (tls("server", "--tls-no-cn-verify"), tls("other-host")),
        (tls("server"), tls("client", "--tls-cacrl", f"{PKI}/ours/crl.pem")),
    ],
    ids=["both-verified", "server-under-another-name", "client-under-another-name", "with-a-revocation-list"],
)
def test_a_working_task_comes_whole(tb: Testbed, task: MemTask, dump: list[str], daemon: list[str]) -> None:
    done = lazy_migrate_by_hand(tb, task, ByHand(dump_options=dump, daemon_options=daemon, timeout=60))
    assert done.engine["remaining_pages"] == 0
    assert done.engine["received_bytes"] > 48 << 20, done.engine  # of 64 MiB, some of which the task drops
    assert task.verify(tb.dst)["errors"] == 0


def new_images(tb: Testbed) -> None:
    for host in (tb.src, tb.dst):
        host.run(["sh", "-c", f"rm -rf {IMAGES} && mkdir -p {IMAGES}"])


def where(tb: Testbed) -> list[str]:
    return ["--address", tb.src.address, "--port", str(PORT), "-D", IMAGES, "-v4"]


@contextlib.contextmanager
def dumped(tb: Testbed, task: MemTask, options: Sequence[str]) -> Iterator[HostProcess]:
    """criu dump, which serves; its images are at the destination."""
    new_images(tb)
    command = ["criu", "dump", "--lazy-pages", "-t", str(task.pid), "-o", "dump.log", *where(tb), *options]
    with _started(tb.src, command, f"{IMAGES}/dump.log") as source:
        _copy_images(tb, IMAGES)
        yield source


def our_daemon(tb: Testbed, options: Sequence[str]) -> contextlib.AbstractContextManager[HostProcess]:
    """Our lazy-pages, once it is ready."""
    command = [*OURS, "-o", "lazy-pages.log", "--page-server", *where(tb), *options]
    return _started(tb.dst, command, f"{IMAGES}/lazy-pages.log")


@pytest.mark.parametrize(("program", "late"), [(STOCK, False), (OURS, True)], ids=["stock", "ours-before-the-server"])
def test_a_plain_client_gets_every_page_from_our_page_server(
    tb: Testbed, task: MemTask, program: Sequence[str], late: bool
) -> None:
    """criu waits for the socket alone, which says nothing of what GnuTLS keeps of a record longer than asked for.
    Ours calls before its status byte, and again when it is needed, if nobody was there."""
    new_images(tb)
    directory = ["-D", IMAGES, "-v4"]
    dump = ["criu", "dump", "--lazy-pages", "-t", str(task.pid), "-o", "dump.log", *directory]
    dump += ["--address", "127.0.0.1", "--port", str(PORT)]
    there = ["--address", tb.src.address, "--port", str(PUSH_PORT)]
    page_server = ["criu-lazy", "page-server", "--upstream", f"127.0.0.1:{PORT}", *there, *tls("server")]
    page_server += ["-o", f"{IMAGES}/page-server.log", "--tree", str(task.pid), "--images", IMAGES]
    client = [*program, "-o", "lazy-pages.log", "--page-server", *there, *directory, *tls("client")]
    restore = ["criu", "restore", "-d", "--lazy-pages", "-o", "restore.log", *directory]
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_started(tb.src, dump, f"{IMAGES}/dump.log"))
        _copy_images(tb, IMAGES)
        commands = [(tb.src, page_server, "page-server"), (tb.dst, client, "lazy-pages")]
        started = {
            name: stack.enter_context(_started(host, command, f"{IMAGES}/{name}.log"))
            for host, command, name in (reversed(commands) if late else commands)
        }
        tb.dst.run(restore, timeout=60)
        assert started["lazy-pages"].wait(40) == 0, text(tb.dst, f"{IMAGES}/lazy-pages.log")[-2000:]
        assert started["page-server"].wait(30) == 0
        assert source.wait(30) == 0
    assert task.verify(tb.dst)["errors"] == 0


def test_no_record_from_our_page_server_holds_more_than_criu_asks_for_at_once(tb: Testbed) -> None:
    """A header by one call, the pages by others: nothing of what belongs to the next may be left in the library."""
    source = LazySource(tb.src, 2)
    try:
        source.serve(*tls("server"))
        client = source.client()
        pki = tb.src.root / PKI.lstrip("/") / "ours"
        context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
        context.load_cert_chain(pki / "client.pem", pki / "client.key")
        client.socket = secure = context.wrap_socket(client.socket, server_hostname=tb.src.address)
        wanted = range(0, source.nr_pages, source.nr_pages // 400)
        secure.sendall(b"".join(client.header(7, 1, source.start + i * PAGE_BYTES) for i in wanted))
        time.sleep(0.3)  # answers queue
        for index in wanted:
            header = secure.recv(32)
            assert (len(header), secure.pending()) == (32, 0)
            assert client.receive(PAGE_BYTES) == page(index)
            assert secure.pending() == 0
        client.close_properly()
    finally:
        source.close()


@dataclasses.dataclass
class Refusal:
    dump: int  # exit statuses
    daemon: int
    restore: int | None  # None: the daemon did not get ready, so nobody would start one
    errors: list[str]  # the daemon's log's
    dump_log: str


def refused(tb: Testbed, task: MemTask, dump: list[str], daemon: list[str]) -> Refusal:
    """Try it, until all three programs have ended."""
    restored = None
    with dumped(tb, task, dump) as source:
        try:
            with our_daemon(tb, daemon) as server:
                if "--tls" in daemon:
                    server.wait(60)  # it hears of it by itself
                restore = ["criu", "restore", "-d", "--lazy-pages", "-o", "restore.log", "-v4", "-D", IMAGES]
                restored = tb.dst.run(restore, check=False, timeout=60).returncode
                daemon_status = server.wait(60)
        except MigrationError as error:
            found = re.search(r"did not get ready \(status (\d+)\)", str(error))
            assert found, error
            daemon_status = int(found[1])
        dump_status = source.wait(60)
    return Refusal(dump_status, daemon_status, restored, errors(tb.dst), text(tb.src, f"{IMAGES}/dump.log"))


def text(host: Host, path: str) -> str:
    return (host.root / path.lstrip("/")).read_text()


def errors(host: Host) -> list[str]:
    """What the daemon's log says went wrong (the engine and the front end both say it)."""
    lines = text(host, f"{IMAGES}/lazy-pages.log").splitlines()
    return [line.split("page server", 1)[-1] for line in lines if "Error" in line]


@pytest.mark.parametrize(
    ("dump", "daemon", "says"),
    [
        (tls("server"), tls("client", ca="foreign"), "asked for as 10.77.0.1: The certificate is NOT trusted."),
        (tls("other-host"), tls("client"), "The name in the certificate does not match the expected."),
        (tls("revoked"), tls("client", "--tls-cacrl", f"{PKI}/ours/crl.pem"), "certificate chain is revoked."),
        (tls("server"), tls("client", cert="foreign"), "whether it refused our certificate"),
        (tls("server"), tls("other-host"), "whether it refused our certificate"),
        ([], tls("client"), "is --tls given there"),
    ],
    ids=["authority", "name", "revoked", "our-certificate", "our-name", "no-tls-there"],
)  # fmt: skip
def test_a_refusal_costs_nobody_a_task(
    tb: Testbed, task: MemTask, dump: list[str], daemon: list[str], says: str
) -> None:
    seen = refused(tb, task, dump, daemon)
    assert (seen.daemon, len(set(seen.errors))) == (1, 1), seen.errors
    assert says in seen.errors[0]
    assert seen.dump == 1, seen.dump_log
    assert seen.restore != 0
    # What the handshake tells is known before anything is restored.
    assert seen.restore is None or "our certificate" in says
    assert task.verify(tb.src)["errors"] == 0


@pytest.mark.parametrize("rtt_ms", [0, 100])
def test_tls_at_the_source_alone_costs_nobody_a_task(tb: Testbed, task: MemTask, rtt_ms: float) -> None:
    """The source refuses the first request. As with criu, that may be after the restore; then the restored task must
    go no further than to the next page it lacks."""
    tb.link.set(rate_mbit=None, rtt_ms=rtt_ms)
    try:
        seen = refused(tb, task, tls("server"), [])
    finally:
        tb.link.set(rate_mbit=None, rtt_ms=0)
    assert (seen.daemon, seen.dump) == (1, 1), seen
    assert "the connection was closed" in seen.errors[0]
    assert seen.restore != 0 or "it gets SIGBUS" in seen.errors[-1], seen.errors
    eventually(lambda: not (tb.dst.root / f"proc/{task.pid}").exists(), "the end of the task at the destination")
    assert task.verify(tb.src)["errors"] == 0


@contextlib.contextmanager
def hanging_restore(tb: Testbed) -> Iterator[None]:
    """A restore that has handed over its first task."""
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        "s.send((-1).to_bytes(4, 'little', signed=True)); sys.stdin.read()"
    )
    restore = tb.dst.popen(["python3", "-c", script, f"{IMAGES}/lazy-pages.socket"], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        restore.communicate()


@pytest.mark.parametrize("during", [False, True])
def test_a_source_lost_before_the_task_runs_fails_the_restore(tb: Testbed, task: MemTask, during: bool) -> None:
    """Nothing is asked yet, so nothing but the end of the connection tells of it."""
    with dumped(tb, task, tls("server")) as source:
        restore = hanging_restore(tb) if during else contextlib.nullcontext()
        with our_daemon(tb, tls("client")) as server, restore:
            if during:
                eventually(
                    lambda: "is a zombie" in text(tb.dst, f"{IMAGES}/lazy-pages.log"), "the restore's first word"
                )
            source.kill_session()
            assert server.wait(20) == 1
        assert "it closed the connection" in errors(tb.dst)[0]
    assert task.verify(tb.src)["errors"] == 0


def test_a_killed_daemon_costs_nobody_a_task(tb: Testbed, task: MemTask) -> None:
    """The end of a connection is success to criu, but not with TLS, if there was no good-bye."""
    with dumped(tb, task, tls("server")) as source:
        with our_daemon(tb, tls("client")) as server, hanging_restore(tb):
            eventually(lambda: "TLS handshake completed" in text(tb.src, f"{IMAGES}/dump.log"), "the handshake")
            time.sleep(0.1)
            server.kill_session()
        assert source.wait(60) == 1, text(tb.src, f"{IMAGES}/dump.log")
    assert task.verify(tb.src)["errors"] == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tls-cacert", "/nowhere/ca.pem"], "--tls-cacert /nowhere/ca.pem: No such file or directory"),
        (["--tls-key", "/nowhere/key"], "--tls-key /nowhere/key: No such file or directory"),
        (["--tls-cacrl", "/nowhere/crl"], "--tls-cacrl /nowhere/crl: No such file or directory"),
        ([], "TLS: certificate /etc/pki/criu/cert.pem: No such file or directory"),
        (["--tls-cacert", "/etc/hosts"], "TLS: certificate authority /etc/hosts: "),
        ([*tls("client")[1:-1], f"{PKI}/ours/server.key"], "ours/server.key: "),
    ],
    ids=["no-ca", "no-key", "no-crl", "nothing-given", "not-a-certificate", "keys-differ"],
)
def test_files_are_checked_before_the_source_is_called(tb: Testbed, options: list[str], says: str) -> None:
    images = paths.IMAGES / "criu-4.1.1"
    tb.dst.run(["sh", "-c", f"rm -rf {IMAGES} && mkdir -p {IMAGES}"])
    for image in images.glob("*.img"):
        tb.dst.write(f"{IMAGES}/{image.name}", image.read_bytes())
    # Nobody listens there: to be told of the files means that it was not tried.
    server = ["--page-server", "--address", "127.0.0.1", "--port", "1", "--tls", *options]
    done = tb.dst.run([*OURS, "-D", IMAGES, *server], check=False, timeout=30)
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
