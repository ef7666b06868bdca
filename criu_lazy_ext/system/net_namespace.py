"""Network namespaces: doing something in another one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def within(namespace: int, action: Callable[[bool], T]) -> T:
    """Call `action(whether it is this process's own)` in the network namespace of that descriptor; what it returns.

    Raises what it raises, OSError.
    """
    if os.fstat(namespace).st_ino == Path("/proc/self/ns/net").stat().st_ino:
        return action(True)
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:  # in a thread: only that one changes
        import ctypes  # most migrations don't need it, and it takes long

        libc = ctypes.CDLL(None, use_errno=True)
        try:
            if libc.setns(namespace, 0) < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            results.append(action(False))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
