"""The commands of a profile that run at a migration's phases."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.system.processes import describe_status


class HookError(CriuLazyError):
    """A hook failed, or took too long."""


async def run_hook(command: str | list[str], environment: dict[str, str], timeout: float) -> None:
    """Run a command, by /bin/sh if it is a text. `timeout`: in seconds. Raises HookError with what it printed last."""
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else command
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, env={**os.environ, **environment}, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise HookError(f"hook {command!r}: {error.strerror}") from error
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        raise HookError(f"hook {command!r} took longer than {timeout:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        lines = output.decode(errors="replace").strip().splitlines()
        raise HookError(f"hook {command!r} {describe_status(process.returncode)}: {lines[-1] if lines else ''}")
