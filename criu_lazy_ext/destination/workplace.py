"""What all parts of the agent share: what was made here so far, the way to the source, and the way to the keeper."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

from criu_lazy_ext.destination.undo import AgentError, Made
from criu_lazy_ext.remote.channel import Channel
from criu_lazy_ext.system.events import Events
from criu_lazy_ext.system.files import KEY_FILE, write_key
from criu_lazy_ext.system.live_state import LiveState


class Workplace:
    """`keeper` is a pipe to the keeper."""

    def __init__(self, channel: Channel, keeper: int) -> None:
        self.channel = channel
        self.keeper = keeper
        self.made = Made()
        self.connected = True
        self.live: LiveState | None = None  # once there is a directory
        self.events = Events("")  # once its id is known
        self.background: set[asyncio.Task[None]] = set()

    def tell_keeper(self) -> None:
        """What there is to undo has changed."""
        with contextlib.suppress(OSError):
            os.write(self.keeper, json.dumps(asdict(self.made)).encode() + b"\n")

    def note_state(self, state: str) -> None:
        """For who asks what goes on here."""
        self.events.tell(state)
        if self.live is not None:
            self.live.note(state=state)

    def touch(self) -> None:
        """From now on there is something that the hooks of a roll back may have to undo."""
        if not self.made.touched:
            self.made.touched = True
            self.tell_keeper()

    def images(self) -> Path:
        if not self.made.directory:
            raise AgentError("prepare comes first")
        return Path(self.made.directory) / "images"

    def work(self) -> Path:
        return self.images().parent / "work"

    def key_file(self, key: str) -> Path:
        """The file with the migration's key, made when it is needed first. Raises OSError."""
        path = self.work() / KEY_FILE
        return path if path.exists() else write_key(self.work(), key)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task
