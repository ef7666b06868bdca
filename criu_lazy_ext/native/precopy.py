"""Pre-copy at the source (cl_precopy), as one class."""

from __future__ import annotations

from collections.abc import Mapping

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.native.library import enum_words, ffi, lib, new_error, text

STATES = enum_words("cl_precopy_state", "CL_PRECOPY_")


class PrecopyError(CriuLazyError):
    """A round, or all of pre-copy, failed."""


class PrecopySender:
    """Rounds to a store at the destination; `cut`, `stop` and the looks at it come from any thread."""

    def __init__(self, threads: int, rate: int, *, log_fd: int, log_level: int) -> None:
        """So many threads read and hash; `rate` in bytes per second, 0: no limit. Raises PrecopyError."""
        config = ffi.new("struct cl_precopy_config *")
        config.nr_threads = threads
        config.rate = rate
        config.log_fd = log_fd
        config.log_level = log_level
        problem = new_error()
        handle = lib.cl_precopy_new(config, problem)
        if not handle:
            raise PrecopyError(text(problem.text))
        self.handle = handle

    def close(self) -> None:
        """Forget what was sent. After everything that was given this."""
        lib.cl_precopy_free(self.handle)

    def round(self, tasks: Mapping[int, int]) -> dict[str, int | bool]:
        """One round over these tasks (pid here, by the images' id): the fields of struct cl_precopy_round.

        Raises PrecopyError.
        """
        ids, pids = ffi.new("int32_t[]", list(tasks)), ffi.new("int32_t[]", list(tasks.values()))
        info = ffi.new("struct cl_precopy_round *")
        problem = new_error()
        if lib.cl_precopy_round(self.handle, ids, pids, len(tasks), info, problem) < 0:
            raise PrecopyError(text(problem.text))
        return {name: getattr(info, name) for name, _ in ffi.typeof("struct cl_precopy_round").fields}

    def finish(self) -> None:
        """Have the store completed. Raises PrecopyError."""
        problem = new_error()
        if lib.cl_precopy_finish(self.handle, problem) < 0:
            raise PrecopyError(text(problem.text))

    def cut(self) -> None:
        """The round under way, if one is, ends soon, as if nothing were left to send."""
        lib.cl_precopy_cut(self.handle)

    def stop(self) -> None:
        """No more rounds; one under way ends soon, and an incomplete store is lost."""
        lib.cl_precopy_stop(self.handle)

    def set_rate(self, rate: int) -> None:
        """Pages may take so many bytes per second from now on; 0: no limit."""
        lib.cl_precopy_set_rate(self.handle, rate)

    def state(self) -> str:
        """Of the store: "none", "connected", "lost" or "complete"."""
        return STATES[lib.cl_precopy_state(self.handle)]

    def under_way(self) -> dict[str, int]:
        """What the round under way has read and sent so far: `scanned_pages`, `sent_bytes`; zeroes if none is."""
        out = ffi.new("struct cl_precopy_round *")
        lib.cl_precopy_under_way(self.handle, out)
        return {"scanned_pages": out.scanned_pages, "sent_bytes": out.sent_bytes}
