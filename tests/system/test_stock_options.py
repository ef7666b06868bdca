"""`lazy-pages` and stock criu take, and refuse, the same command lines."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from command_lines import REFUSED, TAKEN
from host_with_criu import HostWithCriu, host_with_criu
from paths import IMAGES

# Runs each line with criu and with criu-lazy, in a directory of real images: [exit status, whether it came up
# (told by the byte on its status fd; it is ended then), standard error] of each. With -d nobody is told: criu's
# daemon may write its byte before its parent finds that there can be no pidfile, and kills it.
COMPARE = """
import base64, os, shlex, shutil, subprocess, tempfile
def look(program, line):
    directory = tempfile.mkdtemp()
    for name, content in given["files"].items():
        with open(f"{directory}/{name}", "wb") as file:
            file.write(base64.b64decode(content))
    ready, status = os.pipe()
    words = [*program, "lazy-pages", "-D", directory, *shlex.split(line)]
    words[4:4] = ["--status-fd", str(status)] if not {"--status-fd", "-d"} & set(line.split()) else []
    process = subprocess.Popen(words, cwd=directory, pass_fds=[status], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    os.close(status)
    up = os.read(ready, 1) == b"\\0"
    os.close(ready)
    if up:
        process.terminate()
    errors = process.communicate(timeout=10)[1]
    shutil.rmtree(directory)
    return [process.returncode, up, errors]
result = [[look(["criu"], line), look(["criu-lazy"], line)] for line in given["lines"]]
"""


@pytest.fixture(scope="module")
def host() -> Iterator[HostWithCriu]:
    with host_with_criu() as found:
        yield found


def test_stock_criu_agrees(host: HostWithCriu) -> None:
    """Both programs, run: the same lines come up, the same fail, with one status and getopt's message."""
    files = {path.name: path.read_bytes() for path in (IMAGES / "criu-4.1.1").glob("*.img")}
    given = {
        "lines": TAKEN + REFUSED,
        "files": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
    seen = host.python(COMPARE, given, timeout=300)
    problems = []
    for line, (stock, ours) in zip(TAKEN + REFUSED, seen, strict=True):
        getopt = [text.removeprefix("criu: ") for text in stock[2].splitlines() if text.startswith("criu: ")]
        same = stock[:2] == ours[:2] and all(text in ours[2] for text in getopt)
        if not same or stock[1] != (line in TAKEN):
            problems.append(f"{line}: criu {stock}, criu-lazy {ours}")
    assert not problems, "\n".join(problems)
