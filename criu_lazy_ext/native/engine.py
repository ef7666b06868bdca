"""The C engine (c_src/criu_lazy.h) as one class; it adds no policy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.native.library import TlsConfig, ffi, lib, text

if TYPE_CHECKING:
    from array import array

VMA_FIELDS = len(ffi.typeof("struct cl_vma").fields)  # each a u64
WITHOUT_LIMIT = lib.CL_WITHOUT_LIMIT
IF_IT_PUSHES = lib.CL_IF_IT_PUSHES
MAX_PUSH_STREAMS = lib.CL_PUSH_MAX_STREAMS
GUARDIAN_SOCKET = text(lib.CL_GUARDIAN_SOCKET)


class EngineError(CriuLazyError):
    """The engine refused or failed; the message is the engine's own line."""


class Engine:
    """Serves the faults of one restore. All methods but `run` return at once.

    `stop` and `stats` may be called from another thread while `run` runs; `run` releases the GIL.
    """

    def __init__(
        self,
        *,
        images_fd: int,
        log_fd: int = -1,
        log_level: int = 0,
        log_start: float = 0.0,
        auto_dedup: bool = False,
        workers: int = 0,
        max_in_flight_bytes: int = 0,
        wire_version: int = 0,
        reconnect_seconds: float = 0,
        push_streams: int = 0,
        precopied_fd: int = -1,
    ) -> None:
        """Descriptors are borrowed; `log_start` is the time.monotonic() that log lines count from.

        0 stands for the engine's own choice; of `push_streams` for never. `reconnect_seconds`: so long a lost page
        server is waited for, 0: not at all; WITHOUT_LIMIT; IF_IT_PUSHES: without limit, if it does. Raises EngineError.
        """
        config = ffi.new("struct cl_config *")
        config.images_fd = images_fd
        config.remote_fd = -1
        config.log_fd = log_fd
        config.log_level = log_level
        config.log_start_us = int(log_start * 1e6)
        config.wire_version = wire_version
        config.auto_dedup = auto_dedup
        config.nr_workers = workers
        config.max_in_flight_bytes = max_in_flight_bytes
        config.push_streams = push_streams
        config.precopied_fd = precopied_fd
        config.reconnect_us = int(reconnect_seconds * 1_000_000) if reconnect_seconds > 0 else int(reconnect_seconds)
        problem = ffi.new("const char **")
        engine = lib.cl_engine_new(config, problem)
        if not engine:
            raise EngineError(text(problem[0]) or "the engine could not be made")
        self._engine = engine

    def close(self) -> None:
        """Free the engine; nothing may be called after it."""
        lib.cl_engine_free(self._engine)

    def add_task(self, pid: int, vmas: array[int]) -> None:
        """Announce a task; `vmas` as from Images.vmas. Raises EngineError."""
        bounds = ffi.from_buffer("struct cl_vma[]", vmas)
        self._check(lib.cl_engine_add_task(self._engine, pid, bounds, len(vmas) // VMA_FIELDS), f"task {pid}")

    def wire_version(self) -> int:
        """Protocol version that the pagemap images tell: 1, 2, or 0 if they have no entry."""
        return lib.cl_engine_wire_version(self._engine)

    def set_tls(
        self,
        *,
        ca_cert: str | None = None,
        ca_crl: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        host: str | None = None,
        no_cn_verify: bool = False,
        key_hex: str | None = None,
    ) -> None:
        """Load what TLS to the page server needs, before set_remote; None: criu's default file, or no host to check.

        `key_hex`: instead of certificates, a key that both sides know.
        Raises EngineError for a file that can't be used, or if the engine was built without TLS.
        """
        paths = {"ca_cert": ca_cert, "ca_crl": ca_crl, "cert": cert, "key": key, "host": host, "key_hex": key_hex}
        tls = TlsConfig(paths, no_cn_verify=no_cn_verify)
        self._check(lib.cl_engine_set_tls(self._engine, tls.struct), "TLS")

    def set_remote(self, fd: int) -> None:
        """Hand over a connected socket to the page server; with set_tls, blocks for the handshake, at most 20 s.

        Raises EngineError.
        """
        self._check(lib.cl_engine_set_remote(self._engine, fd), "page server connection")

    def check_remote(self) -> None:
        """Between set_remote and run: raises EngineError if the page server, called with TLS, has hung up."""
        self._check(lib.cl_engine_check_remote(self._engine), "page server connection")

    def greet(self) -> None:
        """Ask the page server, before there is a restore, whether it pushes; raises EngineError if it refuses us."""
        self._check(lib.cl_engine_greet(self._engine), "page server connection")

    def take_over(self, guardian_fd: int) -> None:
        """Go on where a killed daemon was, whose guardian is connected at `guardian_fd`, which is handed over.

        To be called after add_task and before set_remote; `run` then gets -1. Raises EngineError; the tasks wait on.
        """
        self._check(lib.cl_engine_take_over(self._engine, guardian_fd), "take-over")

    def run(self, restore_fd: int) -> int:
        """Serve the restore connected at `restore_fd`, which is handed over; 0 or a negative errno."""
        return lib.cl_engine_run(self._engine, restore_fd)

    def stop(self) -> None:
        """Make `run` return -ECANCELED soon."""
        lib.cl_engine_stop(self._engine)

    def error(self) -> str:
        """What went wrong, as one line; "" if nothing did."""
        return text(lib.cl_engine_error(self._engine))

    def stats(self) -> dict[str, int | list[int]]:
        """The counters of struct cl_stats, by its names."""
        stats = ffi.new("struct cl_stats *")
        lib.cl_engine_stats(self._engine, stats)
        values = ((name, getattr(stats, name)) for name, _ in ffi.typeof("struct cl_stats").fields)
        return {name: value if isinstance(value, int) else list(value) for name, value in values}

    def ended(self) -> list[dict[str, int | str]]:
        """The restored tasks that ended with pages missing: their "pid" as in the images, "how", "missing_pages"."""
        task = ffi.new("struct cl_ended *")
        tasks: list[dict[str, int | str]] = []
        while lib.cl_engine_ended(self._engine, len(tasks), task):
            how = text(task.how)
            tasks.append({"pid": task.pid, "how": how, "missing_pages": task.missing_pages})
        return tasks

    def _check(self, result: int, subject: str) -> None:
        if result < 0:
            raise EngineError(self.error() or f"{subject}: {os.strerror(-result)}")
