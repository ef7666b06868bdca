"""Running `criu`: its version, what it says when it fails or checks the kernel, and its Python modules."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from criu_lazy_ext.criu.explain import cause
from criu_lazy_ext.criu.images import how_to_get_pycriu
from criu_lazy_ext.errors import CriuLazyError

OLDEST = (4, 1)
PROTOCOL_2_SINCE = (4, 2)
PASSES_CREDENTIALS_SINCE = (4, 2)
# A lazy dump asks for tee pipes of up to 3.2 MiB, and goes wrong without them (CRIU ignores the refusal).
PIPE_MAX_SIZE = Path("/proc/sys/fs/pipe-max-size")
PIPE_MAX_SIZE_BYTES = 4 << 20
CPU_IMAGE = "cpuinfo.img"
PIPE_USER_PAGES_SOFT = Path("/proc/sys/fs/pipe-user-pages-soft")


class CriuError(CriuLazyError):
    """criu is missing, too old, or failed."""


def version(program: str = "criu") -> tuple[int, ...]:
    """criu's version, such as (4, 2, 1). Raises CriuError."""
    try:
        command = [program, "--no-default-config", "--version"]
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError as error:
        raise CriuError(f"{program}: {error.strerror}; install criu {OLDEST[0]}.{OLDEST[1]} or later") from error
    match = re.search(r"Version: (\d+(?:\.\d+)*)", text)
    if not match:
        raise CriuError(f"{program} --version: no version in {text.strip()!r}")
    return tuple(int(part) for part in match[1].split("."))


def socket_problem() -> str:
    """Why this criu can't dump a socket of the Internet's on this kernel; "" if it can, or that isn't known."""
    with socket.socket() as probe:
        try:
            probe.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)
            return ""
        except OSError:  # Linux 6.16 and later have that option for unix and netlink sockets only
            pass
    try:
        found = version()
    except CriuError:  # the check `criu` says so
        return ""
    if found >= PASSES_CREDENTIALS_SINCE:
        return ""
    return f"criu {'.'.join(map(str, found))} can't dump one on this kernel ({os.uname().release}; 4.2 can)"


def wire_version(criu_version: tuple[int, ...]) -> int:
    """The page-server protocol that this criu speaks as a source."""
    return 2 if criu_version >= PROTOCOL_2_SINCE else 1


def criu_check(*arguments: str) -> str | None:
    """What `criu check` says is wrong; None if all is well."""
    done = _run("check", *arguments)
    if done.returncode == 0:
        return None
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line or "Warn" in line]
    return (lines or ["criu check failed"])[-1].strip()


def cpu_facts() -> bytes:
    """What `criu cpuinfo dump` says of this CPU; b"" if it can't."""
    with tempfile.TemporaryDirectory() as directory:
        _run("cpuinfo", "dump", "-D", directory)
        image = Path(directory, CPU_IMAGE)
        return image.read_bytes() if image.exists() else b""


def cpu_problem(facts: bytes) -> str | None:
    """Why what began on a CPU with those facts can't run on this one, as criu says; None if it can."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, CPU_IMAGE).write_bytes(facts)
        done = _run("cpuinfo", "check", "-D", directory)
    if done.returncode == 0:
        return None
    return cause((done.stdout + done.stderr).splitlines()) or "criu cpuinfo check failed"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Without criu's configuration files: checks/tools.py looks at them, for each criu that will run."""
    environment = {name: value for name, value in os.environ.items() if name != "CRIU_CONFIG_FILE"}
    command = ["criu", *arguments, "--no-default-config"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def version_problem() -> str | None:
    """Why this criu is of no use; None if it is."""
    try:
        found = version()
    except CriuError as error:
        return str(error)
    if found < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return f"criu is {'.'.join(map(str, found))}; {wanted} or later is needed"
    return None


def options_problem(action: str, words: Sequence[str]) -> str | None:
    """What this criu says against options; None if it takes them."""
    done = _run(action, *words, "--version")
    if done.returncode == 0:
        return None
    said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return cause(said) or (said[0].removeprefix("criu: ") if said else f"{action}: status {done.returncode}")


def import_pycriu() -> None:
    """It takes a while; a check that follows is quick then."""
    with contextlib.suppress(Exception):  # that check says it
        import pycriu  # noqa: F401


def pycriu_problem() -> str | None:
    """Why pycriu can't be used by this Python, and how to get it; None if it can."""
    try:
        import pycriu  # noqa: F401
    except Exception as error:  # a broken one may raise anything
        release = Path("/etc/os-release")
        what = str(error) if isinstance(error, ImportError) else f"can't be imported: {type(error).__name__}: {error}"
        return f"{what}: {how_to_get_pycriu(release.read_text() if release.exists() else '')}"
    return None
