"""What is installed and configured on a host."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from criu_lazy_ext.checks.check import Found, check, fail, warn
from criu_lazy_ext.checks.leaving import Leaving, dump_options
from criu_lazy_ext.checks.needs import Arrival
from criu_lazy_ext.criu import program as criu
from criu_lazy_ext.criu.contrary import contrary_in_files
from criu_lazy_ext.sizes import page_size_problem

CAP_SYS_RESOURCE = 24
HOOKS = "A hook that can't be run ends the migration; one of after_dump or before_restore does so in the downtime."
UNPRIVILEGED = Path("/proc/sys/vm/unprivileged_userfaultfd")


@check("root", why="criu, and reading another's memory, take root.", way_out="run it as root")
def root(_: Any) -> Iterator[Found]:
    """the user that criu-lazy runs as"""
    if os.geteuid() != 0:
        yield fail(f"uid is {os.geteuid()}")


@check(
    "page-size",
    why="Lazy memory is followed and sent by pages of 4096 bytes; kernels for arm64 may have pages of 16 or 64 KiB.",
    way_out="boot a kernel with pages of 4 KiB there",
)
def page_size(_: Any) -> Iterator[Found]:
    """the size of this kernel's pages (getconf PAGESIZE)"""
    if problem := page_size_problem():
        yield fail(problem)


def _has_criu() -> bool:
    """Whether what criu says counts: other checks say that it is missing, or that it may do nothing."""
    return shutil.which("criu") is not None and os.geteuid() == 0


@check(
    "criu",
    why="Older ones have no protocol for lazy pages that is known to work.",
    way_out="apt install criu python3-pycriu: Debian 13 has 4.1; Debian 12 has 3.17 only: upgrade that host, or build "
    "CRIU there",
)
def criu_version(_: Any) -> Iterator[Found]:
    """criu's version"""
    if problem := criu.version_problem():
        yield fail(problem)


@check(
    "criu-check",
    why="criu knows best what it needs of the kernel.",
    way_out="often a module is not loaded, or the kernel is too old, or too new for this criu",
)
def criu_check(_: Any) -> Iterator[Found]:
    """what `criu check` says of this kernel"""
    if _has_criu() and (problem := criu.criu_check()):
        yield fail(f"criu check: {problem}")


@check(
    "userfaultfd",
    why="Pages follow the restored task through it.",
    way_out="a kernel with CONFIG_USERFAULTFD, 4.11 or later",
)
def userfaultfd(_: Any) -> Iterator[Found]:
    """userfaultfd and its events, in this kernel"""
    if _has_criu() and (problem := criu.criu_check("--feature", "uffd-noncoop")):
        yield fail(problem)


@check(
    "user-namespace",
    why="In a user namespace only who may use userfaultfd at all can have memory follow.",
    way_out="sysctl vm.unprivileged_userfaultfd=1 there",
)
def user_namespace(arrival: Arrival) -> Iterator[Found]:
    """vm.unprivileged_userfaultfd, for a task with a user namespace of its own"""
    if arrival.user_namespace and UNPRIVILEGED.exists() and UNPRIVILEGED.read_text().strip() == "0":
        yield fail("the task has a user namespace of its own, and vm.unprivileged_userfaultfd is 0")


@check(
    "cpu",
    why="Programs and their libraries have chosen instructions by the CPU that they began on, and its registers are "
    "restored as they were.",
    way_out="start the task on the older of the two CPUs, or with GLIBC_TUNABLES=glibc.cpu.hwcaps=... there",
)
def cpu(arrival: Arrival) -> Iterator[Found]:
    """CPU features: `criu cpuinfo dump` of the source, `criu cpuinfo check` at the destination"""
    if arrival.cpu and _has_criu() and (problem := criu.cpu_problem(base64.b64decode(arrival.cpu))):
        yield fail(f"criu cpuinfo check: {problem}")


@check(
    "time-namespaces",
    why="criu has CLOCK_MONOTONIC and CLOCK_BOOTTIME go on from where they were, by a time namespace. Otherwise they "
    "jump to what the host's are, and what waits until a time of theirs (most timeouts) waits for days, or not at all.",
    way_out="a kernel with CONFIG_TIME_NS, 5.6 or later",
)
def time_namespaces(_: Any) -> Iterator[Found]:
    """time namespaces, in this kernel"""
    if not Path("/proc/self/timens_offsets").exists():
        yield warn("this kernel has no time namespaces: the task's monotonic clock jumps")


@check(
    "disk",
    why="criu's images go through a directory on both hosts: of lazy memory its list, of the rest its content.",
    way_out="make room, or let directories.source, or .destination, be where there is",
)
def disk(subject: Any) -> Iterator[Found]:
    """free room for criu's images, in the directories of both ends"""
    needed, path = subject.image_bytes, _existing(subject.directory)
    free = shutil.disk_usage(path).free
    if needed and free < needed:
        takes, has = (f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB" for size in (needed, free))
        yield fail(f"the images will take {takes} or more, and {has} are free for {subject.directory}")


@check(
    "noexec",
    why="criu restore executes a script there, by which it waits for the word to resume the task.",
    way_out="let directories.destination be elsewhere, or mount -o remount,exec",
)
def noexec(arrival: Arrival) -> Iterator[Found]:
    """whether the destination's directory is mounted noexec"""
    path = _existing(arrival.directory)
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        yield fail(f"{arrival.directory} is on a file system that is mounted noexec")


def _existing(directory: str) -> Path:
    """It, or the first above it that is there."""
    path = Path(directory)
    return next(one for one in (path, *path.parents) if one.exists())


@check("pycriu", why="The daemon reads criu's images by it.")
def pycriu(_: Any) -> Iterator[Found]:
    """CRIU's Python modules, for this Python"""
    if problem := criu.pycriu_problem():
        yield fail(problem)


@check(
    "dump-configuration",
    why="An option in criu's own files holds for each criu on this host, and some would leave two of the task.",
)
def dump_configuration(leaving: Leaving) -> Iterator[Found]:
    """/etc/criu/default.conf, ~/.criu/default.conf and $CRIU_CONFIG_FILE, for criu dump"""
    if problem := contrary_in_files("dump", dump_options(leaving.profile), "criu.dump_options"):
        yield fail(problem)


@check("restore-configuration", why="As with dump-configuration.")
def restore_configuration(arrival: Arrival) -> Iterator[Found]:
    """the same files at the destination, for criu restore and the daemon"""
    given = {
        "restore": (arrival.restore_options, "criu.restore_options"),
        "lazy-pages": (arrival.daemon_options, "daemon_options"),
    }
    for program, (options, key) in given.items():
        if problem := contrary_in_files(program, options, key):
            yield fail(problem)


@check(
    "dump-options",
    why="criu ends at once at an option that it doesn't know, or a value that it can't have.",
    way_out="see criu.dump_options; `criu --help` lists all",
)
def dump_options_known(leaving: Leaving) -> Iterator[Found]:
    """criu.dump_options, as this criu reads them"""
    if _has_criu() and (problem := criu.options_problem("dump", leaving.dump_words())):
        yield fail(f"criu dump: {problem}")


@check("restore-options", why="As with dump-options.", way_out="see criu.restore_options; `criu --help` lists all")
def restore_options_known(arrival: Arrival) -> Iterator[Found]:
    """criu.restore_options, as the destination's criu reads them"""
    if _has_criu() and (problem := criu.options_problem("restore", arrival.restore_options)):
        yield fail(f"criu restore: {problem}")




@check("hooks", why=HOOKS, way_out="see hooks; a text, not a list, is run by /bin/sh")
def hooks_here(leaving: Leaving) -> Iterator[Found]:
    """programs that hooks at the source run; of those by a shell, only rsync"""
    yield from _missing(leaving.hook_programs("source"))


@check("hooks-there", why=HOOKS, way_out="see hooks; a text, not a list, is run by /bin/sh")
def hooks_there(arrival: Arrival) -> Iterator[Found]:
    """the same at the destination"""
    yield from _missing(arrival.programs)


def _missing(programs: list[str]) -> Iterator[Found]:
    missing = [name for name in dict.fromkeys(programs) if shutil.which(name) is None]
    if "rsync" in missing:
        missing.remove("rsync")
        text = "hooks run rsync, which takes it at both ends, and it is not installed here"
        yield fail(text, "apt install rsync on that host")
    if missing:
        yield fail(f"hooks run what is no program here: {', '.join(missing)}")


@check(
    "pipes",
    why="A lazy dump keeps pages in pipes of 4 MiB; criu goes wrong where it can't have them.",
    way_out=f"sysctl fs.pipe-max-size={criu.PIPE_MAX_SIZE_BYTES} fs.pipe-user-pages-soft=0",
)
def pipes(_: Leaving) -> Iterator[Found]:
    """fs.pipe-max-size and fs.pipe-user-pages-soft, which migrate raises for its time"""
    for path in (criu.PIPE_MAX_SIZE, criu.PIPE_USER_PAGES_SOFT):
        if not os.access(path, os.W_OK):
            yield warn(f"{path} can't be written")


@check(
    "capabilities",
    why="criu reads the limits of each process (prlimit), which of another user's takes CAP_SYS_RESOURCE.",
    way_out="run criu-lazy with that capability: outside of the container, or with --cap-add=SYS_RESOURCE",
)
def capabilities(leaving: Leaving) -> Iterator[Found]:
    """CAP_SYS_RESOURCE, where processes of the task run as other users"""
    words = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if int(words["CapEff"], 16) & 1 << CAP_SYS_RESOURCE:
        return
    own = (os.getuid(),) * 3 + (os.getgid(),) * 3
    for process in leaving.task.processes if leaving.task else []:
        if len(process.ids) == len(own) and process.ids != own:
            who = f"user {process.ids[0]}, group {process.ids[3]}"
            yield fail(f"process {process.pid} ({process.name}) runs as {who}, and CAP_SYS_RESOURCE is lacking")
            return
