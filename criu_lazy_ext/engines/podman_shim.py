"""The OCI runtime that podman runs for one command of a migration: podman's own one, told what a migration needs.

It is run as a file, by an interpreter that sees the standard library alone: `podman_shim.py FACTS.json ARGUMENT...`.
`checkpoint`: the runtime dumps in the background and serves; this ends when it serves, so that podman ends, and lets
go of the container's lock. `restore`: the runtime, with the migration's directories. All else is the runtime's.

FACTS: "runtime" (its path), "options" (of its checkpoint and restore), "images", "work", "criu_config"; for a
checkpoint "ps-socket" and "status-fd" too, descriptors that podman, the parent of this process, has; for a restore
"changes", a directory with what the container has changed in its root, or "".
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

RUNTIME_PID = "runtime.pid"  # as engine.py has it; in FACTS["work"], of a restore
PS_SOCKET, STATUS = 200, 201  # as FACTS["criu_config"] has them
_PIDFD_GETFD = 438
FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}


def take(pid: int, fd: int) -> int:
    """A copy of another process's descriptor. Raises OSError."""
    pidfd = os.pidfd_open(pid)
    try:
        copy = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, fd, 0)
        if copy < 0:
            raise OSError(ctypes.get_errno(), f"can't take descriptor {fd} of podman")
        return int(copy)
    finally:
        os.close(pidfd)


def with_paths(arguments: list[str], facts: dict[str, Any], verb: str) -> tuple[list[str], str]:
    """The arguments with the migration's directories in place of podman's; podman's directory of images."""
    changed, theirs = [], ""
    words = iter(arguments)
    for word in words:
        if word == "--image-path":
            theirs = next(words)
            changed += [word, facts["images"]]
        elif word == "--work-path":
            next(words)
            changed += [word, facts["work"]]
        elif word != "--leave-running":
            changed.append(word)
            if word == verb:
                changed += facts["options"]
    return changed, theirs


def change_root(arguments: list[str], changes: str) -> None:
    """Give the container's root, an overlayfs that podman has just mounted, these. Raises OSError, ValueError."""
    bundle = arguments[arguments.index("--bundle") + 1]
    root = json.loads(Path(bundle, "config.json").read_text())["root"]["path"]
    os.chdir(Path(root, "../.."))  # podman may have named the others from there
    flags, options = mounted(root)
    given = dict(word.partition("=")[::2] for word in options.split(","))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(root.encode(), 0) < 0:
        raise OSError(ctypes.get_errno(), f"can't unmount {root}")
    shutil.rmtree(given["upperdir"])
    Path(changes).rename(given["upperdir"])
    shutil.rmtree(Path(given["workdir"], "work"))  # else one that was mounted volatile (podman run --rm) is refused
    if libc.mount(b"overlay", root.encode(), b"overlay", flags, options.encode()) < 0:
        raise OSError(ctypes.get_errno(), f"can't mount {root} with {options}")


def mounted(root: str) -> tuple[int, str]:
    """The flags and options of the overlayfs there. Raises ValueError."""
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        before, _, after = line.partition(" - ")
        point, flags = before.split()[4:6]
        kind, _, options = after.split(" ", 2)
        if kind == "overlay" and point == root:
            return sum(FLAGS.get(word, 0) for word in flags.split(",")), options.partition(",")[2]
    raise ValueError(f"no overlayfs is at {root}")


def checkpoint(arguments: list[str], facts: dict[str, Any]) -> int:
    """Until it serves."""
    arguments, theirs = with_paths(arguments, facts, "checkpoint")
    podman = os.getppid()
    os.dup2(take(podman, facts["ps-socket"]), PS_SOCKET)
    told = take(podman, facts["status-fd"])
    served, status = os.pipe()
    os.dup2(status, STATUS)
    os.close(status)
    said = Path(facts["work"], "runtime.out")
    with said.open("wb") as output:
        runtime = subprocess.Popen(
            [facts["runtime"], *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            pass_fds=(PS_SOCKET, STATUS), start_new_session=True,
            env={**os.environ, "CRIU_CONFIG_FILE": facts["criu_config"]},
        )  # fmt: skip
    os.close(STATUS)
    os.close(PS_SOCKET)
    if os.read(served, 1) != b"\0":
        sys.stderr.write(said.read_text(errors="replace"))
        return runtime.wait() or 1
    # podman looks for this one, and sends what is there.
    Path(theirs).mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(facts["images"], "inventory.img"), theirs)
    os.write(told, b"\0")
    return 0


def main() -> int:
    facts = json.loads(Path(sys.argv[1]).read_text())
    arguments = sys.argv[2:]
    if "checkpoint" in arguments and "--image-path" in arguments:
        return checkpoint(arguments, facts)
    if "restore" in arguments and "--image-path" in arguments:
        arguments, _ = with_paths(arguments, facts, "restore")
        os.environ["CRIU_CONFIG_FILE"] = facts["criu_config"]
        if facts["changes"]:
            change_root(arguments, facts["changes"])
        pid = Path(facts["work"], RUNTIME_PID)
        pid.with_suffix(".new").write_text(f"{os.getpid()}\n")  # it becomes the runtime
        pid.with_suffix(".new").rename(pid)
    os.execv(facts["runtime"], [facts["runtime"], *arguments])


if __name__ == "__main__":
    sys.exit(main())
