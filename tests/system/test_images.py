"""Reading CRIU's images: real ones of two versions, damaged ones, and a Python without pycriu."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host_with_criu import SETS, HostWithCriu, host_with_criu
from paths import CHECKOUT, IMAGES

from criu_lazy_ext.criu.images import how_to_get_pycriu

READ = """
import base64, os, tempfile
from criu_lazy_ext.criu.images import Images
from criu_lazy_ext.errors import CriuLazyError
result = []
for files in given:
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            with open(f"{directory}/{name}", "wb") as file:
                file.write(base64.b64decode(content))
        fd = os.open(directory, os.O_RDONLY)
        try:
            images = Images(fd, "DIR")
            images.check_inventory()
            pids = images.pids()
            vmas = {pid: images.vmas(pid) for pid in pids}
            bounds = {pid: v and [x for i, x in enumerate(v) if i % 3 < 2] for pid, v in vmas.items()}
            result.append({"pids": pids, "vmas": bounds})
        except CriuLazyError as error:
            result.append({"error": str(error)})
        os.close(fd)
"""


@pytest.fixture(scope="module")
def host() -> Iterator[HostWithCriu]:
    with host_with_criu() as found:
        yield found


def image_files(name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (IMAGES / name).glob("*.img")}


def read(host: HostWithCriu, *directories: dict[str, bytes]) -> list[dict[str, Any]]:
    encoded = [
        {name: base64.b64encode(data).decode() for name, data in files.items()} for files in directories
    ]
    found = host.python(READ, encoded)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("version", SETS)
def test_a_real_dump_gives_its_tasks_and_their_vmas(host: HostWithCriu, version: str) -> None:
    (found,) = read(host, image_files(version))
    assert found["pids"] == [101, 104, 105]
    assert found["vmas"]["105"] is None, "a zombie has no memory"
    for pid in ("101", "104"):
        bounds = found["vmas"][pid]
        assert len(bounds) == 2 * 27
        assert bounds == sorted(bounds)
        assert all(bound % 4096 == 0 for bound in bounds)
        assert bounds[-2:] == [0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000], "the vsyscall page, beyond 2**63"


def test_damage_is_told_with_the_file(host: HostWithCriu) -> None:
    good = image_files("criu-4.1.1")
    pstree, mm = good["pstree.img"], good["mm-101.img"]

    def broken(**files: bytes | None) -> dict[str, bytes]:
        changed: dict[str, bytes | None] = {
            f"{name.replace('_', '-')}.img": data for name, data in files.items()
        }
        return {name: data for name, data in (good | changed).items() if data is not None}

    cases = {
        "can't read DIR/inventory.img: No such file": broken(inventory=None),
        "DIR/inventory.img is empty": broken(inventory=good["inventory.img"][:4]),
        "DIR/inventory.img is no inventory image": broken(inventory=pstree),
        "DIR/pstree.img is cut short": broken(pstree=pstree[:-1]),
        "DIR/pstree.img is no pstree image": broken(pstree=b""),
        "DIR/pstree.img is damaged: its pids are []": broken(pstree=pstree[:8]),
        "DIR/pstree.img is damaged: its pids are [101, 104, 105, 101, 104, 105]": broken(
            pstree=pstree + pstree[8:]
        ),
        "DIR/mm-101.img is cut short": broken(mm_101=mm[:10]),
        "DIR/mm-101.img is cut short at": broken(mm_101=mm[:8] + b"\xff\xff\xff\xff" + mm[12:]),
        "DIR/mm-101.img is damaged: 2 entries": broken(mm_101=mm + mm[8:]),
        "DIR/mm-101.img is damaged: 0 entries": broken(mm_101=mm[:8]),
        "DIR/mm-101.img is damaged: Error parsing": broken(mm_101=mm[:12] + b"\xff" * (len(mm) - 12)),
        "DIR/mm-104.img is missing, but the task has a pagemap": broken(mm_104=None),
    }
    for expected, found in zip(cases, read(host, *cases.values()), strict=True):
        assert found.get("error", "").startswith(expected), found


def test_vmas_tell_what_is_wiped_on_fork_without_guard_regions_and_out_of_order_are_refused(host: HostWithCriu) -> None:
    script = """
import importlib, os, struct, tempfile
from criu_lazy_ext.criu.images import Images, ImageError
with tempfile.TemporaryDirectory() as directory:
    images = Images(os.open(directory, os.O_RDONLY), "DIR")
    mm = images._mm_entry()
    for field in mm.DESCRIPTOR.fields:
        if field.label == field.LABEL_REQUIRED:
            setattr(mm, field.name, 1)
    for start, end, madv, *status in given:
        vma = mm.vmas.add(start=start, end=end, pgoff=0, shmid=0, prot=3, flags=2, fd=-1, madv=madv,
                          status=status[0] if status else 1)
    message = mm.SerializeToString()
    with open(f"{directory}/mm-1.img", "wb") as file:
        file.write(struct.pack("<III", 0x54564319, 0x57492820, len(message)) + message)
    try:
        result = images.vmas(1).tolist()
    except ImageError as error:
        result = str(error)
"""
    wiped, huge = 1 << 18, 1 << 14
    assert host.python(script, [[4096, 8192, wiped | huge], [8192, 12288, huge]]) == [4096, 8192, 1, 8192, 12288, 0]
    guard = 1 << 16  # criu >= 4.2 has them last
    vmas = [[4096, 16384, wiped], [16384, 20480, 0], [8192, 12288, 0, guard], [16384, 20480, 0, guard]]
    assert host.python(script, vmas) == [4096, 16384, 1, 16384, 20480, 0]
    assert "not in order at 0x1000" in host.python(script, [[8192, 12288, 0], [4096, 8192, 0]])
    assert "not in order" in host.python(script, [[4096, 12288, 0], [8192, 16384, 0]])


def test_without_pycriu_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    script = (
        "import os\nfrom criu_lazy_ext.criu.images import Images\nfrom criu_lazy_ext.errors import CriuLazyError\n"
        "try:\n    Images(os.open('.', os.O_RDONLY), '.')\nexcept CriuLazyError as error:\n    print(error)\n"
    )
    # -S: no site-packages, so no pycriu, whatever this machine has.
    checkout = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        cwd=tmp_path,
        env=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) == 1
    assert "pycriu" in done.stdout
    assert "install" in done.stdout


def test_advice_fits_the_distribution() -> None:
    old = how_to_get_pycriu('ID=debian\nVERSION_ID="12"\n')
    assert "too old" in old and "apt install" not in old, "that would bring it"
    assert "apt install python3-pycriu," in how_to_get_pycriu('ID=debian\nVERSION_ID="13"\n')
    assert "apt install python3-pycriu," in how_to_get_pycriu(
        'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="26.04"\n'
    )
    assert "your distribution's package" in how_to_get_pycriu("ID=fedora\n")
    assert "your distribution's package" in how_to_get_pycriu("")
