"""Two hosts and a client on this machine, each in its own namespaces, with a link between the two."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from testbed import instances
from testbed.errors import TestbedError
from testbed.host import Host
from testbed.link import BARE_DEVICE, DELAYED_DEVICE, Link, address6, control_socket
from testbed.prepare import Layers, prepare
from testbed.recipe import CRIU_SERIES

NAME_VARIABLE = "CRIU_LAZY_TESTBED"
DEFAULT_NAME = "default"
DEFAULT_CRIU = ("4.2", "4.2")

# host -> (migration address, service address, pids start above). The pids lie apart so that a task which moves
# finds its pid free on the other host. The client's migration address is its service address: it has no other.
HOSTS = {
    "src": ("10.77.0.1", "10.78.0.1", 10_000),
    "dst": ("10.77.0.2", "10.78.0.2", 300),
    "client": ("10.78.0.3", "10.78.0.3", 300),
}
SERVICE_DEVICE = "svc0"
SSHD_READY_SECONDS = 10


class Testbed:
    """A running testbed. Make it with `Testbed.start` or `Testbed.attach`; as a context manager it stops at exit."""

    __test__ = False  # not a test class

    def __init__(self, state: instances.State) -> None:
        self._state = state
        own = bool(state.get("own_cgroups"))
        hosts = {
            name: Host(name, state["hosts"][name]["pid"], addresses[0], addresses[1], state["criu"][name], own)
            for name, addresses in HOSTS.items()
        }
        self.name: str = state["name"]
        self.src, self.dst, self.client = hosts["src"], hosts["dst"], hosts["client"]
        self.link = Link(state, self.src, self.dst)

    @classmethod
    def start(
        cls,
        criu: tuple[str, str] = DEFAULT_CRIU,
        name: str | None = None,
        keep_running: bool = False,
        own_cgroups: bool = False,
        package: Path | None = None,
    ) -> Testbed:
        """Prepare what is missing, clean up after drivers that died, and start the hosts.

        `criu`: series ("4.1" or "4.2") of src and dst. `name`: which testbed (default: $CRIU_LAZY_TESTBED, or
        "default"); several with different names run side by side. `keep_running`: it outlives this process, until
        `criu-lazy testbed down`. `own_cgroups`: each host sees cgroup2 alone, with a root of its own, as podman and
        crun want it (without: the machine's hierarchies, whatever they are, with their controllers). `package`: a
        layer with criu-lazy, in place of this checkout's. Raises TestbedError, and leaves nothing then.
        """
        name = name or os.environ.get(NAME_VARIABLE) or DEFAULT_NAME
        instances.check_name(name)
        for series in criu:
            if series not in CRIU_SERIES:
                raise TestbedError(f"criu series {series!r}: known are {', '.join(sorted(CRIU_SERIES))}")
        if os.geteuid() != 0:
            raise TestbedError("the testbed makes namespaces and mounts: run it as root")
        layers = prepare(layers_in_use)
        layers = replace(layers, package=package) if package else layers
        state = enter_record(name, criu, layers, own_cgroups)
        try:
            start_hosts(state, layers)
            testbed = cls(state)
            testbed._connect(layers)
            testbed._start_sshd()
            for name_of_host, (_, _, last_pid) in HOSTS.items():
                set_pid = ["sh", "-c", f"echo {last_pid} >/proc/sys/kernel/ns_last_pid"]
                testbed.hosts[name_of_host].run(set_pid)
            if keep_running:
                state["owner"] = None
            instances.save(state)
        except BaseException:
            with instances.registry_lock():
                instances.remove(name)
            raise
        return testbed

    @classmethod
    def attach(cls, name: str | None = None) -> Testbed:
        """The running testbed called `name`. Raises TestbedError if there is none."""
        name = name or os.environ.get(NAME_VARIABLE) or DEFAULT_NAME
        instances.check_name(name)
        state = instances.load(name)
        if state is None or instances.is_abandoned(state) or len(state["hosts"]) < len(HOSTS):
            raise TestbedError(f"testbed {name!r} is not running: start it with `criu-lazy testbed up`")
        return cls(state)

    def __enter__(self) -> Testbed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def hosts(self) -> dict[str, Host]:
        """All hosts by name."""
        return {host.name: host for host in (self.src, self.dst, self.client)}

    @property
    def cgroup(self) -> str:
        """Where containers in the hosts are to have their cgroups (an OCI cgroupsPath starts with it)."""
        return f"/{instances.CGROUP_PARENT}/{self.name}"

    def stop(self) -> None:
        """End everything that runs in the hosts and leave nothing behind. Harmless when it is stopped already."""
        with instances.registry_lock():
            state = instances.load(self.name)
            if state is not None and state["id"] == self._state["id"]:
                instances.remove(self.name)

    def _connect(self, layers: Layers) -> None:
        src, dst, client = self.src, self.dst, self.client
        add_veth(src, BARE_DEVICE, dst, BARE_DEVICE)
        add_veth(src, SERVICE_DEVICE, client, "src")
        add_veth(dst, SERVICE_DEVICE, client, "dst")
        ip_batch(
            client,
            [f"link add {SERVICE_DEVICE} type bridge"]
            + [f"link set {port} master {SERVICE_DEVICE} up" for port in ("src", "dst")]
            + [f"address add {client.service_address}/24 dev {SERVICE_DEVICE}", f"link set {SERVICE_DEVICE} up"],
        )
        self._start_delay_line(layers)
        for host in (src, dst):
            commands = [
                f"address add {host.address}/24 dev {BARE_DEVICE} noprefixroute",
                f"address add {address6(host)}/64 dev {BARE_DEVICE} nodad noprefixroute",
                f"link set {BARE_DEVICE} up",
                f"link set {DELAYED_DEVICE} txqueuelen 10000 up",
                f"address add {host.service_address}/24 dev {SERVICE_DEVICE}",
                f"link set {SERVICE_DEVICE} up",
            ]
            ip_batch(host, commands)
        self.link.set(rate_mbit=None, rtt_ms=0.0)

    def _start_delay_line(self, layers: Layers) -> None:
        program = str(layers.tools / "delaylink")
        arguments = [str(self.src.pid), str(self.dst.pid), DELAYED_DEVICE, str(control_socket(self.name))]
        process = spawn_tool([program, self._state["id"], *arguments])
        assert process.stdout is not None
        ready = process.stdout.readline().strip() == "ready"
        process.stdout.close()
        if not ready:
            raise TestbedError(f"can't start the link's delay line (status {process.wait(10)}; it said why above)")

    def _start_sshd(self) -> None:
        for host in (self.src, self.dst):
            host.run(["sh", "-c", "mkdir -p /run/sshd && /usr/sbin/sshd"])
        for host, other in ((self.src, self.dst), (self.dst, self.src)):
            deadline = time.monotonic() + SSHD_READY_SECONDS
            while True:
                login = host.run(["ssh", other.name, "true"], check=False)
                if login.returncode == 0:
                    break
                if time.monotonic() > deadline:
                    raise TestbedError(f"no SSH from {host.name} to {other.name}: {login.stderr.strip()}")
                time.sleep(0.05)


def layers_in_use() -> frozenset[Path]:
    """The package layers that testbeds on record stand on."""
    states = [instances.load(name) for name in instances.names()]
    return frozenset(Path(state["package_layer"]) for state in states if state is not None)


def enter_record(name: str, criu: tuple[str, str], layers: Layers, own_cgroups: bool) -> instances.State:
    """Clean up after dead drivers, then put a new testbed on record and set the sysctls."""
    with instances.registry_lock():
        instances.remove_abandoned()
        running = instances.load(name)
        if running is not None:
            owner = running["owner"]
            whose = f"belongs to process {owner['pid']}" if owner else "was left up (`criu-lazy testbed down` ends it)"
            raise TestbedError(f"testbed {name!r} runs already and {whose}; another name runs beside it")
        state: instances.State = {
            "name": name,
            "id": secrets.token_hex(8),
            # None, once they are all up, for hosts that are to outlive their driver.
            "owner": instances.process_identity(os.getpid()),
            "criu": {"src": criu[0], "dst": criu[1], "client": criu[0]},
            "package_layer": str(layers.package),
            "own_cgroups": own_cgroups,
            "hosts": {},
        }
        instances.save(state)
        instances.set_sysctls()
    return state


def start_hosts(state: instances.State, layers: Layers) -> None:
    """Start the hosts' first processes, side by side, and note them in `state`."""
    starting = {}
    for host in HOSTS:
        scratch = instances.directory_of(state["name"]) / host
        scratch.mkdir()
        lower = ":".join(str(layer) for layer in layers.lower_directories(state["criu"][host]))
        program = str(layers.tools / "host_init")
        cgroup = [str(instances.make_cgroup(state["name"], host))] if state.get("own_cgroups") else []
        starting[host] = spawn_tool([program, state["id"], host, str(scratch), lower, *cgroup])
    for host, process in starting.items():
        output, _ = process.communicate(timeout=60)
        if process.returncode != 0:
            raise TestbedError(f"can't start host {host} (it said why above)")
        identity = instances.process_identity(int(output))
        if identity is None:
            raise TestbedError(f"host {host} ended at once")
        state["hosts"][host] = identity


def spawn_tool(argv: list[str]) -> subprocess.Popen[str]:
    """Start one of the testbed's own programs, away from the driver's session; stdout is a pipe."""
    return subprocess.Popen(
        argv, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def ip_batch(host: Host, commands: list[str]) -> None:
    """Run `ip` commands in the host."""
    host.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n")


def add_veth(host: Host, device: str, peer: Host, peer_device: str) -> None:
    """Join two hosts by a veth pair, made where it belongs: none of it is ever in the driver's network."""
    namespace = os.open(f"/proc/{peer.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # By descriptor: the hosts don't see each other's pids.
        where = f"/proc/self/fd/{namespace}"
        add = ["ip", "link", "add", device, "type", "veth", "peer", "name", peer_device, "netns", where]
        with host.popen(add, pass_fds=(namespace,), stderr=subprocess.PIPE, text=True) as process:
            _, errors = process.communicate()
    finally:
        os.close(namespace)
    if process.returncode != 0:
        raise TestbedError(f"can't join hosts {host.name} and {peer.name}: {errors.strip()}")
