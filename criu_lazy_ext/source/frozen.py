"""The frozen source task's processes, as known to the page server that stands in front of it.

What was found out is kept in a file beside the control socket: a page server that follows a dead one can't find it out
any more if a process, the root perhaps, was killed meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from criu_lazy_ext.criu.images import Images
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.source import fence
from criu_lazy_ext.source.task import OVER, identity, look
from criu_lazy_ext.system.files import replace_file
from criu_lazy_ext.system.processes import protect_from_oom, send_signal, start_time, tree

STOPS_WITHIN_S = 5.0
DIES_WITHIN_S = 10.0


class FrozenError(CriuLazyError):
    """What a dead page server left behind can't be read."""


@dataclass
class Frozen:
    """`began`: start times by pid here; `ids`: pids here by the images' pids; `stopped`: those that a signal had
    stopped before the dump; `rate`: what pages may take; `oom_scores`: what was changed, as it was; `fenced`: the
    fence is around them."""

    began: dict[int, int] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=dict)
    stopped: list[int] = field(default_factory=list)
    rate: int = 0
    oom_scores: dict[int, int] = field(default_factory=dict)
    fenced: bool = False

    @classmethod
    def of_tree(cls, root: int, images: Images | None) -> Frozen:
        """The process that was dumped and all below it. Raises ImageError."""
        ids = tree(root)
        processes = filter(None, map(identity, ids.values()))
        stopped = [ids[inner] for inner in images.stopped() if inner in ids] if images else []
        return cls(dict(processes), ids, stopped)

    @classmethod
    def load(cls, control: Path) -> Frozen:
        """What the page server of this control socket has left. Raises FrozenError."""
        path = _path(control)
        try:
            kept = json.loads(path.read_text())
            began, ids, oom_scores = (
                {int(key): int(value) for key, value in kept[name].items()} for name in ("began", "ids", "oom_scores")
            )
            return cls(began, ids, kept["stopped"], int(kept["rate"]), oom_scores, bool(kept.get("fenced")))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError) as error:
            raise FrozenError(f"{path}: {error}") from error

    def save(self, control: Path) -> None:
        """For the page server that may follow. Raises FrozenError."""
        path = _path(control)
        try:
            replace_file(path, json.dumps(asdict(self)))
        except OSError as error:
            raise FrozenError(f"{path}: {error.strerror}") from error

    def fence(self) -> list[int]:
        """Put the fence around all that ran before the dump; returns those. Raises FenceError."""
        fenced = [pid for pid in self.began if pid not in self.stopped]
        if killed := self.killed():
            raise fence.FenceError(f"{fence.NOT_KEPT}: process {killed[0]} was killed")
        fence.fence(fenced)
        self.fenced = bool(self.began)
        return fenced

    def await_stop(self) -> bool:
        """Wait until the fence has stopped all that is left: the dump is dead. False: it doesn't hold it."""
        deadline = time.monotonic() + STOPS_WITHIN_S
        while self.fenced and time.monotonic() < deadline:
            if all(look(process) in OVER or fence.is_stopped(process[0]) for process in self.began.items()):
                return True
            time.sleep(0.002)
        return False

    def kill(self) -> bool:
        """Kill all that is left, and look that it is: whether nothing of it will ever run again."""
        for pid, began in self.began.items():
            send_signal(pid, began, signal.SIGKILL)
        deadline = time.monotonic() + DIES_WITHIN_S
        while not (over := self.is_over()) and time.monotonic() < deadline:
            time.sleep(0.002)
        return over

    def is_over(self) -> bool:
        """Whether nothing of it will ever run again."""
        return all(look(process) in OVER for process in self.began.items())

    def lift(self) -> None:
        """Let run what is left and ran before; each with its old OOM score."""
        alive = self.alive()
        self._set_oom_scores({pid: score for pid, score in self.oom_scores.items() if pid in alive})
        self.oom_scores.clear()
        fence.lift(pid for pid in alive if pid not in self.stopped)
        self.fenced = False

    def alive(self) -> list[int]:
        """Those that are there."""
        # No pidfd tells: the threads of a process that was killed are zombies until their tracer cares.
        return [pid for pid, began in self.began.items() if start_time(pid) == began]

    def killed(self) -> list[int]:
        """Those that something has killed."""
        alive = self.alive()
        return [pid for pid in self.began if pid not in alive]

    def protect(self) -> None:
        """From the OOM killer, as far as it may be: the processes, and criu dump, which holds them."""
        alive = self.alive()
        tracers = {fence.tracer(pid) for pid in alive} - {0}
        for pid in (*alive, *tracers):
            before = protect_from_oom(pid)
            if before is not None and pid in alive:
                self.oom_scores.setdefault(pid, before)

    @staticmethod
    def _set_oom_scores(scores: dict[int, int]) -> None:
        for pid, score in scores.items():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/oom_score_adj").write_text(str(score))


def forget(control: Path) -> None:
    """Nobody follows any more."""
    _path(control).unlink(missing_ok=True)


def _path(control: Path) -> Path:
    return control.with_name(control.name + ".tasks")
