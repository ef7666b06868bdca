"""criu-lazy init: what its profile says, and what is left to settle."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from criu_lazy_ext.checks.check import Finding, Verdict
from criu_lazy_ext.commands import init
from criu_lazy_ext.profile import Profile


def test_hooks_that_bring_files_settle_no_other_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """With any hook, checks leave to it what hooks can do; these are init's own."""

    async def found(profile: Profile, *_: Any) -> list[Finding]:
        files = Finding("missing-files", "dst", Verdict.FAIL, "not there", paths=("/srv/data", "/srv/log"))
        addresses = Finding("addresses", "dst", Verdict.WARN if profile.hooks else Verdict.FAIL, "10.78.0.1", "move it")
        return [addresses] if profile.hooks else [files, addresses]

    monkeypatch.setattr(init, "check_hosts", found)
    draft = init.Draft(os.getpid(), "dst")
    asyncio.run(init.fit(draft))
    text = draft.text()
    assert "# fail: dst: 10.78.0.1: move it" in text and "rsync -a --relative /srv/data /srv/log dst:/" in text
    assert init._summary(draft.left) == "to be settled first, as it says at its top: addresses"
    columns = {line.index(" # ") for line in text.splitlines() if " # " in line and not line.startswith("#")}
    assert len(columns) == 1, "comments stand below each other"
