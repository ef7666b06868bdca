"""containerd: its runtime dumps, and its shim has the runtime restore, in a task that is made like any other.

containerd's own checkpoint and restore know no lazy pages. At the source the shim only sees the container end, as it
does when its runtime has dumped it. At the destination the container's record goes in as it was, over a snapshot of the
same image which has what the container changed (rsync brings that); its task is created with options of its own: the
images to restore from, and as the runtime's program a link to a script of ours, which for the one restore tells the
runtime what a migration needs, and before that has the link lead to the runtime itself.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from criu_lazy_ext.engines import containerd_calls
from criu_lazy_ext.engines.containerd_api import (
    RUNC_OPTIONS,
    STATES,
    Api,
    NotFound,
    labelled,
    message,
    of_bytes,
    path_of,
)
from criu_lazy_ext.engines.engine import (
    NAMED_HERE,
    RECORD,
    RUNTIME_PID,
    Command,
    EngineError,
    Found,
    NotRunning,
    Tree,
    UnknownContainer,
    criu_file,
    has_label,
    missing_binds,
    script,
)
from criu_lazy_ext.engines.oci import OciRuntime, for_criu, for_runtime
from criu_lazy_ext.profile import Container, Criu

STATE = Path("/run/containerd")
TASKS = "io.containerd.runtime.v2.task"  # below it: the bundles
RUNTIME = "io.containerd.runc.v2"
PROGRAM = "runc"  # crun's containers can be restored, but the shim can't delete the task of one that crun has dumped
LAZY = ["--lazy-pages"]
OURS = Path("/run/criu-lazy/containerd")  # NAMESPACE/NAME/ below it: what outlives a migration, as its task does
CHANGES, SCRIPT = "changes", "runtime"  # links there
OTHERS = {"moby": "docker's", "k8s.io": "Kubernetes'"}  # namespaces whose owners keep their own records
RESTARTS = "containerd.io/restart."  # labels: containerd's monitor starts anew what has ended
KEPT = {"containerd.io/gc.root": "criu-lazy", "criu-lazy": "waits for its container"}  # a snapshot's
FORGETS_AGAIN_S = (0.0, 0.1, 0.3, 1.0)
# $0 is the link that leads to it: from here on to the runtime itself. The shim is this one's parent.
SCRIPT_TEXT = """ln -s {runtime} "$0.new" && mv -f "$0.new" "$0"
for word do
    shift
    set -- "$@" "$word"
    [ "$word" != restore ] || [ "$told" ] || {{ told=yes; set -- "$@" {options}; }}
done
[ ! "$told" ] || {{ echo "$$ $PPID" >{pid}.new && mv {pid}.new {pid}; }}
CRIU_CONFIG_FILE={criu_config} exec {runtime} "$@"
"""


class Containerd:
    """One container of a namespace of containerd's."""

    detaches = False

    def __init__(self, container: Container) -> None:
        self.container = container
        self.state = container.root or STATE
        self.api = Api(self.state, container.namespace)
        self.bundle = self.state / TASKS / container.namespace / container.name
        self.ours = OURS / container.namespace / container.name
        self.record: Any = None  # containerd's, once it was found
        self.changes: Path | None = None  # in its root, likewise

    # ---- the source ----

    def find(self) -> Found:
        """The running container. Raises EngineError."""
        name = self.container.name
        if not self.api.socket.exists():
            raise UnknownContainer(f"container.name: containerd does not run here: {self.api.socket} is missing")
        self.record = self.api.container(name)
        if self.record is None:
            see = f"see ctr -n {self.container.namespace} containers ls"
            raise UnknownContainer(
                f"container.name: containerd knows no container {name!r} in the namespace "
                f"{self.container.namespace}; {see}"
            )
        task = self.api.task(name)
        if task is None or STATES[task.status] != "running":
            status = STATES[task.status] if task is not None else "without a task"
            raise NotRunning(name, status)
        if self.record.snapshot_key:
            for mount in self.api.mounts(self.record.snapshotter, self.record.snapshot_key):
                self.changes = upper(mount)
        config = json.loads(self.record.spec.value)
        return Found(int(task.pid), self.bundle, self.bundle / "rootfs", config, Path(self._program(self.record)).name)

    def pod_of(self, found: Found) -> str:
        """Sandboxes are refused."""
        return ""

    def obstacles(self, found: Found) -> list[str]:
        """Whose it is, its runtime, root, terminal and network."""
        name, namespace, problems = self.container.name, self.container.namespace, []
        if namespace in OTHERS:
            whose = f"the namespace {namespace} is {OTHERS[namespace]}, which keeps its own record of {name!r}"
            problems.append(f"{whose}: that would be wrong at both ends")
        if self.record.runtime.name != RUNTIME or found.runtime != PROGRAM:
            who = f"{self.record.runtime.name} with {found.runtime}"
            problems.append(f"container {name!r} is run by {who}: only {RUNTIME} with {PROGRAM} can be moved")
        if self.record.sandbox:
            problems.append(f"container {name!r} is in the sandbox {self.record.sandbox}, which would stay here")
        if self.changes is None:
            by = self.record.snapshotter or "no snapshotter"
            problems.append(f"container {name!r} has its root by {by}: only one by overlayfs can be sent")
        elif self.container.files != "sync":
            problems.append("container.files: what has changed in a root of containerd's can only go by rsync (sync)")
        if found.config.get("process", {}).get("terminal"):
            problems.append(f"container {name!r} has a terminal, which would stay here: run it without one")
        for space in found.config.get("linux", {}).get("namespaces", []):
            if space.get("path"):
                problems.append(f"container {name!r} joins the {space['type']} namespace {space['path']} (as by --cni)")
        return problems

    def trees(self, found: Found) -> list[Tree]:
        """What has changed in the root, and the profile's volumes."""
        volumes = [Tree(volume, volume) for volume in self.container.volumes]
        return [*([Tree(self.changes, self.ours / CHANGES, changes=True)] if self.changes else []), *volumes]

    def expectations(self, found: Found) -> dict[str, Any]:
        """The image's snapshot, the runtime, and what is mounted from the host."""
        snapshot = self.api.snapshot(self.record.snapshotter, self.record.snapshot_key)
        mounted = self._oci(self.record).expectations(found)
        return {
            "binds": mounted["binds"],
            "written": mounted["written"],
            "image": self.record.image,
            "snapshotter": self.record.snapshotter,
            "snapshot": self.record.snapshot_key,
            "parent": snapshot.parent if snapshot is not None else "",
            "runtime": self._program(self.record),
        }

    def checkpoint(self, directory: Path, criu: Criu, descriptors: Mapping[str, int]) -> Command:
        """The runtime's own."""
        task = self.api.task(self.container.name)
        # What wrote to a pipe of its starter's has no reader there; a URI names who is to read.
        outputs = [path if "://" in path else "" for path in ((task.stdout, task.stderr) if task is not None else ())]
        record = {"container": base64.b64encode(self.record.SerializeToString()).decode(), "outputs": outputs}
        (directory / "images" / RECORD).write_text(json.dumps(record))
        return self._oci(self.record).checkpoint(directory, criu, descriptors)

    def disable_restart(self) -> None:
        """containerd's monitor would start it anew."""
        if (found := self.api.container(self.container.name)) is not None and restarts(found.labels):
            self.api.set_labels(self.container.name, without_restarts(found.labels))

    def kept(self, found: Found) -> dict[str, Any]:
        """Its labels for the monitor."""
        return {"labels": restarts(self.record.labels)}

    def enable_restart(self, kept: Mapping[str, Any]) -> None:
        """The labels."""
        if kept.get("labels") and (found := self.api.container(self.container.name)) is not None:
            self.api.set_labels(self.container.name, {**found.labels, **kept["labels"]})

    # ---- the destination ----

    def lacking(self, expected: Mapping[str, Any]) -> list[str]:
        """What is missing here, or in the way."""
        name, namespace = self.container.name, self.container.namespace
        for program in ("containerd", expected["runtime"], "rsync"):
            if shutil.which(program) is None:
                return [f"{program} is not installed"]
        problems = missing_binds(expected)
        if self.api.container(name) is not None:
            way_out = f"if it is of no use, ctr -n {namespace} containers rm {name}"
            problems.append(f"containerd has a container {name!r} in the namespace {namespace} already: {way_out}")
        elif (there := self._snapshot(expected)) is not None and "criu-lazy" not in there.labels:
            problems.append(f"containerd has a snapshot {expected['snapshot']!r} of the same name already")
        if self.api.snapshot(expected["snapshotter"], expected["parent"]) is None:
            image, ctr = expected["image"], f"ctr -n {namespace} images"
            way_out = f"at the source, {ctr} export - {image} | ssh {NAMED_HERE} {ctr} import -"
            problems.append(f"image {image} is missing, or not unpacked for {expected['snapshotter']}: {way_out}")
        return problems

    def _snapshot(self, expected: Mapping[str, Any]) -> Any | None:
        return self.api.snapshot(expected["snapshotter"], expected["snapshot"])

    def changed(self) -> str:
        """It is in no pod."""
        return ""

    def clear_room(self) -> None:
        """The snapshot stays."""

    def make_room(self, expected: Mapping[str, Any]) -> str:
        """A snapshot, which stays after a roll back as all files do; and the way to its changes. Raises EngineError."""
        snapshotter, key = expected["snapshotter"], expected["snapshot"]
        there = self._snapshot(expected)
        if there is not None and there.parent != expected["parent"]:
            self.api.remove_snapshot(snapshotter, key)
            there = None
        if there is None:
            self.api.prepare_snapshot(snapshotter, key, expected["parent"], KEPT)
        changes = upper(self.api.mounts(snapshotter, key)[0])
        if changes is None:
            raise EngineError(f"containerd's snapshotter {snapshotter} here is no overlayfs, as it is at the source")
        shutil.rmtree(self.ours, ignore_errors=True)
        self.ours.mkdir(parents=True, mode=0o700)
        (self.ours / CHANGES).symlink_to(changes)
        return ""

    def restore(self, directory: Path, criu_options: Sequence[str], gate: Path) -> Command:
        """By containerd's shim; this command asks for it, and ends when the container runs."""
        work = directory / "work"
        told = ["--lazy-pages", "--action-script", str(gate), *for_criu(criu_options)]
        config = criu_file(work / "restore.conf", told)["CRIU_CONFIG_FILE"]
        known = json.loads((directory / "images" / RECORD).read_text())
        record = of_bytes("Container", base64.b64decode(known["container"]))
        program = self._program(record)
        path = shutil.which(program)
        if path is None:
            raise EngineError(f"{program} is not installed here")
        own = [*LAZY, *for_runtime(criu_options)]
        words = {"runtime": path, "pid": str(work / RUNTIME_PID), "criu_config": config}
        text = SCRIPT_TEXT.format(options=shlex.join(own), **{name: shlex.quote(word) for name, word in words.items()})
        self._run_by(script(work / SCRIPT, text))
        made = [
            (path_of(method), base64.b64encode(asked.SerializeToString()).decode())
            for method, asked in self._calls(record, known["outputs"], directory)
        ]
        facts = {"socket": str(self.api.socket), "namespace": self.container.namespace, "calls": made}
        (work / RECORD).write_text(json.dumps(facts))
        (self.ours / CHANGES).unlink(missing_ok=True)  # they are all there
        argv = [sys.executable, "-IB", containerd_calls.__file__, str(work / RECORD)]
        return Command(argv, {}, work / "restore.out")

    def _calls(self, record: Any, outputs: Sequence[str], directory: Path) -> Iterator[tuple[str, Any]]:
        """What restores it. The record is made no earlier, and without the labels for the monitor, which would start a
        container that has no task: these come last."""
        labels = dict(record.labels)
        for name in restarts(labels):
            del record.labels[name]
        yield "Containers/Create", message("ContainerMessage", container=record)
        options = of_bytes("RuncOptions", record.runtime.options.value)
        options.binary_name = str(self.ours / SCRIPT)
        options.criu_image_path, options.criu_work_path = str(directory / "images"), str(directory / "work")
        stdout, stderr = outputs
        yield "Tasks/Create", message(
            "CreateTask", container_id=record.id, rootfs=self.api.mounts(record.snapshotter, record.snapshot_key),
            stdout=stdout, stderr=stderr,
            options=message("Any", type_url=RUNC_OPTIONS, value=options.SerializeToString()),
        )  # fmt: skip
        yield "Tasks/Start", message("Id", id=record.id)
        yield "Containers/Update", labelled(record.id, labels)
        # The container keeps it from now on.
        info = message("SnapshotInfo", name=record.snapshot_key)
        yield "Snapshots/Update", message(
            "SnapshotUpdate", snapshotter=record.snapshotter, info=info, mask=message("FieldMask", paths=["labels"])
        )

    # ---- both ----

    def failure(self, work: Path) -> str:
        """What containerd said, or the runtime at the source."""
        if (path := work / "restore.out").exists():
            lines = path.read_text(errors="replace").strip().splitlines()
            return lines[-1].strip() if lines else ""
        return self._oci(self.record).failure(work) if self.record is not None else ""

    def forget(self) -> None:
        """What the runtime has of it, its task, record and snapshot. Raises EngineError."""
        name = self.container.name
        found, failed = None, None
        try:
            found = self.api.container(name)
        except EngineError as error:
            failed = error
        self._oci(found or of_bytes("Container", b"")).forget()  # its next restore would fail, whoever asks for it
        if failed is not None:
            raise failed
        if found is not None:
            if self.ours.exists() and (path := shutil.which(self._program(found))) is not None:
                self._run_by(Path(path))  # the shim runs it once more
            self._end_task()
            with contextlib.suppress(NotFound):
                self.api.delete_container(name)
            with contextlib.suppress(NotFound):
                self.api.remove_snapshot(found.snapshotter, found.snapshot_key)
        shutil.rmtree(self.ours, ignore_errors=True)

    def _run_by(self, program: Path) -> None:
        """Have the shim run this in its runtime's place: by a link, as Debian's /run holds no programs (noexec)."""
        new = self.ours / f"{SCRIPT}.new"
        new.unlink(missing_ok=True)
        new.symlink_to(program)
        new.rename(self.ours / SCRIPT)

    def _end_task(self) -> None:
        """The shim may not have seen the end of its processes yet."""
        failed = None
        for seconds in FORGETS_AGAIN_S:
            time.sleep(seconds)
            try:
                return self.api.delete_task(self.container.name)
            except NotFound:
                return None
            except EngineError as error:
                failed = error
                with contextlib.suppress(EngineError):
                    self.api.kill_task(self.container.name)
        assert failed is not None
        raise failed

    def _oci(self, record: Any) -> OciRuntime:
        """The runtime that the shim runs, with the directory of its states."""
        program = self._program(record)
        options = of_bytes("RuncOptions", record.runtime.options.value)
        root = Path(options.root or STATE / "runc") / self.container.namespace
        container = replace(self.container, root=root, bundle=self.bundle)
        return OciRuntime(container, program, LAZY)

    @staticmethod
    def _program(record: Any) -> str:
        return of_bytes("RuncOptions", record.runtime.options.value).binary_name or "runc"


def upper(mount: Any) -> Path | None:
    """Where an overlayfs has what was changed; None of any other mount."""
    options = dict(word.partition("=")[::2] for word in mount.options)
    return Path(options["upperdir"]) if mount.type == "overlay" and "upperdir" in options else None


def restarts(labels: Mapping[str, str]) -> dict[str, str]:
    """Those for containerd's monitor."""
    return {name: value for name, value in labels.items() if name.startswith(RESTARTS)}


def without_restarts(labels: Mapping[str, str]) -> dict[str, str]:
    """All others."""
    return {name: value for name, value in labels.items() if not name.startswith(RESTARTS)}


def engine(container: Container) -> Containerd:
    """Asks containerd."""
    return Containerd(container)


def running(like: Container, label: str) -> list[str]:
    """The containers of the namespace that run."""
    return [str(found.id) for found in engine(like).api.running() if has_label(found.labels, label)]
