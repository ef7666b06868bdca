"""A log like criu's: same line format, levels and destinations, so that what reads criu's logs reads ours."""

from __future__ import annotations

import contextlib
import os
import time

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.system.migration_id import mark

ERROR, WARN, INFO, DEBUG = 1, 2, 3, 4
STDOUT, STDERR = 1, 2


class Log:
    """Lines "(seconds.microseconds) text" since `start`; the times are left out below level 3, as criu does. In a
    migration its id stands before the text.

    `fd` may be handed to the engine, which writes to it as well: every line is one write(2) to an O_APPEND
    file.
    """

    def __init__(self, level: int, start: float) -> None:
        """Log to stderr at criu's `level`, until `open` is called. `start`: a time.monotonic()."""
        self.level = level
        self.start = start
        self.fd = STDERR

    def open(self, path: str | None) -> None:
        """Log to the file `path` from now on; "-" is stdout, None stderr. Raises CriuLazyError."""
        try:
            if path is None or path == "-":
                # A descriptor of its own: --daemon points 1 and 2 to /dev/null.
                self.fd = os.dup(STDERR if path is None else STDOUT)
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
                self.fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise CriuLazyError(f"can't open the log {path or 'on stderr'}: {error.strerror}") from error

    def error(self, text: str) -> None:
        self._write(ERROR, f"Error (criu-lazy): {text}")

    def warn(self, text: str) -> None:
        self._write(WARN, f"Warn  (criu-lazy): {text}")

    def info(self, text: str) -> None:
        self._write(INFO, text)

    def debug(self, text: str) -> None:
        self._write(DEBUG, text)

    def _write(self, level: int, text: str) -> None:
        if level > self.level:
            return
        text = mark() + text
        if self.level >= INFO:
            seconds, microseconds = divmod(int((time.monotonic() - self.start) * 1e6), 1_000_000)
            text = f"({seconds:02}.{microseconds:06}) {text}"
        with contextlib.suppress(OSError):  # a full disk must not end a migration
            os.write(self.fd, f"{text}\n".encode(errors="surrogateescape"))
