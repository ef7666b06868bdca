"""A kernel whose pages are not of 4096 bytes, as an arm64 one's may be, is refused at the start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REFUSED = "this kernel has pages of 16384 bytes, and criu-lazy serves 4096 only"
# What the kernel tells each program at its start comes from here.
TELLS_OTHERS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
long sysconf(int name)
{
    return name == _SC_PAGESIZE ? 16384 : ((long (*)(int))dlsym(RTLD_NEXT, "sysconf"))(name);
}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a program that is told of pages of 16 KiB."""
    library = tmp_path_factory.mktemp("pages") / "sysconf.so"
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=TELLS_OTHERS, text=True, check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


def criu_lazy(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "criu_lazy_ext.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "words",
    ["lazy-pages -D DIR", "page-server --upstream 127.0.0.1:1", "page-store --address ::1 --port 1 --directory DIR/x"],
    ids=["lazy-pages", "page-server", "page-store"],
)
def test_each_of_them_says_so_at_its_start(environment: dict[str, str], words: str, tmp_path: Path) -> None:
    done = criu_lazy(environment, *words.replace("DIR", str(tmp_path)).split())
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith(REFUSED), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["--source", "--destination"])
def test_the_preflight_says_so_of_each_end(environment: dict[str, str], end: str) -> None:
    done = criu_lazy(environment, "check", end, "--json")
    (found,) = (finding for finding in json.loads(done.stdout) if finding["check"] == "page-size")
    assert (found["verdict"], found["text"]) == ("fail", REFUSED)
