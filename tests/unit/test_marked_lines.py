"""A migration's id in what its processes say, and in what is told of them."""

from __future__ import annotations

import pytest

from criu_lazy_ext.criu.explain import cause
from criu_lazy_ext.criu.log import Log
from criu_lazy_ext.system import migration_id
from criu_lazy_ext.system.events import Events


def test_a_line_has_it_and_what_is_told_of_the_line_has_not(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = migration_id.new_id()
    assert migration_id.is_id(found) and migration_id.new_id() != found
    log = Log(3, 0.0)
    log.error("it failed")
    monkeypatch.setenv(migration_id.VARIABLE, found)
    log.error("it failed")
    without, with_it = capfd.readouterr().err.splitlines()
    assert found not in without
    assert f") [{found}] Error (criu-lazy): it failed" in with_it
    assert cause([with_it]) == with_it.replace(f"[{found}] ", "")
    assert migration_id.without_mark(f"[{found}] x") == "x"


@pytest.mark.parametrize("text", ["", "a\nb", "[x]", "a b", "x" * 33, "\xe9"])
def test_what_is_no_id_marks_no_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(migration_id.VARIABLE, text)
    assert migration_id.mark() == ""


def test_what_is_told_early_is_in_the_file_too_and_a_lost_directory_ends_nothing(tmp_path) -> None:
    events = Events("abc123")
    events.tell("first")
    events.keep_in(tmp_path / "x.log")
    events.tell("second\nline", "warning")
    first, second = (tmp_path / "x.log").read_text().splitlines()
    assert first.endswith("Z [abc123] first") and second.endswith("Z [abc123] warning: second line")
    events.keep_in(tmp_path / "nowhere/x.log")
    events.tell("third")
    Events("").tell("nothing")
