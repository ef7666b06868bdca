"""The C engine (c_src/criu_lazy.h) as one class; it adds no policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.native.library import TlsConfig, ffi, lib, new_error, text

if TYPE_CHECKING:
    from array import array
    from collections.abc import Mapping

VMA_FIELDS = len(ffi.typeof("struct cl_vma").fields)  # each a u64
WITHOUT_LIMIT = lib.CL_WITHOUT_LIMIT
IF_IT_PUSHES = lib.CL_IF_IT_PUSHES
MAX_PUSH_STREAMS = lib.CL_PUSH_MAX_STREAMS
GUARDIAN_SOCKET = text(lib.CL_GUARDIAN_SOCKET)


class EngineError(CriuLazyError):
    """The engine refused or failed; the message is the engine's own line."""


@dataclass(frozen=True)
class EngineOptions:
    """Descriptors are borrowed; 0 stands for the engine's own choice, of `push_streams` for never."""

    images_fd: int
    log_fd: int = -1
    log_level: int = 0
    log_start: float = 0.0  # the time.monotonic() that log lines count from
    auto_dedup: bool = False
    workers: int = 0
    max_in_flight_bytes: int = 0
    wire_version: int = 0
    # So long a lost page server is waited for, 0: not at all; WITHOUT_LIMIT; IF_IT_PUSHES: without limit, if it does.
    reconnect_seconds: float = 0
    push_streams: int = 0
    precopied_fd: int = -1


class Engine:
    """Serves the faults of one restore. All methods but `run` return at once.

    `stop` and `stats` may be called from another thread while `run` runs; `run` releases the GIL.
    """

    def __init__(self, options: EngineOptions) -> None:
        """Raises EngineError."""
        limit = options.reconnect_seconds
        config = ffi.new("struct cl_config *")
        config.images_fd = options.images_fd
        config.log_fd = options.log_fd
        config.log_level = options.log_level
        config.log_start_us = int(options.log_start * 1e6)
        config.wire_version = options.wire_version
        config.auto_dedup = options.auto_dedup
        config.nr_workers = options.workers
        config.max_in_flight_bytes = options.max_in_flight_bytes
        config.push_streams = options.push_streams
        config.precopied_fd = options.precopied_fd
        config.reconnect_us = int(limit * 1_000_000) if limit > 0 else int(limit)
        self._error = new_error()
        engine = lib.cl_engine_new(config, self._error)
        if not engine:
            raise EngineError(self.error())
        self._engine = engine

    def close(self) -> None:
        """Free the engine; nothing may be called after it."""
        lib.cl_engine_free(self._engine)

    def add_task(self, pid: int, vmas: array[int]) -> None:
        """Announce a task; `vmas` as from Images.vmas. Raises EngineError."""
        bounds = ffi.from_buffer("struct cl_vma[]", vmas)
        self._check(lib.cl_engine_add_task(self._engine, pid, bounds, len(vmas) // VMA_FIELDS, self._error))

    def wire_version(self) -> int:
        """Protocol version that the pagemap images tell: 1, 2, or 0 if they have no entry."""
        return lib.cl_engine_wire_version(self._engine)

    def set_tls(self, texts: Mapping[str, str | None], *, no_cn_verify: bool = False) -> None:
        """Load what TLS to the page server needs, before set_remote: file names and the like by the names of struct
        cl_tls_config; None: criu's default file, or no host to check.

        Raises EngineError for a file that can't be used, or if the engine was built without TLS.
        """
        tls = TlsConfig(texts, no_cn_verify=no_cn_verify)
        self._check(lib.cl_engine_set_tls(self._engine, tls.struct, self._error))

    def set_remote(self, fd: int) -> None:
        """Hand over a connected socket to the page server; with set_tls, blocks for the handshake, at most 20 s.

        Raises EngineError.
        """
        self._check(lib.cl_engine_set_remote(self._engine, fd, self._error))

    def check_remote(self) -> None:
        """Between set_remote and run: raises EngineError if the page server, called with TLS, has hung up."""
        self._check(lib.cl_engine_check_remote(self._engine, self._error))

    def greet(self) -> None:
        """Ask the page server, before there is a restore, whether it pushes; raises EngineError if it refuses us."""
        self._check(lib.cl_engine_greet(self._engine, self._error))

    def take_over(self, guardian_fd: int) -> None:
        """Go on where a killed daemon was, whose guardian is connected at `guardian_fd`, which is handed over.

        To be called after add_task and before set_remote; `run` then gets -1. Raises EngineError; the tasks wait on.
        """
        self._check(lib.cl_engine_take_over(self._engine, guardian_fd, self._error))

    def run(self, restore_fd: int) -> int:
        """Serve the restore connected at `restore_fd`, which is handed over; 0, or a negative errno: see `error`."""
        return lib.cl_engine_run(self._engine, restore_fd, self._error)

    def stop(self) -> None:
        """Make `run` return -ECANCELED soon."""
        lib.cl_engine_stop(self._engine)

    def error(self) -> str:
        """What went wrong last, as one line; "" if nothing did."""
        return text(self._error.text)

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

    def _check(self, result: int) -> None:
        if result < 0:
            raise EngineError(self.error())
