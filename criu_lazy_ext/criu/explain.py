"""What criu's log says when it fails, in words: which of its errors is the cause, what it means, and what helps.

The preflight finds most of it before anything is frozen; this covers what changed after it, or is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

MARK = re.compile(r"\[[0-9a-z]+\] (?=Error \()")  # of a migration, in our own programs' logs
# Errors that criu goes on after; they stand before the real one.
HARMLESS = re.compile(r"tun: Unable|rlimit:|execvp\(\"ip|Address already assigned")
# Errors that only follow from another: what failed is told elsewhere.
FOLLOWS = re.compile(
    r"(Dumping|Restoring|Pre-dumping) FAILED|exited, status=|killed by signal|Unable to restore|Can't .*parasite"
    r"|Dump files \(pid|Collect \w+ \(pid|Unexpected exit code|Failed to (un)?lock|Can't cure"
)
# A line's mark, and what helps: the first that fits counts.
EXPLANATIONS: tuple[tuple[str, str], ...] = (
    (r"In-flight connection", "a client was connecting just then; it is tried again, or criu.dump_options: "
     "[--skip-in-flight], which leaves that client to connect again"),
    (r"Can't open (PID|/proc/\d+)|Can't stat /proc|found while seizing|Can't freeze|Unexpected child",
     "a process came or went just then: try again"),
    (r"Connected TCP socket", "leave criu.tcp_established out, with network.addresses, or --tcp-close"),
    (r"External socket is used|Can't dump half of stream", "a unix socket is connected to a process that stays: "
     "criu.ext_unix_sk: true helps for datagrams (syslog); else end that connection"),
    (r"Can't dump ghost file", "a deleted file is still in use: criu.dump_options: [--ghost-limit, SIZE]"),
    (r"Can't create link remap", "a file's name is gone and another is left: criu.link_remap: true"),
    (r"file locks are hold", "criu.file_locks: true"),
    (r"bad size|bad mode|bad build-id", "the file is not the same at the destination: install the same packages there, "
     "or bring it by hooks.after_dump"),
    (r"Can't open file .* on restore|Can't open .*: No such file", "the file is not at the destination: bring it by "
     "hooks.after_dump"),
    (r"Can't bind inet socket.*Cannot assign", "the address is not at the destination: it moves with "
     "network.addresses, or a hook of before_restore has to add it"),
    (r"Can't bind inet socket.*already in use", "another program at the destination has that port: stop it there"),
    (r"Pid \d+ (already exists|do not match)|Can't fork for \d+: File exists|File exists.*clone",
     "a process at the destination has that pid: end it, or try again"),
    (r"dangling tty|without correspond master peer|Don't have tty", "a terminal can't move: start the task without one "
     "(setsid, output in a file)"),
    (r"not a session leader|session leader of .* outside", "start the task by setsid, or criu.shell_job: true"),
    (r"Can't dump that handle|Can't find suitable path for handle", "an inotify watch can't be named: "
     "criu.dump_options: [--force-irmap, --irmap-scan-path, DIRECTORY]"),
    (r"Can't lookup mount.*anon_hugepage", "when criu first looked, this host had no huge pages: rm /run/criu.kdat"),
    (r"doesn't have a proper root mount|Can't stat mountpoint|Can't lookup mount", "the task sees other mounts than "
     "this host: a container is moved as one (init --container NAME); an open file may be of another mount namespace"),
    (r"doesn't live in IPC ns", "System V memory: start the task in an IPC namespace of its own (unshare --ipc)"),
    (r"Unsupported proto 262", "MPTCP: of Go programs, GODEBUG=multipathtcp=0"),
    (r"Zombie thread not supported|Zombies with threads", "the first thread of a process has ended: it can't be moved"),
    (r"Can't dump nested|Can't restore sub-task in NS", "a process below the root of the task has namespaces of its "
     "own: end what made them (a sandbox, unshare)"),
    (r"Inconsistent sched params", "SCHED_DEADLINE can't be restored: chrt --other -ap 0 PID"),
    (r"pidfd pid \d+ is not a part", "a pidfd stands for a process that stays: have the task close it"),
    (r"Can't create inet socket: Permission denied", "a ping socket: sysctl net.ipv4.ping_group_range there as here"),
    (r"Unknown shit \d+", "criu can't dump what stands in the parentheses; see `criu-lazy check`, kernel-objects"),
    (r"Can't dump file .* (chr|anon)|Can't dump file \d+ of that type", "criu has no means for that kind of file"),
    (r"send_fds failed \(-22\)", "a descriptor that the kernel passes to nobody, as of io_uring"),
    (r"userfaultfd.*not permitted", "sysctl vm.unprivileged_userfaultfd=1 at the destination"),
    (r"can't write lsm profile|mismatched lsm types", "a profile of AppArmor is not loaded at the destination: "
     "`criu-lazy check` names it (security-profiles)"),
    (r"arch/\w+/cpu\.c", "the destination's processor lacks what the source's has"),
    (r"execvp\(.*gate\.sh.*Permission denied", "directories.destination is on a file system that is mounted noexec"),
    (r"Unable to open the proc file system.*not permitted|/proc doesn't belong to it", "the task has a user namespace: "
     "start it without (unshare --user), or move it as a container (criu-lazy init --container NAME)"),
    (r"No space left on device", "the disk is full: directories.source and directories.destination say where files go"),
    (r"Cannot allocate memory|ENOMEM", "memory ran out, or a limit of a control group, or vm.max_map_count"),
    (r"Too many open files", "raise the hard limit of descriptors (ulimit -Hn)"),
    (r"page-pipe: splice", "sysctl fs.pipe-max-size=4194304 fs.pipe-user-pages-soft=0"),
    (r"Can't get 1:16 opt", "criu 4.1 can't dump TCP and UDP sockets on Linux 6.16 or later: install criu 4.2"),
    (r"Can't get rlimit", "criu needs CAP_SYS_RESOURCE for processes of other users"),
    (r"Tracking memory is not available", "this kernel has no soft-dirty bits: leave --track-mem out"),
    (r"Unable to freeze cgroup", "what is in that group does not stop: leave --freeze-cgroup out"),
    (r"Can't read .*uprobes|uprobes vma", "a tracer has put probes there: detach it, or --allow-uprobes"),
)  # fmt: skip
# Trying again helps: nothing is wrong with the task, it was in the midst of something.
PASSING = re.compile(EXPLANATIONS[0][0] + "|" + EXPLANATIONS[1][0])


def errors_of(lines: Sequence[str]) -> list[str]:
    """The lines of a log that are criu's own errors; other programs that it runs log there, too."""
    return [MARK.sub("", line.strip()) for line in lines if "Error (" in line and not HARMLESS.search(line)]


def cause(lines: Sequence[str]) -> str:
    """Of a log: the error that the others follow from, with what helps, in one line; "" if there is none."""
    errors = errors_of(lines)
    for line in errors:
        if meaning := explanation(line):
            return f"{line} ({meaning})"
    roots = [line for line in errors if not FOLLOWS.search(line)] or errors
    return roots[0] if roots else ""


def cause_in_log(log: Path) -> str:
    """`cause` of a log file; if it has none, that, or why the file can't be read."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"no log at {log}: {error.strerror}"
    return cause(lines) or f"no error in {log.name}"


def explanation(line: str) -> str:
    """What helps against one error; "" if that isn't known."""
    return next((meaning for mark, meaning in EXPLANATIONS if re.search(mark, line)), "")
