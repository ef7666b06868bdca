"""criu-lazy cancel: what it tells of a migration that ended before it could be stopped."""

from __future__ import annotations

import os
import time
from pathlib import Path

from criu_lazy_ext.commands.cancel import reported
from criu_lazy_ext.migration import run_file


def test_the_end_is_told_as_the_newest_run_file_has_it(tmp_path: Path) -> None:
    directory, now = tmp_path / "web", time.time()
    assert reported(directory, now - 10) == ""
    for began, outcome in ((now - 100, "rolled-back"), (now - 5, "committed")):
        path = run_file.path_of(directory, began)
        run_file.save(path, {"format": run_file.FORMAT, "report": {"outcome": outcome}})
        os.utime(path, (began, began))
    assert reported(directory, now - 10) == f"committed, as {path} has it"
    assert reported(directory, now) == "", "that one ended before"
