"""What the source's checks look at: this host, and the task with its profile, as far as there are such."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from functools import cached_property

from criu_lazy_ext.checks.needs import Needs, measure
from criu_lazy_ext.checks.sockets import Sockets
from criu_lazy_ext.checks.task import Task, not_lazy_bytes
from criu_lazy_ext.criu.contrary import options_in, options_of_files, value_of
from criu_lazy_ext.engines.engine import Moved, find
from criu_lazy_ext.profile import Directories, Profile

BEFORE_RESTORE = ("before_dump", "after_dump", "before_restore")
# As a command, of a shell's line.
BEFORE_COMMAND = r"(?:exec|then|do|else|if|!|time|sudo|nice|ionice|[A-Za-z_]\w*=\S*)\s+"
RSYNC = re.compile(rf"(?:^|[;&|({{`])\s*(?:{BEFORE_COMMAND})*rsync\s", re.MULTILINE)
IMAGES_OF_PROCESS_BYTES = 64 << 10  # at the least; 100 to 600 KB were seen


@dataclass(frozen=True)
class Leaving:
    """`task` and `needs` None: only the host is looked at. `profile` None: as if everything stood at its default."""

    profile: Profile | None = None
    task: Task | None = None
    needs: Needs | None = None
    moved: Moved | None = None  # if it is a container

    @classmethod
    def look(cls, profile: Profile | None, pid: int | None) -> Leaving:
        """Read what there is of the task. Raises OSError if it has ended, EngineError if that is a container that its
        engine doesn't know."""
        if pid is None:
            return cls(profile)
        options = dump_options(profile)
        # An engine makes the container's group at the destination, with its limits.
        moved = find(profile.container) if profile is not None and profile.container is not None else None
        needs = measure(pid, charged=moved is None and value_of("manage-cgroups", options) != "ignore")
        return cls(profile, Task.look(pid), needs, moved)

    @cached_property
    def sockets(self) -> Sockets:
        """The task's. Raises OSError if they can't be looked at."""
        return Sockets.of(self.task) if self.task is not None else Sockets()

    @cached_property
    def not_lazy(self) -> dict[str, int]:
        """Bytes of memory that goes in the downtime, by why."""
        return not_lazy_bytes(self.task) if self.task is not None else {}

    @property
    def not_lazy_bytes(self) -> int:
        """All of it."""
        return sum(self.not_lazy.values())

    @property
    def directory(self) -> str:
        """For the images."""
        return str(self.profile.directories.source if self.profile is not None else Directories().source)

    @property
    def image_bytes(self) -> int:
        """Room that the images will take at the least."""
        return self.not_lazy_bytes + IMAGES_OF_PROCESS_BYTES * len(self.task.processes) if self.task else 0

    def dump_words(self) -> list[str]:
        """What criu dump is given for the user, as it stands."""
        return dump_options(self.profile)

    def restore_words(self) -> list[str]:
        """The same of criu restore."""
        return restore_options(self.profile)

    def dump_value(self, option: str) -> str | None:
        """What criu dump will be told by a long option that takes a value, or None."""
        return value_of(option, dump_options(self.profile))

    def dump_flags(self) -> set[str]:
        """The options that criu dump will be told, on its command line or in its files, by their long names."""
        words = dump_options(self.profile)
        given = [*(item for _, item in options_of_files(words, os.environ)), *options_in(words)]
        return {f"--{item.name}" for item in given}

    def hook_programs(self, on: str) -> list[str]:
        """What hooks on that side run without a shell; and rsync, which `criu-lazy init` has a shell run: to the
        destination it takes one there, too."""
        if self.profile is None:
            return []
        hooks = [hook for hooks in self.profile.hooks.values() for hook in hooks]
        found = [hook.run[0] for hook in hooks if hook.on == on and isinstance(hook.run, list)]
        to = (f"{self.profile.destination.ssh}:", "CRIU_LAZY_DESTINATION")
        for hook in hooks:
            line = hook.run if isinstance(hook.run, str) else shlex.join(hook.run)
            if RSYNC.search(line) and (hook.on == on or any(word in line for word in to)):
                found.append("rsync")
        return found

    def hooks(self) -> str:
        """The words of the hooks before the restore, which may bring the task's files, or its address."""
        given = self.profile.hooks if self.profile is not None else {}
        runs = [hook.run for phase in BEFORE_RESTORE for hook in given.get(phase, [])]
        return "\n".join(run if isinstance(run, str) else shlex.join(run) for run in runs)


def dump_options(profile: Profile | None) -> list[str]:
    """What criu dump is given for the user."""
    return [*profile.criu.options(), *profile.criu.dump_options] if profile is not None else []


def restore_options(profile: Profile | None) -> list[str]:
    """What criu restore is given for the user."""
    return [*profile.criu.options(), *profile.criu.restore_options] if profile is not None else []
