"""A check: a name, what it looks at, why that matters, the way out; and what it found.

`criu-lazy migrate` runs all of them before the freeze, `criu-lazy check` at any time; docs/preflight.md is made of
them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, TypeVar

from criu_lazy_ext.engines.engine import NAMED_HERE

WORKERS = 8  # most checks read files; some wait for criu

T = TypeVar("T")


COULD_NOT_LOOK = "could not look: "


class Verdict(enum.StrEnum):
    OK = "ok"
    WARN = "warn"  # it moves, but something changes for it, or could not be looked at
    FAIL = "fail"  # it can't be moved, or would be wrong there


@dataclass(frozen=True)
class Found:
    """What a check has to say; without a `way_out`, the check's own is meant. `paths`: all files that it is about, if
    it is about files."""

    verdict: Verdict
    text: str
    way_out: str = ""
    paths: tuple[str, ...] = ()


def warn(text: str, way_out: str = "") -> Found:
    return Found(Verdict.WARN, text, way_out)


def fail(text: str, way_out: str = "") -> Found:
    return Found(Verdict.FAIL, text, way_out)


@dataclass(frozen=True)
class Finding:
    """One line of the result. `host`: whose check it was; `text`: empty if all is well; `paths`: as in Found."""

    check: str
    host: str
    verdict: Verdict
    text: str = ""
    way_out: str = ""
    paths: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """For people: what is wrong, and the way out."""
        return f"{self.host}: {self.text}" + (f": {self.way_out}" if self.way_out else "")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Check(Generic[T]):
    """`look` gets what there is to look at, and yields what is wrong; nothing: all is well."""

    name: str
    looks_at: str
    why: str
    way_out: str
    look: Callable[[T], Iterable[Found]]

    def run(self, subject: T, host: str) -> list[Finding]:
        """At least one finding; what can't be looked at is said, and stops nothing."""
        found: list[Finding] = []
        try:
            for item in self.look(subject):
                way_out = item.way_out or self.way_out
                found.append(Finding(self.name, host, item.verdict, item.text, way_out, item.paths))
        except Exception as error:  # a check must never be what a migration fails of
            reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            found.append(Finding(self.name, host, Verdict.WARN, f"{self.name}: {COULD_NOT_LOOK}{reason}"))
        return found or [Finding(self.name, host, Verdict.OK)]


def check(name: str, *, why: str, way_out: str = "") -> Callable[[Callable[[T], Iterable[Found]]], Check[T]]:
    """Make a check of a function; its docstring says what it looks at."""

    def made(look: Callable[[T], Iterable[Found]]) -> Check[T]:
        return Check(name, " ".join((look.__doc__ or "").split()), why, way_out, look)

    return made


def run_all(checks: Sequence[Check[T]], subject: T, host: str) -> list[Finding]:
    """All of them, side by side; in their order."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return [finding for found in pool.map(lambda item: item.run(subject, host), checks) for finding in found]


def from_json(findings: Iterable[dict[str, Any]], host: str) -> list[Finding]:
    """What the other host has found."""
    return [
        Finding(
            item["check"], host, Verdict(item["verdict"]), named(item["text"], host), item["way_out"],
            tuple(item.get("paths", ())),
        )
        for item in findings
    ]  # fmt: skip


def named(text: str, host: str) -> str:
    """With the other host's own name in commands."""
    return text.replace(f"ssh {NAMED_HERE} ", f"ssh {host} ")


def accept(findings: Iterable[Finding], names: Iterable[str]) -> Iterator[Finding]:
    """Of the checks that the user has taken upon himself, failures are warnings, and warnings are well.

    Not what could not be looked at: nobody knows what he would take upon himself.
    """
    accepted, less = set(names), {Verdict.FAIL: Verdict.WARN, Verdict.WARN: Verdict.OK}
    for finding in findings:
        is_accepted = finding.check in accepted and not finding.text.startswith(f"{finding.check}: {COULD_NOT_LOOK}")
        yield replace(finding, verdict=less.get(finding.verdict, finding.verdict)) if is_accepted else finding


def failures(findings: Iterable[Finding]) -> str:
    """Those that stop a migration, in one line; "" if none does."""
    return "; ".join(finding.line for finding in findings if finding.verdict is Verdict.FAIL)
