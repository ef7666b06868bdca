"""podman's pods: several containers, and an infra container that has their network, moved as one by `evacuate`.

podman restores a container into a pod that is there. So at the destination the pod is made anew as it was made, with
the addresses that it had, before any of its containers is frozen: by the agent of the first of them by name, which
leads. What is in the infra container itself, a process that waits, does not move.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from criu_lazy_ext.engines.engine import NAMED_HERE, EngineError, complaint, run
from criu_lazy_ext.system import loopback
from criu_lazy_ext.system.net_namespace import within
from criu_lazy_ext.system.nftables import FilterError
from criu_lazy_ext.system.processes import others_with

ANSWERS_WITHIN_S = 60.0
UNDONE_WITHIN_S = 10.0
SHARED = {"ipc", "net", "uts"}  # namespaces that criu has a container join again
PAUSE = "localhost/podman-pause:"  # an image that podman makes itself
# Of `podman pod create`: what is said anew, with a value and without; addresses hang on the network.
REPLACED, LEFT_OUT = ("--network", "--net", "--ip", "--ip6", "--mac-address"), ("--replace",)
FILES = ("--pod-id-file", "--infra-conmon-pidfile")


@dataclass(frozen=True)
class Pod:
    """A pod here: what podman says of it, and of its infra container (None: it has none)."""

    podman: Sequence[str]
    config: Mapping[str, Any]
    infra: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        return str(self.config["Name"])

    def members(self) -> dict[str, str]:
        """The states of its containers but the infra container, by name."""
        infra = self.config.get("InfraContainerID")
        return {each["Name"]: each["State"] for each in self.config.get("Containers") or [] if each["Id"] != infra}

    @property
    def made(self) -> float:
        """When, as time.time(); inf if podman doesn't say."""
        try:
            return datetime.fromisoformat(str(self.config["Created"])).timestamp()
        except (KeyError, ValueError):
            return math.inf

    def leader(self) -> str:
        """The container whose agent makes the pod there."""
        return min((name for name, state in self.members().items() if state == "running"), default="")

    def obstacles(self) -> Iterator[str]:
        """Why it can't be made elsewhere as it is."""
        what = f"pod {self.name!r}"
        if self.infra is None:
            yield f"{what} has no infra container: podman restores none into it"
            return
        if other := set(self.config.get("SharedNamespaces") or []) - SHARED:
            yield f"{what} shares its {', '.join(sorted(other))} namespace: {', '.join(sorted(SHARED))} can be moved"
        if self.create_arguments() is None:
            yield f"{what} was not made by podman pod create: it can't be made there by the same command"
        mode = str(self.infra["HostConfig"]["NetworkMode"]).partition(":")[0]
        if mode not in ("bridge", "none"):
            yield f"{what} has the network {mode!r}: bridge, none can be moved"
        if stopped := [name for name, state in self.members().items() if state != "running"]:
            yield f"{what} has containers that don't run, which would be lost: podman rm {' '.join(stopped)}"
        try:
            if mode == "bridge":
                names = self.infra["NetworkSettings"].get("Networks") or {}
                yield from (f"{what} has {said}" for said in shared_networks(self.podman, names))
            if left := self.left_behind():
                yield left
        except EngineError as error:
            yield str(error)

    def left_behind(self) -> str:
        """What would stay in what its containers share, in words; "" if nothing. Raises EngineError."""
        if self.infra is None or "ipc" not in (self.config.get("SharedNamespaces") or []):
            return ""
        left = shared_objects(self.infra["State"]["Pid"])
        way_out = "which stays (podman pod create --share net,uts)"
        return f"pod {self.name!r} has {left} in its shared IPC namespace, {way_out}" if left else ""

    def changed(self) -> str:
        """What isn't any more as it was found, though it is to be, in words; "" if nothing. Raises EngineError."""
        now = find(self.podman, str(self.config["Id"]))
        members = sorted(now.members()) if now is not None else []
        if members != sorted(self.members()):
            return f"pod {self.name!r} has other containers than in the preflight: {', '.join(members) or 'none'}"
        return self.left_behind()

    def create_arguments(self) -> list[str] | None:
        """What `podman pod create` was told; None: it was made otherwise."""
        words = [str(word) for word in self.config.get("CreateCommand") or []]
        at = next((at for at in range(len(words)) if words[at : at + 2] == ["pod", "create"]), None)
        return None if at is None else words[at + 2 :]

    def to_create(self) -> list[str]:
        """What it is told to make the same, with the same addresses."""
        given = iter(self.create_arguments() or [])
        infra = self.infra or {}
        networks = infra["NetworkSettings"].get("Networks") or {}
        is_bridge = str(infra["HostConfig"]["NetworkMode"]).startswith("bridge")
        told: list[str] = []
        options: dict[str, str] = {}  # of each network
        for word in given:
            option, is_joined, value = word.partition("=")
            if option in (*FILES, *(REPLACED if is_bridge else ())):
                network, _, said = (value if is_joined else next(given, "")).partition(":")
                options[network] = said
            elif option not in LEFT_OUT:
                told.append(word)
        # In the order in which they were named: podman counts its interfaces, eth0 and on, by it.
        for name in sorted(networks, key=list(options).index if set(networks) <= set(options) else None, reverse=True):
            if is_bridge:
                told = ["--network", network_with(name, networks[name], options.get(name, "")), *told]
        if self.name not in told and f"--name={self.name}" not in told:
            told = ["--name", self.name, *told]
        return told

    def expectations(self) -> dict[str, Any] | None:
        """What the destination is told of it; None: it has no infra container (obstacles)."""
        if (infra := self.infra) is None:
            return None
        image = "" if str(infra["ImageName"]).startswith(PAUSE) else str(infra["ImageName"])
        networks = list(infra["NetworkSettings"].get("Networks") or {})
        return {"name": self.name, "create": self.to_create(), "runtime": infra["OCIRuntime"], "image": image,
            "networks": networks}  # fmt: skip


def shared_networks(podman: Sequence[str], names: Iterable[str]) -> Iterator[str]:
    """Those by which others than this host see who has an address, in words: while memory follows, both hosts have it.
    Raises EngineError."""
    for name in names:
        network = inspect([*podman, "network"], name) or {}
        driver, mode = network.get("driver"), (network.get("options") or {}).get("mode")
        if driver != "bridge" or mode == "unmanaged":
            kind = f"of the driver {driver}" if driver != "bridge" else "an unmanaged bridge"
            said = "its addresses would be at both hosts at once: only podman's own bridges can be moved"
            yield f"the network {name!r}, {kind}: {said}"


def network_with(name: str, has: Mapping[str, Any], options: str) -> str:
    """A network for --network, with the addresses that it had there, and what else was said of it."""
    known = {"ip": has.get("IPAddress"), "ip6": has.get("GlobalIPv6Address"), "mac": has.get("MacAddress")}
    told = [f"{key}={value}" for key, value in known.items() if value]
    told += [word for word in options.split(",") if word and word.partition("=")[0] not in known]
    return f"{name}:{','.join(told)}" if told else name


def find(podman: Sequence[str], name: str) -> Pod | None:
    """The pod of that name, or ID; None: there is none. Raises EngineError."""
    config = inspect([*podman, "pod"], name)
    if config is None:
        return None
    infra = config.get("InfraContainerID")
    return Pod(podman, config, inspect([*podman, "container"], infra) if infra else None)


def inspect(command: Sequence[str], name: str) -> dict[str, Any] | None:
    """None: there is none of that name. Raises EngineError."""
    done = run([*command, "inspect", "--", name], ANSWERS_WITHIN_S)
    try:
        found = json.loads(done.stdout or "null")
        found = next(iter(found), None) if isinstance(found, list) else found  # podman 4 has no list of a pod
        if done.returncode == 0 and found:
            return dict(found)
    except (ValueError, TypeError) as error:
        raise EngineError(f"{' '.join(command)} inspect {name}: {error!r}") from error
    if run([*command, "exists", name], ANSWERS_WITHIN_S).returncode == 1:
        return None
    raise EngineError(f"{' '.join(command)} inspect {name}: {complaint(done.stderr)}")


def lacking(podman: Sequence[str], expected: Mapping[str, Any]) -> list[str]:
    """What is missing here, or in the way, of a pod."""
    problems, name = [], str(expected["name"])
    deadline = time.monotonic() + UNDONE_WITHIN_S
    while True:
        # That of an earlier try, whose driver was killed, began before it made the pod, and ends when that is gone.
        agents = others_with("agent").values()
        pod = find(podman, name)
        if pod is None or "running" in pod.members().values() or time.monotonic() > deadline:
            break
        if not any(began < pod.made for began in agents):
            break
        time.sleep(0.2)
    if pod is not None:
        problems.append(f"podman has a pod {name!r} already: if it is of no use, podman pod rm {name}")
    image = expected["image"]
    if image and run([*podman, "image", "exists", image], ANSWERS_WITHIN_S).returncode:
        way_out = f"at the source, podman save {image} | ssh {NAMED_HERE} podman load"
        problems.append(f"image {image} of the pod's infra container is missing: {way_out}")
    for network in expected["networks"]:
        if run([*podman, "network", "exists", network], ANSWERS_WITHIN_S).returncode:
            problems.append(f"network {network} is missing; see podman network create")
    return problems


def make(podman: Sequence[str], expected: Mapping[str, Any]) -> str:
    """The pod, its infra container running, what is sent within it held back (loopback.let_go): its ID.

    Raises EngineError; nothing is left then.
    """
    command = [*podman, "--runtime", expected["runtime"], "pod"]
    done = run([*command, "create", *expected["create"]], ANSWERS_WITHIN_S)
    if done.returncode:
        raise EngineError(f"podman pod create {expected['name']}: {complaint(done.stderr)}")
    made = done.stdout.split()[-1]
    done = run([*command, "start", made], ANSWERS_WITHIN_S)
    if done.returncode:
        remove_empty(podman, made)
        raise EngineError(f"podman pod start {expected['name']}: {complaint(done.stderr)}")
    try:
        pod = find(podman, made)
        if pod is not None and pod.infra is not None and "net" in (pod.config.get("SharedNamespaces") or []):
            loopback.hold(pod.infra["State"]["Pid"])
    except (FilterError, OSError) as error:
        remove_empty(podman, made)
        raise EngineError(f"pod {expected['name']}: {error}") from error
    return made


def remove_empty(podman: Sequence[str], name: str) -> None:
    """The pod, if nothing but its infra container is left in it. Raises EngineError."""
    pod = find(podman, name)
    if pod is None or pod.members():
        return
    done = run([*podman, "pod", "rm", "--force", "--time", "0", name], ANSWERS_WITHIN_S)
    if done.returncode and run([*podman, "pod", "exists", name], ANSWERS_WITHIN_S).returncode != 1:
        raise EngineError(f"podman pod rm {name}: {complaint(done.stderr)}")


def shared_objects(pid: int) -> str:
    """What there is in that process's IPC namespace, in words; "" if nothing. Raises EngineError."""
    try:
        if any(Path(f"/proc/{pid}/root/dev/shm").iterdir()):
            return "files in /dev/shm"
        namespace = os.open(f"/proc/{pid}/ns/ipc", os.O_RDONLY | os.O_CLOEXEC)
        try:
            kinds = within(namespace, lambda _: [kind for kind in ("shm", "sem", "msg") if system_v(kind)])
        finally:
            os.close(namespace)
    except OSError as error:
        raise EngineError(f"process {pid}: {error.strerror}: its IPC namespace can't be looked at") from error
    return f"System V objects ({', '.join(kinds)})" if kinds else ""


def system_v(kind: str) -> list[str]:
    """The rows of this IPC namespace's objects."""
    return Path("/proc/sysvipc", kind).read_text().splitlines()[1:]


def move_groups(images: Path, here: str, there: str) -> None:
    """Have criu find the control groups that podman has made: a pod's ID is part of their paths, and is as long as the
    other one, so nothing else of the image changes. Raises EngineError."""
    path = images / "cgroup.img"
    try:
        if len(here) != len(there):
            raise EngineError(f"{path}: {there} can't take the place of {here}")
        path.write_bytes(path.read_bytes().replace(here.encode(), there.encode()))
    except FileNotFoundError:
        return
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}") from error
