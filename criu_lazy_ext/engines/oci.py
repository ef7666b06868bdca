"""Runtimes with runc's command line: their containers, and how these are dumped and restored."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from criu_lazy_ext.criu.contrary import options_in
from criu_lazy_ext.engines.engine import (
    Command,
    EngineError,
    Found,
    NotRunning,
    Tree,
    UnknownContainer,
    complaint,
    criu_file,
    has_label,
    missing_binds,
    run,
)
from criu_lazy_ext.profile import Container, Criu
from criu_lazy_ext.system.mounts import unmount_below

ANSWERS_WITHIN_S = 30.0
LOG = "runtime.log"
CRUNS_LIBRARY = b"libcriu.so.2"
# Of CRIU's options, those that a runtime always decides itself: only its own option changes them.
RUNTIMES_OWN = ("tcp-established", "shell-job", "file-locks", "ext-unix-sk")


def without_criu(runtime: str) -> list[str]:
    """What keeps this one from running CRIU: crun loads a library for that, which its package only recommends."""
    if runtime != "crun" or (path := shutil.which(runtime)) is None or CRUNS_LIBRARY not in Path(path).read_bytes():
        return []
    try:
        ctypes.CDLL(CRUNS_LIBRARY.decode())
    except OSError:
        return [f"crun can't dump and restore without {CRUNS_LIBRARY.decode()}: apt install libcriu2"]
    return []


class OciRuntime:
    """One container of `program`. `lazy`: its own option for a lazy dump and restore, if it has one."""

    detaches = False

    def __init__(self, container: Container, program: str, lazy: Sequence[str] = ()) -> None:
        self.container = container
        self.program = program
        self.lazy = list(lazy)

    def command(self, *words: str) -> list[str]:
        root = ["--root", str(self.container.root)] if self.container.root else []
        return [self.program, *root, *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Raises EngineError if the runtime can't be run."""
        return run(self.command(*words), ANSWERS_WITHIN_S)

    def state(self) -> dict[str, Any] | None:
        """What the runtime says of the container; None if it knows none of this name."""
        done = self.run("state", self.container.name)
        if done.returncode:
            return None
        try:
            state: dict[str, Any] = json.loads(done.stdout)
        except ValueError as error:
            raise EngineError(f"{self.program} state {self.container.name}: not JSON: {error}") from error
        return state

    # ---- the source ----

    def find(self) -> Found:
        """The running container. Raises EngineError."""
        name = self.container.name
        state = self.state()
        if state is None:
            where = f" in {self.container.root}" if self.container.root else ""
            see = f"see {self.program} list"
            raise UnknownContainer(f"container.name: {self.program} knows no container {name!r}{where}; {see}")
        if state["status"] != "running":
            raise NotRunning(name, state["status"])
        bundle = Path(state["bundle"])
        path = bundle / "config.json"
        try:
            config = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise EngineError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        root = config.get("root", {}).get("path", "rootfs")
        return Found(int(state["pid"]), bundle, bundle / root, config, self.program)

    def pod_of(self, found: Found) -> str:
        """It knows of none."""
        return ""

    def obstacles(self, found: Found) -> list[str]:
        """A terminal; the runtime's own means."""
        problems = without_criu(self.program)
        if not found.config.get("process", {}).get("terminal"):
            return problems
        return [
            *problems,
            f"container {self.container.name!r} has a terminal (process.terminal in {found.bundle}/config.json), "
            "which would stay here with who reads it: run it without one"
        ]

    def trees(self, found: Found) -> list[Tree]:
        """The bundle, the root directory, the profile's volumes."""
        bundle = Tree(found.bundle, self.container.bundle or found.bundle)
        volumes = [Tree(volume, volume) for volume in self.container.volumes]
        root = Path(os.path.normpath(found.rootfs))
        if root.is_relative_to(found.bundle):
            # It may be a mount of its own, and these are not followed.
            below = root.relative_to(found.bundle)
            return [Tree(bundle.here, bundle.there, (str(below),)), Tree(root, bundle.there / below), *volumes]
        return [bundle, Tree(root, root), *volumes]

    def disable_restart(self) -> None:
        """Nothing starts it anew."""

    def kept(self, found: Found) -> dict[str, Any]:
        """Nothing is changed."""
        return {}

    def enable_restart(self, kept: Mapping[str, Any]) -> None:
        """Nothing was changed."""

    def expectations(self, found: Found) -> dict[str, Any]:
        """Bind mounts whose source must exist there, and of those, what it may write to; namespaces that it joins."""
        mounts = found.config.get("mounts", [])
        binds = [m for m in mounts if m.get("type") == "bind" or {"bind", "rbind"} & set(m.get("options", []))]
        sent = [found.bundle, *self.container.volumes] if self.container.files == "sync" else []
        writable = {m["source"]: not {"ro", "rro"} & set(m.get("options", [])) for m in binds}
        there = [path for path in writable if not any(Path(path).is_relative_to(top) for top in sent)]
        bundle = self.container.bundle or found.bundle
        written = [path for path in there if writable[path]]
        joined = [each["path"] for each in found.config.get("linux", {}).get("namespaces", []) if each.get("path")]
        facts = {"binds": there, "written": written, "namespaces": joined}
        return {**facts, "bundle": "" if sent else str(bundle), "rsync": bool(sent)}

    def checkpoint(self, directory: Path, criu: Criu, descriptors: Mapping[str, int]) -> Command:
        """`checkpoint`, which removes the container once its processes are gone, and keeps it if it fails."""
        options = [*criu.options(), *criu.dump_options]
        told = ["--lazy-pages", *for_criu(options)]
        for name, fd in descriptors.items():
            told += [f"--{name}", str(fd)]
        environment = criu_file(directory / "dump.conf", told)
        words = ["--log", str(directory / LOG), "checkpoint", *self.lazy, *for_runtime(options)]
        words += ["--image-path", str(directory / "images"), "--work-path", str(directory), self.container.name]
        return Command(self.command(*words), environment)

    # ---- the destination ----

    def lacking(self, expected: Mapping[str, Any]) -> list[str]:
        """What is missing here, or in the way."""
        if shutil.which(self.program) is None:
            return [f"{self.program} is not installed"]
        problems = [*without_criu(self.program), *missing_binds(expected)]
        for path in expected.get("namespaces", []):
            if not Path(path).exists():
                problems.append(
                    f"namespace {path}, which config.json names, is missing: make it there, as ip netns add"
                )
        if expected["bundle"] and not (config := Path(expected["bundle"]) / "config.json").exists():
            problems.append(f"{config} is missing: container.files says that the bundle is there")
        if expected["rsync"] and shutil.which("rsync") is None:
            problems.append("rsync is not installed, and is to take the container's files")
        if (state := self.state()) is not None:
            name, way_out = self.container.name, f"if it is of no use, {self.program} delete {self.container.name}"
            problems.append(f"{self.program} has a container {name!r} already ({state['status']}): {way_out}")
        return problems

    def make_room(self, expected: Mapping[str, Any]) -> str:
        """Directories are made as they come."""
        return ""

    def changed(self) -> str:
        """It is in no pod."""
        return ""

    def clear_room(self) -> None:
        """Nothing was made."""

    def restore(self, directory: Path, criu_options: Sequence[str], gate: Path) -> Command:
        """`restore --detach`: the container's processes become children of this one's nearest reaper."""
        work = directory / "work"
        told = ["--lazy-pages", "--action-script", str(gate), *for_criu(criu_options)]
        environment = criu_file(work / "restore.conf", told)
        words = ["--log", str(work / LOG), "restore", "--detach", *self.lazy, *for_runtime(criu_options)]
        words += ["--image-path", str(directory / "images"), "--work-path", str(work)]
        words += ["--bundle", str(self.container.bundle), self.container.name]
        return Command(self.command(*words), environment)

    # ---- both ----

    def failure(self, work: Path) -> str:
        """The last error in the runtime's log."""
        with contextlib.suppress(OSError):
            lines = (work / LOG).read_text(errors="replace").strip().splitlines()
            return f"{self.program}: {lines[-1].strip()}" if lines else ""
        return ""

    def forget(self) -> None:
        """`delete --force`, if it is still known, or half known. Raises EngineError."""
        self._unmount_left()
        directory = self._state_directory()
        if not directory.exists():
            return
        done = self.run("delete", "--force", self.container.name)
        if self.state() is not None:
            raise EngineError(f"{self.program} delete --force {self.container.name}: {complaint(done.stderr)}")
        shutil.rmtree(directory, ignore_errors=True)  # crun leaves one without a state behind a restore that failed

    def _state_directory(self) -> Path:
        return (self.container.root or Path("/run") / self.program) / self.container.name

    def _unmount_left(self) -> None:
        """A restore that was killed leaves the root directory mounted a second time, where CRIU was to find it."""
        for directory in filter(None, (self.container.bundle, self._state_directory())):
            left = directory / "criu-root"
            unmount_below(left)
            with contextlib.suppress(OSError):
                left.rmdir()


def for_runtime(options: Sequence[str]) -> list[str]:
    """What the runtime itself is told of CRIU's options."""
    own = []
    for given in options_in(options):
        if given.name in RUNTIMES_OWN:
            own.append(f"--{given.name}")
        elif given.name == "manage-cgroups":
            own.append(f"--manage-cgroups-mode={given.value or 'soft'}")
    return own


def for_criu(options: Sequence[str]) -> list[str]:
    """What is left for CRIU's file."""
    rest = []
    for given in options_in(options):
        if given.name not in (*RUNTIMES_OWN, "manage-cgroups"):
            rest.append(f"--{given.name}" if given.value is None else f"--{given.name}={given.value}")
    return rest


def running(runtime: OciRuntime, label: str) -> list[str]:
    """The containers that run; `label`: one of an OCI configuration's annotations."""
    done = runtime.run("list", "--format", "json")
    try:
        listed = json.loads(done.stdout) or []
        return [
            str(each["id"])
            for each in listed
            if each["status"] == "running" and (not label or has_label(annotations_of(runtime, str(each["id"])), label))
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{runtime.program} list: {complaint(done.stderr) or repr(error)}") from error


def annotations_of(runtime: OciRuntime, name: str) -> dict[str, str]:
    """A container's; {} if it has ended."""
    state = OciRuntime(replace(runtime.container, name=name), runtime.program).state()
    return (state or {}).get("annotations") or {}
