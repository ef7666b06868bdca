"""containerd's API (gRPC on its socket, by python3-grpcio), as far as a migration needs it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from criu_lazy_ext.engines.engine import EngineError

ANSWERS_WITHIN_S = 30.0
SERVICES = "/containerd.services"
STATES = ("unknown", "created", "running", "stopped", "paused", "pausing")  # of a task, by their numbers
RUNC_OPTIONS = "containerd.runc.v1.Options"  # the type of a runtime's options, and of a task's
# The messages, after api/ in containerd's sources; what is left out here is kept as it comes. NUMBER NAME [TYPE], with
# * for a repeated field, and % for a map from strings.
MESSAGES = {
    "Any": "1 type_url; 2 value bytes",
    "Runtime": "1 name; 2 options Any",
    "Container": "1 id; 2 labels%; 3 image; 4 runtime Runtime; 5 spec Any; 6 snapshotter; 7 snapshot_key; 11 sandbox",
    "ContainerMessage": "1 container Container; 2 mask FieldMask",  # Create and Update send it, Get answers by it
    "FieldMask": "1 paths*",
    "Containers": "1 containers Container*",
    "Tasks": "1 tasks Process*",
    "Id": "1 id",  # of a container, whatever the field's name is
    "Process": "1 container_id; 2 id; 3 pid uint32; 4 status uint32; 5 stdin; 6 stdout; 7 stderr; 8 terminal bool",
    "Task": "1 process Process",
    "Mount": "1 type; 2 source; 3 target; 4 options*",
    "CreateTask": "1 container_id; 3 rootfs Mount*; 4 stdin; 5 stdout; 6 stderr; 7 terminal bool; 9 options Any",
    "KillTask": "1 container_id; 3 signal uint32; 4 all bool",
    "RuncOptions": "6 binary_name; 7 root; 9 systemd_cgroup bool; 10 criu_image_path; 11 criu_work_path",
    "Snapshot": "1 snapshotter; 2 key; 3 parent; 4 labels%",
    "SnapshotInfo": "1 name; 2 parent; 6 labels%",
    "SnapshotStat": "1 info SnapshotInfo",
    "SnapshotUpdate": "1 snapshotter; 2 info SnapshotInfo; 3 mask FieldMask",
    "Mounts": "1 mounts Mount*",
    "Empty": "",
}


class NotFound(EngineError):
    """containerd knows no such thing."""


class Api:
    """One namespace of the containerd whose state directory is `state`. Every method may raise EngineError."""

    def __init__(self, state: Path, namespace: str) -> None:
        self.socket = state / "containerd.sock"
        self.namespace = namespace

    def call(self, method: str, asked: Any, answer: str) -> Any:
        """One method, as Tasks/Get; its answer. Raises NotFound."""
        grpc = _grpc()
        options = [("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", 16 << 20)]
        with grpc.insecure_channel(f"unix:{self.socket}", options=options) as channel:
            function = channel.unary_unary(path_of(method), type(asked).SerializeToString, _class(answer).FromString)
            try:
                return function(asked, timeout=ANSWERS_WITHIN_S, metadata=[("containerd-namespace", self.namespace)])
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    raise NotFound(f"containerd: {error.details()}") from error
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    raise EngineError(f"containerd does not answer on {self.socket}: is it running?") from error
                raise EngineError(f"containerd: {error.details() or error.code()}") from error

    # ---- containers ----

    def container(self, name: str) -> Any | None:
        """Its message, or None."""
        try:
            return self.call("Containers/Get", message("Id", id=name), "ContainerMessage").container
        except NotFound:
            return None

    def running(self) -> list[Any]:
        """The containers' messages whose task runs."""
        tasks = self.call("Tasks/List", message("Empty"), "Tasks").tasks
        run = {task.id or task.container_id for task in tasks if STATES[task.status] == "running"}
        containers = self.call("Containers/List", message("Empty"), "Containers").containers
        return [container for container in containers if container.id in run]

    def set_labels(self, name: str, labels: dict[str, str]) -> None:
        """These and no others."""
        self.call("Containers/Update", labelled(name, labels), "ContainerMessage")

    def delete_container(self, name: str) -> None:
        """It must have no task. Raises NotFound."""
        self.call("Containers/Delete", message("Id", id=name), "Empty")

    # ---- tasks ----

    def task(self, name: str) -> Any | None:
        """The container's first process, or None."""
        try:
            return self.call("Tasks/Get", message("Id", id=name), "Task").process
        except NotFound:
            return None

    def kill_task(self, name: str) -> None:
        """All of it. Raises NotFound."""
        self.call("Tasks/Kill", message("KillTask", container_id=name, signal=9, all=True), "Empty")

    def delete_task(self, name: str) -> None:
        """It must have ended. Raises NotFound."""
        self.call("Tasks/Delete", message("Id", id=name), "Empty")

    # ---- snapshots ----

    def snapshot(self, snapshotter: str, key: str) -> Any | None:
        """Its parent and labels, or None."""
        try:
            asked = message("Snapshot", snapshotter=snapshotter, key=key)
            return self.call("Snapshots/Stat", asked, "SnapshotStat").info
        except NotFound:
            return None

    def prepare_snapshot(self, snapshotter: str, key: str, parent: str, labels: dict[str, str]) -> None:
        """One to write to, over the parent."""
        asked = message("Snapshot", snapshotter=snapshotter, key=key, parent=parent, labels=labels)
        self.call("Snapshots/Prepare", asked, "Mounts")

    def mounts(self, snapshotter: str, key: str) -> list[Any]:
        """What is to be mounted for it. Raises NotFound."""
        asked = message("Snapshot", snapshotter=snapshotter, key=key)
        return list(self.call("Snapshots/Mounts", asked, "Mounts").mounts)

    def remove_snapshot(self, snapshotter: str, key: str) -> None:
        """Raises NotFound."""
        self.call("Snapshots/Remove", message("Snapshot", snapshotter=snapshotter, key=key), "Empty")


def message(kind: str, **values: Any) -> Any:
    """One of MESSAGES."""
    return _class(kind)(**values)


def of_bytes(kind: str, packed: bytes) -> Any:
    """One of MESSAGES that was serialized."""
    return _class(kind).FromString(packed)


def path_of(method: str) -> str:
    """As gRPC has it."""
    service, name = method.split("/")
    return f"{SERVICES}.{service.lower()}.v1.{service}/{name}"


def labelled(name: str, labels: dict[str, str]) -> Any:
    """What gives a container these labels and no others."""
    asked = message("ContainerMessage", container=message("Container", id=name, labels=labels))
    asked.mask.paths.append("labels")
    return asked


def _grpc() -> Any:
    try:
        import grpc  # not above: it takes its time, and only containerd's hosts have it
    except ImportError as error:
        raise EngineError("python3-grpcio is missing, and is needed to ask containerd: apt install it") from error
    return grpc


def _class(kind: str) -> Any:
    return _classes()[kind]


@functools.cache
def _classes() -> dict[str, Any]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    package = "criu_lazy.containerd"
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for kind, fields in MESSAGES.items():
        described = file.message_type.add(name=kind)
        for field in filter(None, fields.split("; ")):
            _add_field(described, f".{package}", *field.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    # Before 4.22 it has no function for that.
    make = getattr(message_factory, "GetMessageClass", None) or message_factory.MessageFactory(pool).GetPrototype
    return {kind: make(pool.FindMessageTypeByName(f"{package}.{kind}")) for kind in MESSAGES}


def _add_field(described: Any, package: str, number: str, name: str, kind: str = "string") -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    is_map, is_repeated = name.endswith("%"), name.endswith("*") or kind.endswith("*")
    name, kind = name.rstrip("%*"), kind.rstrip("*")
    field = described.field.add(name=name, number=int(number), label=Field.LABEL_OPTIONAL)
    if is_map:
        entry = described.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add_field(entry, package, "1", "key")
        _add_field(entry, package, "2", "value")
        field.type, field.type_name = Field.TYPE_MESSAGE, f"{package}.{described.name}.{entry.name}"
    elif kind in MESSAGES:
        field.type, field.type_name = Field.TYPE_MESSAGE, f"{package}.{kind}"
    else:
        field.type = getattr(Field, f"TYPE_{kind.upper()}")
    if is_map or is_repeated:
        field.label = Field.LABEL_REPEATED
