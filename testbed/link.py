"""The migration network's link between src and dst: rate, delay, cuts, all while it runs.

Without delay packets cross a bare veth; with delay, or cut, the network's route goes over the TUN devices that
delaylink joins. Addresses stay where they are, so connections survive the change. Rates are a tbf on both ends.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from testbed import instances
from testbed.errors import TestbedError
from testbed.host import Host

BARE_DEVICE = "mig0"
DELAYED_DEVICE = "mig0far"
NETWORK, NETWORK6 = "10.77.0.0/24", "fd77::/64"
# What hosts of this Debian have by default; the machine's own kernel may default to BBR, which paces a bare veth down
# to a third of what it carries. Set on the route, as the sysctl is not to be had in a network namespace.
CONGESTION = "cubic"

ETHERNET_HEADER_BYTES = 14
MTU_BYTES = 1500
# tbf's bucket: what may pass at once after a pause. It must hold one of the kernel's large segments (else tbf cuts
# them up at the cost of CPU), and is otherwise as small as that allows, as a wire has no bucket at all.
SMALLEST_BURST_BYTES = 80_000
BURST_MS = 0.25
# tbf's queue, as deep as a switch port's. TCP's own limit (TSQ) keeps a single stream's share of it far smaller.
SMALLEST_QUEUE_BYTES = 2 * 1024 * 1024
QUEUE_MS = 10.0
MAX_RTT_MS = 10_000.0
FOR_EVER_SECONDS = 1e6
MAX_RATE_MBIT = 100_000.0

PLAIN_TCP_RECEIVER = """
import json, socket, sys, time
server = socket.create_server(("", int(sys.argv[1])), backlog=1)
print("ready", flush=True)
connection, _ = server.accept()
warm_up, seconds = float(sys.argv[2]), float(sys.argv[3])
buffer = bytearray(1 << 20)
opened = time.monotonic()
while time.monotonic() - opened < warm_up:
    if not connection.recv_into(buffer):
        sys.exit("the sender ended too early")
received, start = 0, time.monotonic()
while (now := time.monotonic()) - start < seconds:
    got = connection.recv_into(buffer)
    if not got:
        sys.exit("the sender ended too early")
    received += got
print(json.dumps({"bytes": received, "seconds": time.monotonic() - start}), flush=True)
"""
PLAIN_TCP_SENDER = """
import socket, sys
connection = socket.socket()
if sys.argv[3]:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, sys.argv[3].encode())
connection.connect((sys.argv[1], int(sys.argv[2])))
block = bytes(1 << 20)
try:
    while True:
        connection.sendall(block)
except OSError:
    pass
"""


class Link:
    """The link of a running testbed. `rate_mbit` (None: unlimited), `rtt_ms` and `is_cut` tell how it is set."""

    def __init__(self, state: instances.State, src: Host, dst: Host) -> None:
        self._state = state
        self._ends = (src, dst)
        unset = {"rate_mbit": None, "rtt_ms": 0.0, "jitter": 0.0, "loss": 0.0, "cut": False}
        link = state["link"] = {**unset, **state.get("link", {})}  # older code may have left it up
        self.rate_mbit: float | None = link["rate_mbit"]
        self.rtt_ms: float = link["rtt_ms"]
        self.jitter: float = link["jitter"]
        self.loss: float = link["loss"]
        self.is_cut: bool = link["cut"]

    def set(self, rate_mbit: float | None = None, rtt_ms: float = 0.0, jitter: float = 0.0, loss: float = 0.0) -> None:
        """Set both directions' rate in Mbit/s (None: unlimited) and the added round-trip time in ms, at any time.

        `jitter`: the share of that time by which it varies, up and down, in order; `loss`: the share of packets that
        get lost. Both need a round-trip time above 0. The rate counts Ethernet frames without preamble and gap, so
        that plain TCP gets about 119 MB/s at 1000.
        Raises TestbedError for values out of range.
        """
        if rate_mbit is not None and not 0.1 <= rate_mbit <= MAX_RATE_MBIT:
            raise TestbedError(f"link rate {rate_mbit} Mbit/s: must be from 0.1 to {MAX_RATE_MBIT:g}, or unlimited")
        if not 0 <= rtt_ms <= MAX_RTT_MS:
            raise TestbedError(f"link round-trip time {rtt_ms} ms: must be from 0 to {MAX_RTT_MS:g}")
        if not (0 <= jitter <= 1 and 0 <= loss <= 1) or (not rtt_ms and (jitter or loss)):
            raise TestbedError(f"link jitter {jitter}, loss {loss}: shares from 0 to 1, with a round-trip time above 0")
        one_way_ns = rtt_ms * 1e6 / 2
        self._ask(f"delay {round(one_way_ns)} {round(one_way_ns * jitter)} {round(loss * 1e6)}")
        self.rate_mbit, self.rtt_ms, self.jitter, self.loss = rate_mbit, rtt_ms, jitter, loss
        self._apply()

    def cut(self) -> None:
        """Drop every packet in both directions, silently, until `mend`."""
        self._ask("cut")
        self.is_cut = True
        self._apply()

    def mend(self) -> None:
        """Let packets pass again."""
        self._ask("mend")
        self.is_cut = False
        self._apply()

    def statistics(self) -> dict[str, int]:
        """The delay line's counters (0 while nothing was delayed): forwarded, dropped, queued_bytes."""
        words = self._ask("stats").split()
        return {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}

    def plain_tcp_rate(self, seconds: float = 2.0, congestion: str | None = None, port: int = 5201) -> float:
        """Bytes per second of one plain TCP stream from src to dst, after it got up to speed.

        `congestion`: the sender's congestion control (None: the route's). Takes `seconds` and about one more.
        """
        warm_up = 0.5 + 20 * self.rtt_ms / 1000
        with self._plain_tcp(warm_up, seconds, congestion, port) as receiver:
            result, errors = receiver.communicate(timeout=warm_up + seconds + 60)
        if receiver.returncode != 0:
            raise TestbedError(f"plain TCP rate: the receiver failed: {errors.strip()}")
        measured = json.loads(result)
        return float(measured["bytes"]) / float(measured["seconds"])

    @contextlib.contextmanager
    def plain_tcp_stream(self, port: int = 5202) -> Iterator[None]:
        """One plain TCP stream from src to dst, as fast as it goes, as long as the context is entered."""
        with self._plain_tcp(0, FOR_EVER_SECONDS, None, port):
            yield

    @contextlib.contextmanager
    def _plain_tcp(
        self, warm_up: float, seconds: float, congestion: str | None, port: int
    ) -> Iterator[subprocess.Popen[str]]:
        """The receiver of a stream, which has begun; both ends are killed with the context."""
        src, dst = self._ends
        receive = ["python3", "-c", PLAIN_TCP_RECEIVER, str(port), str(warm_up), str(seconds)]
        send = ["python3", "-c", PLAIN_TCP_SENDER, dst.address, str(port), congestion or ""]
        with dst.popen(receive, stdout=-1, stderr=-1, text=True) as receiver:
            assert receiver.stdout is not None
            if receiver.stdout.readline().strip() != "ready":
                raise TestbedError(f"plain TCP rate: the receiver failed: {receiver.communicate()[1].strip()}")
            with src.popen(send, stderr=-1, text=True) as sender:
                try:
                    yield receiver
                finally:
                    sender.kill_session()
                    receiver.kill_session()

    def _apply(self) -> None:
        device = DELAYED_DEVICE if self.rtt_ms > 0 or self.is_cut else BARE_DEVICE
        for host in self._ends:
            routes = f"route replace {NETWORK} dev {device} src {host.address} congctl {CONGESTION}\n"
            routes += f"route replace {NETWORK6} dev {device} src {address6(host)} congctl {CONGESTION}\n"
            host.run(["sh", "-e", "-c", f"ip -batch - <<'END'\n{routes}END\n{self._rate_commands()}"])
        self._state["link"] = {
            "rate_mbit": self.rate_mbit,
            "rtt_ms": self.rtt_ms,
            "jitter": self.jitter,
            "loss": self.loss,
            "cut": self.is_cut,
        }
        instances.save(self._state)

    def _rate_commands(self) -> str:
        if self.rate_mbit is None:
            return "".join(f"tc qdisc del dev {d} root 2>&- || true\n" for d in (BARE_DEVICE, DELAYED_DEVICE))
        bytes_per_ms = self.rate_mbit * 125
        burst = max(SMALLEST_BURST_BYTES, round(bytes_per_ms * BURST_MS))
        queue = max(SMALLEST_QUEUE_BYTES, round(bytes_per_ms * QUEUE_MS))
        # A TUN device's packets have no Ethernet header, but on the link it stands for they would; tbf's own
        # `overhead` counts it once for a large segment that is many packets.
        without_header = self.rate_mbit * MTU_BYTES / (MTU_BYTES + ETHERNET_HEADER_BYTES)
        return "".join(
            f"tc qdisc replace dev {device} root tbf rate {round(rate * 1000)}kbit burst {burst} limit {queue}\n"
            for device, rate in ((BARE_DEVICE, self.rate_mbit), (DELAYED_DEVICE, without_header))
        )

    def _ask(self, command: str) -> str:
        path = control_socket(self._state["name"])
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
            control.bind("")  # an abstract address of its own, for the answer
            control.settimeout(10)
            try:
                control.sendto(command.encode(), str(path))
                answer = control.recv(1024).decode()
            except OSError as error:
                raise TestbedError(f"the link's delay line does not answer on {path}: {error}") from error
        if answer == "error":
            raise TestbedError(f"the link's delay line refused {command!r}")
        return answer


def address6(host: Host) -> str:
    """The host's IPv6 address on the migration network."""
    return f"fd77::{host.address.rpartition('.')[2]}"


def control_socket(name: str) -> Path:
    """Where the delay line of the testbed called `name` listens."""
    return instances.directory_of(name) / "link.sock"
