"""Which versions go together (docs/versions.md): this one and the one of before, both ways; and who is refused."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator

import pytest
from migrating import BASE, FAILED, Migration, Worker, assert_clean, assert_moved
from paths import C_SRC, CHECKOUT

from criu_lazy_ext import __version__
from criu_lazy_ext.remote.channel import PROTOCOL
from testbed import Testbed

# The version of before: the newest release or, as long as there is none, the last landing before this table.
BEFORE = "9444ebcf11eaf674c3a26b498464a3049b362e72"
ENGINE = ("c_src", "setup.py", "pyproject.toml", "criu_lazy_ext/_engine_build.py")
TREE = ("criu_lazy_ext", *ENGINE, "README.md", "LICENSE")
RUNS = '#!/bin/sh\nPYTHONPATH=/srv/{name} exec python3 -m criu_lazy_ext.cli "$@"\n'
# As another version: of which it is made, what is changed in its files.
OTHERS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "early": ("before", {"__init__.py": (r'__version__ = ".*"', '__version__ = "0.0.9"')}),
    "next": ("now", {"__init__.py": (r'__version__ = ".*"', '__version__ = "0.1.99"')}),
    "far": (
        "now",
        {
            "__init__.py": (r'__version__ = ".*"', '__version__ = "0.9.0"'),
            "remote/channel.py": (r"PROTOCOL = \d+", f"PROTOCOL = {PROTOCOL + 1}"),
        },
    ),
}


def git(*words: str) -> subprocess.CompletedProcess[bytes]:
    command = ["git", "-c", f"safe.directory={CHECKOUT}", *words]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False)


def unpack_before(testbed: Testbed) -> None:
    """On src, with its engine."""
    src = testbed.src
    packed = git("archive", BEFORE, "--", *TREE)
    assert packed.returncode == 0, packed.stderr
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(src.root / "srv/before", filter="data")
    if git("diff", "--quiet", BEFORE, "--", *ENGINE).returncode == 0:  # its engine is this one's
        src.run(["sh", "-c", "cp /srv/now/criu_lazy_ext/_engine*.so /srv/before/criu_lazy_ext/"])
    else:
        src.write("/srv/before/cc", '#!/bin/sh\nexec gcc "$@" -O0 -g0\n')  # half of what it takes otherwise
        build = "chmod +x cc && CC=/srv/before/cc exec python3 setup.py -q build_ext --inplace"
        src.run(["sh", "-c", f"cd /srv/before && {build}"], timeout=200)


def change(testbed: Testbed, name: str) -> None:
    """Make one of OTHERS, on src."""
    made_of, changes = OTHERS[name]
    testbed.src.run(["cp", "-r", f"/srv/{made_of}", f"/srv/{name}"])
    for path, (old, new) in changes.items():
        file = f"/srv/{name}/criu_lazy_ext/{path}"
        text, count = re.subn(f"^{old}$", new, testbed.src.read(file), flags=re.MULTILINE)
        assert count == 1, file
        testbed.src.write(file, text)


@pytest.fixture(scope="module")
def versions(pair: Testbed) -> Iterator[Testbed]:
    """On both hosts `criu-lazy-before`, and one command for each of OTHERS, whose processes run nothing else."""
    if git("cat-file", "-e", f"{BEFORE}^{{commit}}").returncode != 0:
        pytest.skip(f"commit {BEFORE[:12]}, the version of before, is not in this clone: git fetch --unshallow")
    src, dst = pair.src, pair.dst
    src.run(["sh", "-c", "mkdir /srv/now && cp -r /usr/local/lib/python3*/dist-packages/criu_lazy_ext /srv/now/"])
    unpack_before(pair)
    for name in OTHERS:
        change(pair, name)
    names = ["before", *OTHERS]
    src.run(["tar", "--create", "--file", "/srv/versions.tar", "--directory", "/srv", *names])
    (dst.root / "srv/versions.tar").write_bytes((src.root / "srv/versions.tar").read_bytes())
    dst.run(["tar", "--extract", "--file", "/srv/versions.tar", "--directory", "/srv"])
    for host in (src, dst):
        for name in names:
            host.write(f"/usr/local/bin/criu-lazy-{name}", RUNS.format(name=name))
            host.run(["chmod", "+x", f"/usr/local/bin/criu-lazy-{name}"])
    yield pair
    for host in (src, dst):
        host.run(["sh", "-c", 'rm -rf /srv/versions.tar; cd /srv && rm -rf "$@"', "rm", "now", *names])
        host.run(["sh", "-c", "rm /usr/local/bin/criu-lazy-*"])


def migration(testbed: Testbed, source: str, destination: str) -> Migration:
    """By the versions of these names; "": this one."""
    program, there = (f"criu-lazy-{name}" if name else "criu-lazy" for name in (source, destination))
    profile = BASE.replace("ssh: dst", f"ssh: dst, criu_lazy: {there}").replace("strategy: lazy", "strategy: hybrid")
    return Migration(testbed, profile, program=program)


GO = [("", "before"), ("before", ""), ("", "next"), ("next", "")]


@pytest.mark.parametrize(("source", "destination"), GO, ids=lambda name: name or "now")
def test_a_task_moves_between_versions(versions: Testbed, worker: Worker, source: str, destination: str) -> None:
    moved = migration(versions, source, destination)
    assert_moved(worker, moved)
    assert moved.report["precopy"] and moved.report["warnings"] == []


SPEAK = "their halves speak different protocols"
REFUSED = {
    ("", "early"): f"criu-lazy {__version__} here, 0.0.9 at dst",
    ("early", ""): f"criu-lazy 0.0.9 here, {__version__} at dst",
    ("", "far"): f"criu-lazy {__version__} here, 0.9.0 at dst: {SPEAK}, {PROTOCOL} and {PROTOCOL + 1}",
    ("far", ""): f"criu-lazy 0.9.0 here, {__version__} at dst: {SPEAK}, {PROTOCOL + 1} and {PROTOCOL}",
}


@pytest.mark.parametrize(("source", "destination"), REFUSED, ids=lambda name: name or "now")
def test_versions_that_do_not_go_together_are_refused_before_anything_is_frozen(
    versions: Testbed, worker: Worker, source: str, destination: str
) -> None:
    refused = migration(versions, source, destination)
    assert refused.end() == FAILED, refused.stderr
    message = refused.report["message"]
    assert REFUSED[source, destination] in message and "install the same on both hosts" in message
    assert "\n" not in message
    assert list(refused.report["phases_s"]) in ([], ["failed"]), "it was not frozen"
    assert worker.answers(versions.src) == "right\n"
    assert_clean(versions)


def test_the_table_has_this_version() -> None:
    """And no push protocol changes its number without that of the halves."""
    [push] = re.findall(r"CL_PUSH_VERSION = (\d+)", (C_SRC / "wire/push_protocol.h").read_text())
    page = (CHECKOUT / "docs/versions.md").read_text()
    rows = re.findall(r"^\| (\d+\.\d+\.\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert rows[-1] == (__version__, str(PROTOCOL), push)
    assert len({numbers[1] for _, *numbers in rows}) <= len({numbers[0] for _, *numbers in rows})
