"""CRIU's lock on the connections of a dumped task, undone from outside.

`criu dump --tcp-established` puts each connection into repair mode (the task's own calls on it fail with EPERM) and has
the packet filter drop its packets: an nftables table of the dump's own, or iptables rules. A lazy dump undoes neither
once it serves pages, whatever becomes of it. So, for a task that was dumped:

- `wake`, when the dump serves: repair mode ends. If the dump dies now, the task runs on with its connections whole.
- `hush`, before the task is killed: repair mode again. A connection that is closed in it tells its client nothing.
- `remove`, when the task is gone, or is about to run on: the packet filter is as it was.
- `let_pass`, once the task runs elsewhere with its addresses: others at this host may talk to it there.
- `lift`: all that a task needs that is to run on.

Each may be repeated, and returns what could not be done: one line each, with what to type by hand.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import Any

from criu_lazy_ext.criu.images import Connection, Endpoint, Images, PycriuMissing, endpoint
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.system.net_namespace import within
from criu_lazy_ext.system.nftables import FilterError, Nft
from criu_lazy_ext.system.processes import tree
from criu_lazy_ext.system.sockets import take

TCP_REPAIR = 19
REPAIR_ON, REPAIR_OFF, REPAIR_OFF_SILENTLY = 1, 0, -1  # REPAIR_OFF sends a window probe
SO_PEERNAME = 28
SOCKADDR_BYTES = 28
TABLE = re.compile(r"CRIU-[0-9a-f-]+")
MARK = "0xc114"  # of criu's own packets
CHAIN = "CRIU"  # drops everything in a network namespace of the task's own
TOOL_WITHIN_S = 30.0


class NetworkLock:
    """The lock of one dump. Keeps the task's network namespaces, so that it can be removed when the task is gone."""

    def __init__(self, root_pid: int, images: Path) -> None:
        """`root_pid`: the dump's -t, frozen or not; `images`: the dump's, which need not be complete."""
        self._root_pid = root_pid
        self._run_id, self._dumped = _read_images(images)
        self._seen: set[frozenset[Endpoint]] = {connection.ends for connection in self._dumped.values()}
        self._namespaces = _namespaces(root_pid)

    def close(self) -> None:
        """Forget the namespaces; also a second time."""
        for fd in self._namespaces:
            os.close(fd)
        self._namespaces = []

    def wake(self) -> list[str]:
        """End the repair mode of the task's connections."""

        def wake(inode: int, sock: socket.socket) -> None:
            if sock.getsockopt(socket.IPPROTO_TCP, TCP_REPAIR):
                self._seen.add(_ends(sock))
                sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF_SILENTLY)
                # Repair mode has overwritten it; where no image tells it, most servers have it.
                reuse = self._dumped[inode].reuse_address if inode in self._dumped else True
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)

        return _for_each_connection(self._root_pid, wake)

    def hush(self) -> list[str]:
        """Put the connections that were dumped into repair mode again."""

        def hush(inode: int, sock: socket.socket) -> None:
            if inode in self._dumped:
                sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_ON)

        return _for_each_connection(self._root_pid, hush)

    def remove(self) -> list[str]:
        """Remove the lock from the packet filter."""
        return self._remove()[1]

    def _remove(self) -> tuple[bool, list[str]]:
        """Whether there was one, and what could not be done."""
        found = False
        problems: list[str] = []
        for fd in self._namespaces:
            try:
                found |= within(fd, lambda own: _remove(self._run_id, self._seen, own))
            except (FilterError, OSError) as error:
                problems.append(f"CRIU's network lock stays, and its connections are dead: {error}")
        return found, problems

    def let_pass(self, moved: Container[str]) -> list[str]:
        """Remove the lock, if each connection has an end at one of the addresses that moved: the sockets here can't
        send from them, and get nothing. For others the kernel here would still answer."""
        if not all(any(address in moved for address, _ in connection.ends) for connection in self._dumped.values()):
            return []
        return self.remove()

    def lift(self) -> list[str]:
        """All that a task needs which is to run on; it may run already."""

        def probe(inode: int, sock: socket.socket) -> None:
            if inode in self._dumped:
                _probe(sock, self._dumped[inode])

        problems = self.wake()
        found, more = self._remove()
        if found:  # else it was lifted before; and a probe clears SO_REUSEADDR for a moment, which the task may see
            more += _for_each_connection(self._root_pid, probe)
        return list(dict.fromkeys(problems + more))


def unlock(root_pid: int, images: Path) -> list[str]:
    """`NetworkLock.lift`, for who holds none."""
    return _once(NetworkLock(root_pid, images), NetworkLock.lift)


def remove(root_pid: int, images: Path) -> list[str]:
    """`NetworkLock.remove`, for who holds none; if the task is gone, in this process's own network namespace."""
    return _once(NetworkLock(root_pid, images), NetworkLock.remove)


def let_pass(root_pid: int, images: Path, moved: Container[str]) -> list[str]:
    """`NetworkLock.let_pass`, for who holds none."""
    return _once(NetworkLock(root_pid, images), lambda lock: lock.let_pass(moved))


def hush(root_pid: int, images: Path) -> list[str]:
    """`NetworkLock.hush`, for who holds none."""
    return _once(NetworkLock(root_pid, images), NetworkLock.hush)


def connections(images: Path) -> frozenset[frozenset[Endpoint]]:
    """Those that were dumped, by their ends."""
    return frozenset(connection.ends for connection in _read_images(images)[1].values())


def probe(pids: Iterable[int], images: Path) -> list[str]:
    """Have the peers of restored processes' connections tell where they are, as criu does: its own probes may have been
    filtered. `images`: those that were restored."""
    dumped = {connection.ends: connection for connection in _read_images(images)[1].values()}

    def probe(_: int, sock: socket.socket) -> None:
        if (connection := dumped.get(_ends(sock))) is not None:
            _probe(sock, connection)

    return _for_each_connection_of(pids, probe)


def _probe(sock: socket.socket, dumped: Connection) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF)  # as criu itself ends it
    # That has overwritten it; what it was is not read here, as somebody else may be about to do the same.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, dumped.reuse_address)


def _once(lock: NetworkLock, action: Callable[[NetworkLock], list[str]]) -> list[str]:
    try:
        return action(lock)
    finally:
        lock.close()


def _read_images(directory: Path) -> tuple[str, dict[int, Connection]]:
    """The dump's run id, or "", and the connections that it has dumped, by inode; of what is there and can be read."""
    run_id, found = "", {}
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return run_id, {}
    try:
        images = Images(fd, str(directory))
        with contextlib.suppress(CriuLazyError):
            run_id = images.run_id()
        with contextlib.suppress(CriuLazyError):
            found = {connection.inode: connection for connection in images.connections()}
    except PycriuMissing:
        pass
    finally:
        os.close(fd)
    return run_id, found


def _namespaces(root_pid: int) -> list[int]:
    """Descriptors of the network namespaces of this process and of the task's."""
    found: dict[int, int] = {}
    for pid in (os.getpid(), *tree(root_pid).values()):
        with contextlib.suppress(OSError):  # it has ended
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            inode = os.fstat(fd).st_ino
            if found.setdefault(inode, fd) != fd:
                os.close(fd)
    return list(found.values())


# ---- sockets ----


def _for_each_connection(root_pid: int, action: Callable[[int, socket.socket], None]) -> list[str]:
    return _for_each_connection_of(tree(root_pid).values(), action)


def _for_each_connection_of(pids: Iterable[int], action: Callable[[int, socket.socket], None]) -> list[str]:
    """Call `action(inode, a descriptor of ours)` for each TCP connection of processes. Returns what failed."""
    problems: list[str] = []
    done: set[str] = set()
    for pid in pids:
        task = -1
        try:
            task = os.pidfd_open(pid)
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                name = _target(entry)
                if name.startswith("socket:[") and name not in done:
                    done.add(name)
                    sock = take(task, int(entry.name))
                    if sock is None:
                        continue
                    with sock:
                        if _is_connection(sock):
                            action(int(name[8:-1]), sock)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended
        except OSError as error:
            problems.append(f"connections of process {pid} may be dead (EPERM): {error.strerror}")
        finally:
            if task >= 0:
                os.close(task)
    return problems


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:  # closed meanwhile
        return ""


def _is_connection(sock: socket.socket) -> bool:
    return (
        sock.family in (socket.AF_INET, socket.AF_INET6)
        and sock.type == socket.SOCK_STREAM
        and sock.proto == socket.IPPROTO_TCP
        and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    )


def _ends(sock: socket.socket) -> frozenset[Endpoint]:
    """Both ends of a connection, also of one that is being made or was reset."""
    ends = [endpoint(*sock.getsockname()[:2])]
    with contextlib.suppress(OSError):
        peer = sock.getsockopt(socket.SOL_SOCKET, SO_PEERNAME, SOCKADDR_BYTES)
        length = 16 if sock.family == socket.AF_INET6 else 4
        start = 8 if sock.family == socket.AF_INET6 else 4
        ends.append(endpoint(peer[start : start + length], struct.unpack_from("!H", peer, 2)[0]))
    return frozenset(ends)


# ---- the packet filter ----


def _remove(run_id: str, connections: set[frozenset[Endpoint]], own: bool) -> bool:
    """In this thread's network namespace; `own`: it is this process's. Whether there was a lock. Raises FilterError."""
    found = _remove_table(run_id, connections, own)
    if not found and (connections or not own):
        for program in ("iptables", "ip6tables"):
            found |= _remove_rules(program, connections, own)
    return found


def _remove_table(run_id: str, connections: set[frozenset[Endpoint]], own: bool) -> bool:
    """Delete the dump's nftables table. False if there is none. Raises FilterError."""
    nft = Nft.load()
    if nft is None:
        return False  # then criu had none either
    found = False
    with nft:
        for item in nft.run("list tables inet"):
            name = str(item.get("table", {}).get("name", ""))
            if TABLE.fullmatch(name) and _is_of_dump(name, nft, run_id, connections, own):
                nft.run(f"add table inet {name}\ndelete table inet {name}")  # another may remove it just then, too
                found = True
    return found


def _is_of_dump(name: str, nft: Nft, run_id: str, connections: set[frozenset[Endpoint]], own: bool) -> bool:
    if run_id:
        return f"CRIU-{run_id}".startswith(name)  # criu cuts it to what its buffer holds
    # The dump died before it had written its run id.
    if not own:
        return True
    return any(_is_locked(item, connections) for item in nft.run(f"list table inet {name}"))


def _is_locked(item: dict[str, Any], connections: set[frozenset[Endpoint]]) -> bool:
    """Whether an object of a table is a set with one of the connections."""
    elements = item.get("set", {}).get("elem", [])
    quads = [element["concat"] for element in elements if "concat" in element]
    return any(
        frozenset((endpoint(quad[0], quad[1]), endpoint(quad[2], quad[3]))) in connections
        for quad in quads
        if len(quad) == 4
    )


def _remove_rules(program: str, connections: set[frozenset[Endpoint]], own: bool) -> bool:
    """Delete the rules that criu made by iptables. False if there are none. Raises FilterError."""
    if shutil.which(f"{program}-save") is None:
        return False
    saved = _tool([f"{program}-save", "-t", "filter"], "").splitlines()
    rules = [rule for rule in saved if _is_rule_of_dump(rule, connections)]
    # The chain that drops everything is made in the namespace of a task that has one of its own.
    chain = not own and any(rule.startswith(f":{CHAIN} ") for rule in saved)
    jumps = [rule for rule in saved if chain and rule.endswith(f" -j {CHAIN}")]
    if rules or jumps:
        _restore(program, [rule.replace("-A ", "-D ", 1) for rule in rules + jumps])
    if chain:
        _restore(program, [f"-F {CHAIN}", f"-X {CHAIN}"])
    return bool(rules or chain)


def _is_rule_of_dump(rule: str, connections: Iterable[frozenset[Endpoint]]) -> bool:
    """Whether a line of iptables-save drops the packets of one of the connections, as criu has it."""
    try:
        words = shlex.split(rule)
    except ValueError:  # somebody else's, with a quote in a comment
        return False
    if words[:1] != ["-A"] or MARK not in words or words[-2:] != ["-j", "DROP"]:
        return False
    value = dict(itertools.pairwise(words))
    try:
        source = endpoint(value["-s"].partition("/")[0], int(value["--sport"]))
        destination = endpoint(value["-d"].partition("/")[0], int(value["--dport"]))
    except (KeyError, ValueError):
        return False
    return frozenset((source, destination)) in connections


def _restore(program: str, lines: list[str]) -> None:
    text = "\n".join(["*filter", *lines, "COMMIT", ""])
    _tool([f"{program}-restore", "-w", "--noflush"], text)


def _tool(command: list[str], text: str) -> str:
    """What an iptables program prints. Raises FilterError."""
    shown = shlex.join(command)
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, errors="replace", check=False, timeout=TOOL_WITHIN_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FilterError(f"{shown}: {error}") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["failed"])[-1]
        raise FilterError(f"{shown}: {said}; remove the rules with mark {MARK} and the chain {CHAIN} by hand")
    return done.stdout
