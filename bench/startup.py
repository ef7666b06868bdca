"""How long our daemon takes to load the images of a huge task, and what memory that costs."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.handmade import DIRECTORY, OURS, PORT, MigrationError
from testbed import Testbed

PAGES = 20 << 30 >> 12
ENTRIES = 1_000_000
VMAS = 60_000
# What a daemon may take at its start: 64 MiB, and a byte for each page of the task.
FIXED_BYTES = 64 << 20

# Runs where pycriu is. Every area has its share of the entries; between two entries a page is missing, so that they
# stay apart.
MAKE_IMAGES = """
import importlib, struct, sys
import pycriu
sys.path.append(pycriu.__path__[0] + "/images")
directory, pages, entries, vmas = sys.argv[1], *map(int, sys.argv[2:])
message = lambda kind: getattr(importlib.import_module(f"{kind}_pb2"), f"{kind}_entry")()

def write(name, magics, messages):
    with open(f"{directory}/{name}", "wb") as file:
        file.write(struct.pack(f"<{len(magics)}I", *magics))
        for one in messages:
            file.write(struct.pack("<I", len(one)) + one)

def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)

COMMON = 0x54564319
PID = 101
inventory = message("inventory")
inventory.img_version = 2
write("inventory.img", (COMMON, 0x58313116), [inventory.SerializePartialToString()])
task = message("pstree")
task.pid = task.pgid = task.sid = PID
task.ppid = 0
task.threads.append(PID)
write("pstree.img", (COMMON, 0x50273030), [task.SerializeToString()])
memory = message("mm")
pagemap = [b"\\x08" + varint(1)]
address, entry, page = 0x10000000, 0, 0
for vma in range(vmas):
    start = address
    while entry * vmas < (vma + 1) * entries:
        entry += 1
        nr_pages = entry * pages // entries - page
        page += nr_pages
        pagemap.append(b"\\x08" + varint(address) + b"\\x20\\x02\\x28" + varint(nr_pages))
        address += (nr_pages + 1) * 4096
    area = memory.vmas.add()
    area.start, area.end, area.pgoff, area.shmid, area.prot, area.flags = start, address, 0, 0, 3, 0x22
    area.status, area.fd = 1 | 1 << 9, -1
    address += 4096
write(f"mm-{PID}.img", (COMMON, 0x57492820), [memory.SerializePartialToString()])
write(f"pagemap-{PID}.img", (COMMON, 0x56084025), pagemap)
assert (entry, page) == (entries, pages)
"""


@dataclass
class Startup:
    """The figures of one start. `bound_bytes` is what the daemon may have resident."""

    pages: int
    entries: int
    vmas: int
    listening_s: float  # from its start until criu restore could connect
    ready_s: float  # from its start until all images were loaded
    resident_bytes: int  # then
    peak_bytes: int  # the most until then
    bound_bytes: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def make_images(tb: Testbed, directory: str, pages: int, entries: int, vmas: int) -> None:
    """Write the images of one task to `directory` on dst: so many lazy pages, pagemap entries and areas."""
    tb.dst.run(["sh", "-c", f"rm -rf {directory} && mkdir -p {directory}"])
    arguments = [directory, str(pages), str(entries), str(vmas)]
    tb.dst.run(["/usr/bin/python3", "-c", MAKE_IMAGES, *arguments])


def measure_startup(tb: Testbed, pages: int = PAGES, entries: int = ENTRIES, vmas: int = VMAS) -> Startup:
    """Make such images, start our daemon on them, end it when it is ready. Raises MigrationError if it never is."""
    images = f"{DIRECTORY}/startup"
    make_images(tb, images, pages, entries, vmas)
    command = [*OURS, "-o", "lazy-pages.log", "-D", images, "--page-server"]
    command += ["--address", tb.src.address, "--port", str(PORT)]
    (status, tell_status), (stats, tell_stats) = os.pipe(), os.pipe()
    began = time.monotonic()
    options = ["--status-fd", str(tell_status), "--stats-fd", str(tell_stats)]
    daemon = tb.dst.popen([*command, *options], pass_fds=(tell_status, tell_stats), stdout=-3, stderr=-3)
    os.close(tell_status)
    os.close(tell_stats)
    try:
        listening = os.read(status, 1)
        listening_s = time.monotonic() - began
        line = b""
        while listening and not line.endswith(b"\n"):
            piece = os.read(stats, 4096)
            if not piece:
                break
            line += piece
        ready_s = time.monotonic() - began
        pid = daemon.inner_pid()
        if not line.endswith(b"\n") or pid is None:
            log = tb.dst.run(["tail", "-n", "3", f"{images}/lazy-pages.log"], check=False).stdout.strip()
            raise MigrationError(f"the daemon ended before it had loaded its images: {log!r}")
        loaded = json.loads(line.splitlines()[0])["total_pages"]
        if loaded != pages:
            raise MigrationError(f"the daemon found {loaded} pages instead of {pages}")
        memory = Path(f"/proc/{pid}/status").read_text()
    finally:
        os.close(status)
        os.close(stats)
        daemon.kill_session()
        daemon.wait()
        tb.dst.run(["rm", "-rf", images])
    return Startup(
        pages=pages,
        entries=entries,
        vmas=vmas,
        listening_s=listening_s,
        ready_s=ready_s,
        resident_bytes=_kilobytes(memory, "VmRSS") * 1024,
        peak_bytes=_kilobytes(memory, "VmHWM") * 1024,
        bound_bytes=FIXED_BYTES + pages,
    )


def _kilobytes(status: str, key: str) -> int:
    found = re.search(rf"^{key}:\s*(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise MigrationError(f"/proc/PID/status has no {key}")
    return int(found[1])
