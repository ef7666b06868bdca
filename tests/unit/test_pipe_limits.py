"""The limits of pipes, raised by several migrations at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from criu_lazy_ext.source import pipe_limits
from criu_lazy_ext.source.pipe_limits import PipeLimits, PipeLimitsError


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    size, pages = tmp_path / "size", tmp_path / "pages"
    size.write_text("1048576")
    pages.write_text("16384")
    monkeypatch.setattr(pipe_limits, "SHARED", tmp_path / "run" / "shared")
    monkeypatch.setattr(pipe_limits, "WANTED", {size: 4 << 20, pages: 0})
    yield size, pages


def values(limits: tuple[Path, Path]) -> list[int]:
    return [int(path.read_text()) for path in limits]


def test_the_last_one_brings_them_back(limits: tuple[Path, Path]) -> None:
    """Before, the first to end did, and a dump that came after it failed."""
    first, second = PipeLimits(), PipeLimits()
    first.raise_()
    second.raise_()
    assert values(limits) == [4 << 20, 0]
    first.restore()
    assert values(limits) == [4 << 20, 0]
    second.restore()
    assert values(limits) == [1 << 20, 16384]


def test_who_was_killed(limits: tuple[Path, Path]) -> None:
    """The next migration's end brings them back, or its own record."""
    for by_record in (False, True):
        killed, other = PipeLimits(), PipeLimits()
        killed.raise_()
        other.raise_()
        os.close(killed._shared)
        if by_record:
            other.restore()
            PipeLimits(killed.before()).restore()
        else:
            PipeLimits(killed.before()).restore()
            assert values(limits) == [4 << 20, 0]
            other.restore()
        assert values(limits) == [1 << 20, 16384]


def test_what_is_enough_is_left(limits: tuple[Path, Path]) -> None:
    size, pages = limits
    size.write_text(str(8 << 20))
    pages.write_text("0")
    raised = PipeLimits()
    raised.raise_()
    assert (values(limits), raised.before()) == ([8 << 20, 0], {})
    raised.restore()
    assert values(limits) == [8 << 20, 0]


def test_one_that_can_not_be_set(limits: tuple[Path, Path]) -> None:
    limits[0].unlink()
    limits[0].mkdir()
    with pytest.raises(PipeLimitsError, match="size: Is a directory; set it to 4194304 by sysctl"):
        PipeLimits().raise_()
