"""podman: `podman container checkpoint --export` and `podman container restore --import`, by its own OCI runtime.

podman holds the container's lock for as long as its runtime dumps, and a lazy dump lasts until the last page is over.
So for these two commands alone it runs podman_shim.py in the runtime's place, by CONTAINERS_CONF_OVERRIDE: the runtime
goes on in the background. podman's archive (its configuration, network, log) goes over with the images; volumes, and
what changed in the root, go by rsync, as they may be large: the shim puts the latter in its place there.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from criu_lazy_ext.engines import podman_pod, podman_shim
from criu_lazy_ext.engines.engine import (
    ARCHIVE,
    NAMED_HERE,
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
    script,
)
from criu_lazy_ext.engines.oci import OciRuntime, for_criu, for_runtime, without_criu
from criu_lazy_ext.profile import Container, Criu

ANSWERS_WITHIN_S = 60.0
RUNTIMES: dict[str, list[str]] = {"crun": [], "runc": ["--lazy-pages"]}
OVERRIDE = "CONTAINERS_CONF_OVERRIDE"
NETWORKS = ("bridge", "host", "none")
NO_SUCH_CONTAINER = 1  # a status of `podman container exists`
CHANGES = "rootfs-diff.tar"  # in podman's archive
FORGETS_AGAIN_S = (0.0, 0.2, 1.0)


class Podman:
    """One container of root's podman."""

    detaches = True

    def __init__(self, container: Container) -> None:
        self.container = container
        self.runtime = ""  # of the container, once it was found
        self.changes: Path | None = None  # in its root, likewise, if they are sent by rsync
        self.pod: podman_pod.Pod | None = None  # that it is in, likewise

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Raises EngineError if podman can't be run."""
        return run([*podman(self.container.root), *words], ANSWERS_WITHIN_S)

    def inspect(self) -> dict[str, Any] | None:
        """What podman knows of the container; None if it knows none of this name. Raises EngineError."""
        done = self.run("container", "inspect", self.container.name)
        if done.returncode:
            if not self._exists():
                return None
            raise EngineError(f"podman container inspect {self.container.name}: {complaint(done.stderr)}")
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    def _exists(self) -> bool:
        return self.run("container", "exists", self.container.name).returncode != NO_SUCH_CONTAINER

    # ---- the source ----

    def find(self) -> Found:
        """The running container. Raises EngineError."""
        name = self.container.name
        config = self.inspect()
        if config is None:
            raise UnknownContainer(f"container.name: podman knows no container {name!r}; see podman ps")
        if config["State"]["Status"] != "running":
            raise NotRunning(name, config["State"]["Status"])
        self.runtime = str(config["OCIRuntime"])
        self.pod = podman_pod.find(podman(self.container.root), config["Pod"]) if config.get("Pod") else None
        storage = store(self.container.root).overlay
        if storage is not None and self.container.files == "sync" and config["GraphDriver"]["Name"] == "overlay":
            upper = Path(config["GraphDriver"]["Data"]["UpperDir"])
            self.changes = upper if upper.is_relative_to(storage) else None
        return Found(int(config["State"]["Pid"]), Path(config["StaticDir"]), Path("/"), config, self.runtime)

    def pod_of(self, found: Found) -> str:
        """Its name."""
        return self.pod.name if self.pod is not None else ""

    def obstacles(self, found: Found) -> list[str]:
        """Its runtime, network, volumes, pod."""
        name, config, problems = self.container.name, found.config, []
        if found.runtime not in RUNTIMES:
            problems.append(f"container {name!r} is run by {found.runtime}: {' and '.join(RUNTIMES)} can dump")
        problems += without_criu(found.runtime)
        mode = str(config["HostConfig"]["NetworkMode"])
        is_pods = self.container.pod is not None and self.pod is not None
        if mode.partition(":")[0] not in NETWORKS and not is_pods:
            problems.append(f"container {name!r} has the network {mode!r}: {', '.join(NETWORKS)} can be moved")
        elif mode.partition(":")[0] == "bridge":
            names = config["NetworkSettings"].get("Networks") or {}
            shared = podman_pod.shared_networks(podman(self.container.root), names)
            problems += [f"container {name!r} has {said}" for said in shared]
        for mount in config["Mounts"]:
            if mount["Type"] == "volume" and mount.get("Driver", "local") != "local":
                volume = f"{mount['Name']!r} is of the driver {mount['Driver']}"
                problems.append(f"container {name!r}: its volume {volume}: only local ones go by rsync")
        if is_pods and self.pod is not None and self.pod.name == self.container.pod:
            return [*problems, *(self.pod.obstacles() if self._leads() else ())]
        if config.get("Pod"):
            pod = f"the pod {self.pod.name!r}" if self.pod is not None else "a pod"
            way_out = "it moves as one, by criu-lazy evacuate (init --evacuate writes a plan)"
            problems.append(f"container {name!r} is in {pod}, which would stay here: {way_out}")
        elif self.container.pod is not None:
            problems.append(f"container {name!r} is not in the pod {self.container.pod!r}")
        return problems

    def trees(self, found: Found) -> list[Tree]:
        """What has changed in the root, podman's volumes and the profile's; all others are in podman's archive."""
        others = self._volumes_of_others()
        own = [path for name, path in self._volumes(found).items() if name not in others]
        paths = [*map(Path, own), *self.container.volumes]
        volumes = [Tree(path, path) for path in paths]
        storage = store(self.container.root).overlay
        if self.changes is None or storage is None:
            return volumes
        return [Tree(self.changes, self._staged(storage), changes=True), *volumes]

    def _volumes_of_others(self) -> set[str]:
        """Those that another container of its pod sends: of two that have one, the first by name."""
        before = [name for name in self.pod.members() if name < self.container.name] if self.pod is not None else []
        found = [podman_pod.inspect([*podman(self.container.root), "container"], name) for name in before]
        return {mount["Name"] for one in found if one for mount in one["Mounts"] if mount["Type"] == "volume"}

    def _staged(self, storage: Path) -> Path:
        """Where the changes are, until the shim puts them in their place: below podman's mount, to be renamed."""
        return storage / f"criu-lazy-{self.container.name}"

    @staticmethod
    def _volumes(found: Found) -> dict[str, str]:
        return {mount["Name"]: mount["Source"] for mount in found.config["Mounts"] if mount["Type"] == "volume"}

    def expectations(self, found: Found) -> dict[str, Any]:
        """The image, networks, and what is mounted from the host."""
        binds = {mount["Source"]: mount["RW"] for mount in found.config["Mounts"] if mount["Type"] == "bind"}
        synced = self.container.files == "sync"
        sent = self.container.volumes if synced else []
        there = [path for path in binds if not any(Path(path).is_relative_to(top) for top in sent)]
        return {
            "binds": there,
            "written": [path for path in there if binds[path]],
            "image": found.config["Image"],
            "image_name": found.config["ImageName"],
            "networks": list(found.config["NetworkSettings"].get("Networks") or {}),
            "runtime": found.runtime,
            "volumes": self._volumes(found),
            "overlay": str(store(self.container.root).overlay) if self.changes is not None else "",
            "rsync": synced and bool(self.trees(found)),
            "pod": self.pod.expectations() if self._leads() and self.pod is not None else None,
        }

    def changed(self) -> str:
        """The leader's agent has made the pod there; it is he who looks."""
        return self.pod.changed() if self._leads() and self.pod is not None else ""

    def _leads(self) -> bool:
        """Whether the pod that it is in is made for it."""
        return self.container.pod is not None and self.pod is not None and self.pod.leader() == self.container.name

    def checkpoint(self, directory: Path, criu: Criu, descriptors: Mapping[str, int]) -> Command:
        """It ends when pages can be asked for and the archive is there."""
        options = [*criu.options(), *criu.dump_options]
        ours = {"ps-socket": podman_shim.PS_SOCKET, "status-fd": podman_shim.STATUS}
        told = ["--lazy-pages", *for_criu(options), *(f"--{name}={fd}" for name, fd in ours.items())]
        config = criu_file(directory / "dump.conf", told)["CRIU_CONFIG_FILE"]
        environment = self._shim(
            directory, self.runtime, options,
            {"images": str(directory / "images"), "work": str(directory), "criu_config": config, **descriptors},
        )  # fmt: skip
        argv = [*podman(self.container.root), "container", "checkpoint", "--leave-running", "--compress", "none"]
        if self.changes is not None:
            argv.append("--ignore-rootfs")
        argv += ["--ignore-volumes", "--export", str(directory / "images" / ARCHIVE), self.container.name]
        return Command(argv, environment, directory / "dump.out")

    def disable_restart(self) -> None:
        """podman would start it anew when it ends, were that its policy. The destination has it from the archive."""
        self._set_restart("no")

    def kept(self, found: Found) -> dict[str, Any]:
        """Its restart policy, as `podman update` takes it."""
        policy = found.config["HostConfig"]["RestartPolicy"]
        retries = f":{policy['MaximumRetryCount']}" if policy["MaximumRetryCount"] else ""
        return {"restart": f"{policy['Name'] or 'no'}{retries}"}

    def enable_restart(self, kept: Mapping[str, Any]) -> None:
        """The policy."""
        if kept["restart"] != "no" and self.inspect() is not None:
            self._set_restart(kept["restart"])

    def _set_restart(self, policy: str) -> None:
        done = self.run("update", f"--restart={policy}", self.container.name)
        if done.returncode:
            raise EngineError(f"podman update --restart={policy} {self.container.name}: {complaint(done.stderr)}")

    # ---- the destination ----

    def lacking(self, expected: Mapping[str, Any]) -> list[str]:
        """What is missing here, or in the way."""
        for program in ("podman", expected["runtime"], *(["rsync"] if expected["rsync"] else [])):
            if shutil.which(program) is None:
                return [f"{program} is not installed"]
        overlay = store(self.container.root).overlay
        problems = [*without_criu(expected["runtime"]), *missing_binds(expected)]
        if expected["overlay"] and expected["overlay"] != str(overlay):
            paths = f"podman has roots in {overlay or 'no overlayfs'}, and in {expected['overlay']} at the source"
            problems.append(f"{paths}: what has changed in them can go by podman's archive (container.files: shared)")
        name, short = expected["image_name"], expected["image"][:12]
        if self.run("image", "exists", expected["image"]).returncode:
            # By its name, which podman's restore looks for, too: by the ID alone it would be saved without one.
            way_out = f"at the source, podman save {name} | ssh {NAMED_HERE} podman load"
            problems.append(f"image {name} ({short}) is missing: {way_out}")
        elif self.run("image", "exists", name).returncode:
            problems.append(f"image {short} has not the name {name}, which podman looks for: podman tag {short} {name}")
        for network in expected["networks"]:
            if network not in ("host", "none") and self.run("network", "exists", network).returncode:
                problems.append(f"network {network} is missing; see podman network create")
        for name, path in expected["volumes"].items():
            there = self.run("volume", "inspect", "--format", "{{.Mountpoint}}", name).stdout.strip()
            if there not in ("", path):
                problems.append(f"volume {name} is at {there}, and at {path} at the source: the paths must be the same")
        if expected.get("pod"):
            problems += podman_pod.lacking(podman(self.container.root), expected["pod"])
        if (found := self.inspect()) is not None:
            name, status = self.container.name, found["State"]["Status"]
            problems.append(f"podman has a container {name!r} already ({status}): if it is of no use, podman rm {name}")
        return problems

    def make_room(self, expected: Mapping[str, Any]) -> str:
        """Its volumes, and its pod. Raises EngineError."""
        for name in expected["volumes"]:
            done = self.run("volume", "create", "--ignore", name)
            if done.returncode:
                raise EngineError(f"podman volume create {name}: {complaint(done.stderr)}")
        return podman_pod.make(podman(self.container.root), expected["pod"]) if expected.get("pod") else ""

    def clear_room(self) -> None:
        """Its pod, unless there is something in it. Raises EngineError."""
        if self.container.pod is not None:
            podman_pod.remove_empty(podman(self.container.root), self.container.pod)

    def restore(self, directory: Path, criu_options: Sequence[str], gate: Path) -> Command:
        """From the archive; conmon, which podman starts, runs the runtime."""
        work = directory / "work"
        archive = directory / "images" / ARCHIVE
        runtime, has_changes, pod_here = self._read(archive)
        told = ["--lazy-pages", "--action-script", str(gate), *for_criu(criu_options)]
        config = criu_file(work / "restore.conf", told)["CRIU_CONFIG_FILE"]
        storage = store(self.container.root).overlay
        staged = self._staged(storage) if storage is not None else None
        is_staged = staged is not None and not has_changes and self.container.files == "sync" and staged.is_dir()
        facts = {"images": str(directory / "images"), "work": str(work), "criu_config": config}
        facts["changes"] = str(staged) if is_staged else ""
        environment = self._shim(work, runtime, criu_options, facts)
        argv = [*podman(self.container.root), "container", "restore", "--keep", "--ignore-volumes"]
        argv += ["--import", str(archive)]
        if self.container.pod is not None:
            # By its ID. To ask podman for it would be to wait for those of it that are restored, until they run.
            podman_pod.move_groups(directory / "images", pod_here, self.container.pod)
            argv += ["--pod", self.container.pod]
        return Command(argv, environment, work / "restore.out")

    # ---- both ----

    def failure(self, work: Path) -> str:
        """What podman said last, without the runtime's command line; and what the runtime said."""
        said = []
        for name in ("dump.out", "restore.out", "runtime.out"):
            if (path := work / name).exists() and (lines := path.read_text(errors="replace").strip().splitlines()):
                who = self.runtime if name == "runtime.out" else "podman"  # the source's alone
                said.append(f"{who}: {re.sub('`[^`]{80,}`', 'its runtime', lines[-1].strip())}")
        return ", ".join(said)

    def forget(self) -> None:
        """`podman rm`, if podman still knows it. Raises EngineError."""
        if (storage := store(self.container.root).overlay) is not None:
            shutil.rmtree(self._staged(storage), ignore_errors=True)
        found, said = None, ""
        for seconds in FORGETS_AGAIN_S:
            if not self._exists():
                break
            time.sleep(seconds)
            with contextlib.suppress(EngineError):  # podman removes it itself at this moment, of `podman run --rm`
                found = self.inspect() or found
            said = self.run("rm", "--force", "--ignore", "--time", "0", "--volumes", self.container.name).stderr
        if self._exists():
            raise EngineError(f"podman rm {self.container.name}: {complaint(said)}")
        if found is not None:
            # podman takes one whose restore was killed for one that its runtime never had.
            OciRuntime(Container(found["OCIRuntime"], found["Id"]), found["OCIRuntime"]).forget()
        self.clear_room()

    @staticmethod
    def _read(archive: Path) -> tuple[str, bool, str]:
        """The container's runtime; whether what it has changed in its root is there, too; the ID of its pod, or ""."""
        import tarfile  # not above: only this is to wait for it

        try:
            with tarfile.open(archive) as tar:
                names = {name.removeprefix("./"): name for name in tar.getnames()}
                file = tar.extractfile(names["config.dump"])
                assert file is not None
                config = json.load(file)
                return str(config["runtime"]), CHANGES in names, str(config.get("pod", ""))
        except (OSError, ValueError, KeyError) as error:
            raise EngineError(f"{archive}: {error}: not an archive of podman's") from error

    def _shim(self, directory: Path, runtime: str, options: Sequence[str], facts: Mapping[str, Any]) -> dict[str, str]:
        """Make the runtime that podman is to run for one command; the environment that makes it do so."""
        path = shutil.which(runtime)
        if path is None:
            raise EngineError(f"{runtime} is not installed here")
        conmon = store(self.container.root).conmon
        known = {"runtime": path, "options": [*RUNTIMES[runtime], *for_runtime(options)], **facts}
        (directory / "shim.json").write_text(json.dumps(known))
        command = [sys.executable, "-ISB", podman_shim.__file__, str(directory / "shim.json")]
        program = script(directory / "runtime", f'exec {shlex.join(command)} "$@"')
        # conmon outlives the migration, and starts the podman that sees to the container's end.
        watcher = script(directory / "conmon", f'unset {OVERRIDE}; exec {shlex.quote(conmon)} "$@"')
        override = directory / "containers.conf"
        override.write_text(f'[engine]\nconmon_path = ["{watcher}"]\n[engine.runtimes]\n{runtime} = ["{program}"]\n')
        return {OVERRIDE: str(override)}


@dataclass(frozen=True)
class Store:
    """`conmon`: what podman runs beside a container; `overlay`: where the kernel's overlayfs has the containers' roots,
    if it does."""

    conmon: str
    overlay: Path | None


@functools.cache  # it is asked for before the freeze, and needed in it
def store(root: Path | None) -> Store:
    """As podman says. Raises EngineError."""
    done = run([*podman(root), "info", "--format", "json"], ANSWERS_WITHIN_S)
    try:
        known = json.loads(done.stdout)
        kept = known["store"]
        is_kernels = kept["graphDriverName"] == "overlay" and "overlay.mount_program" not in kept["graphOptions"]
        return Store(known["host"]["conmon"]["path"], Path(kept["graphRoot"], "overlay") if is_kernels else None)
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"podman info: {complaint(done.stderr) or repr(error)}") from error


def podman(root: Path | None) -> list[str]:
    """Its command, with this storage."""
    return ["podman", "--root", str(root)] if root else ["podman"]


def engine(container: Container) -> Podman:
    """Its runtime is the container's."""
    return Podman(container)


def running(like: Container, label: str) -> list[str]:
    """The containers that run, of a pod if it names one; a pod's infra container, which has its namespaces, is none of
    them."""
    return [
        str(one["Names"][0])
        for one in listed(like)
        if not one["IsInfra"] and has_label(one["Labels"], label) and like.pod in (None, one["PodName"])
    ]


def ids(like: Container) -> set[str]:
    """Of all that run, infra containers among them: their runtime has them by these names."""
    return {str(one["Id"]) for one in listed(like)}


def listed(like: Container) -> list[dict[str, Any]]:
    """As podman ps has those that run. Raises EngineError."""
    done = run([*podman(like.root), "ps", "--pod", "--format", "json"], ANSWERS_WITHIN_S)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return [one for one in found if one["Id"] and one["Names"]]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"podman ps: {complaint(done.stderr) or repr(error)}") from error
