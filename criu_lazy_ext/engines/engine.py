"""What a migration asks of a container engine, and which engine does it.

The engine runs CRIU: its own `checkpoint` dumps, its own `restore` restores, so that it knows afterwards what runs.
What a migration needs besides (lazy pages, descriptors, the gate) CRIU reads in a file that CRIU_CONFIG_FILE names, for
this one command; no file of the host's configuration is changed.
"""

from __future__ import annotations

import importlib
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from criu_lazy_ext.criu.contrary import options_in
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.profile import Container, Criu

ENGINES = ("podman", "runc", "crun", "containerd")  # podman's containers are its runtime's, too
# Beside the images: podman's archive; what containerd knows of the container.
ARCHIVE, RECORD = "container.tar", "containerd.json"
# In the directory of a restore: of the runtime that an engine runs for it, and, if that is a process which the engine
# starts elsewhere, of its parent.
RUNTIME_PID = "runtime.pid"


NAMED_HERE = "HOST"  # what `lacking` calls the host that it looks at: the other one knows its name (checks/check.py)


class EngineError(CriuLazyError):
    """The engine doesn't know the container, can't move it, or failed."""


class NotRunning(EngineError):
    """The engine knows it, and it can't be moved as it is."""

    def __init__(self, name: str, status: str) -> None:
        super().__init__(f"container.name: {name!r} is {status}: only a running container can be moved")


class UnknownContainer(EngineError):
    """The engine knows no container of that name."""


@dataclass(frozen=True)
class Command:
    """What is run, with what is added to its environment; `output`: a file for what it says, or None: that is lost."""

    argv: list[str]
    environment: dict[str, str]
    output: Path | None = None


@dataclass(frozen=True)
class Tree:
    """A directory here, where it goes, and what of it doesn't (as it is below it). `changes`: it is what the container
    has changed in its root, as overlayfs keeps it."""

    here: Path
    there: Path
    without: tuple[str, ...] = ()
    changes: bool = False


@dataclass(frozen=True)
class Found:
    """A running container: its first process, its bundle, its root directory, its OCI configuration (of podman's what
    podman says of it), and the OCI runtime that runs it."""

    pid: int
    bundle: Path
    rootfs: Path
    config: Mapping[str, Any]
    runtime: str = ""


@dataclass(frozen=True)
class Moved:
    """A container that is to move, and its engine."""

    engine: Engine
    found: Found


class Engine(Protocol):
    """One container of an engine, here. Every method may raise EngineError. `detaches`: its checkpoint command ends
    when CRIU serves, and has written an archive beside the images."""

    detaches: bool

    def find(self) -> Found:
        """The running container."""

    def pod_of(self, found: Found) -> str:
        """The pod that it is in, with which it has to move; "" if in none."""

    def obstacles(self, found: Found) -> list[str]:
        """Why it can't be moved, and the way out; nothing is touched."""

    def lacking(self, expected: Mapping[str, Any]) -> list[str]:
        """What this host lacks to take the container; `expected`: what `expectations` told at the source."""

    def trees(self, found: Found) -> list[Tree]:
        """What of its files is sent by rsync."""

    def expectations(self, found: Found) -> dict[str, Any]:
        """What the destination must have."""

    def make_room(self, expected: Mapping[str, Any]) -> str:
        """Make what its files go to, where that is not a plain directory; and the pod that it is restored into. The ID
        of that, or ""."""

    def clear_room(self) -> None:
        """Remove the pod that the profile names (there by its ID), if nothing is in it."""

    def checkpoint(self, directory: Path, criu: Criu, descriptors: Mapping[str, int]) -> Command:
        """Dump into directory/images, log in `directory`; `descriptors`: by the names of CRIU's options."""

    def changed(self) -> str:
        """What of its pod is no more as `find` saw it, now that all in it are frozen; "" if nothing."""

    def restore(self, directory: Path, criu_options: Sequence[str], gate: Path) -> Command:
        """Restore from directory/images, log in directory/work; CRIU runs `gate` when all is restored."""

    def disable_restart(self) -> None:
        """It runs elsewhere, and is frozen here: nothing is to start it anew when it ends."""

    def kept(self, found: Found) -> dict[str, Any]:
        """What `disable_restart` changes, as it is before."""

    def enable_restart(self, kept: Mapping[str, Any]) -> None:
        """It runs on here after all: undo what `disable_restart` did, or may have."""

    def failure(self, work: Path) -> str:
        """What the engine itself said of its last failure; "" if nothing."""

    def forget(self) -> None:
        """Remove what the engine still has of a container whose processes have ended; none of it is no error."""


def run(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """An engine's command, to its end. Raises EngineError if it can't be run, or takes more than `seconds`."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds
        )
    except OSError as error:
        raise EngineError(f"{command[0]}: {error.strerror}; is it installed here?") from error
    except subprocess.TimeoutExpired:
        raise EngineError(f"{shlex.join(command)}: no answer in {seconds:g} s") from None


def complaint(stderr: str) -> str:
    """What an engine's command said of its failure, in one line: without its log, if there is anything else."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return "; ".join([line for line in lines if not line.startswith("time=")] or lines[-1:])


def find(container: Container) -> Moved:
    """The running container. Raises EngineError."""
    engine = engine_of(container)
    return Moved(engine, engine.find())


def container_named(name: str, engine: str | None = None) -> Container:
    """A running container, of that engine, or of whichever here knows it. Raises EngineError."""
    engines = [engine] if engine else [each for each in ENGINES if shutil.which(each)]
    broken = []
    for each in engines:
        container = Container(each, name)
        try:
            engine_of(container).find()
            return container
        except UnknownContainer:
            pass
        except NotRunning:
            raise
        except EngineError as error:  # another may know it
            broken.append(str(error))
    know = f"{', '.join(engines)} know{'' if engines[1:] else 's'}"
    looked = f"{know} no container {name!r}" if engines else f"none of {', '.join(ENGINES)} is here"
    raise UnknownContainer("; ".join([f"{looked}; see podman ps, runc list, crun list, ctr containers ls", *broken]))


def running(like: Container, label: str) -> list[str]:
    """The names of all that run of that engine (and root, or namespace), with `label`: a key, or key=value; "": all.

    Raises EngineError.
    """
    module = importlib.import_module(f"criu_lazy_ext.engines.{like.engine}")
    names: list[str] = module.running(like, label)
    return sorted(names)


def has_label(labels: Mapping[str, str] | None, label: str) -> bool:
    """Whether the key, or key=value, is among them; "" always is."""
    key, given, value = label.partition("=")
    return not label or (key in (labels or {}) and (not given or (labels or {})[key] == value))


def engine_of(container: Container) -> Engine:
    """The engine that the profile names. Raises EngineError."""
    module = importlib.import_module(f"criu_lazy_ext.engines.{container.engine}")
    engine: Engine = module.engine(container)
    return engine


def container_as_message(container: Container) -> dict[str, Any]:
    """For the other host, or the journal."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(container).items()} | {
        "volumes": [str(volume) for volume in container.volumes]
    }


def container_of_message(message: Mapping[str, Any]) -> Container:
    """What `container_as_message` was given."""
    paths = {name: Path(message[name]) if message[name] else None for name in ("root", "bundle")}
    return Container(**{**message, **paths, "volumes": [Path(volume) for volume in message["volumes"]]})


def missing_binds(expected: Mapping[str, Any]) -> list[str]:
    """Of the bind mounts that are not sent, those that this host lacks, and the way out."""
    way_out = "make it there, or name it in container.volumes, and it goes with the container"
    return [f"bind mount {path} is missing: {way_out}" for path in expected["binds"] if not Path(path).exists()]


def script(path: Path, command: str) -> Path:
    """A program of some lines of shell."""
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o700)
    return path


def criu_file(path: Path, options: Sequence[str]) -> dict[str, str]:
    """Write a configuration file of CRIU's with these options; the environment that makes CRIU read it."""
    lines = []
    for given in options_in(options):
        value = "" if given.value is None else ' "' + given.value.replace('"', '\\"') + '"'
        lines.append(f"{given.name}{value}\n")
    try:
        path.write_text("".join(lines))
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}") from error
    return {"CRIU_CONFIG_FILE": str(path)}
