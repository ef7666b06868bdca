"""The source archive and the wheel that it gives: what that holds, and that what is installed works by itself."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from paths import CHECKOUT

from testbed.prepare import Sources

LABORATORY = ("testbed", "bench", "demo", "tests")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from an archive of a copy of the checkout's sources, so that the checkout's own build stays as it is."""
    directory = tmp_path_factory.mktemp("wheel")
    checkout = directory / "checkout"
    for name, contents in Sources.of_checkout().files.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes(contents)
    shutil.copy(CHECKOUT / "MANIFEST.in", checkout)
    archive = "from setuptools import build_meta; print(build_meta.build_sdist('..'))"
    made = subprocess.run([sys.executable, "-c", archive], cwd=checkout, check=True, capture_output=True, text=True)
    build = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "wheel", "--no-deps"]
    subprocess.run([*build, "--no-build-isolation", "-w", directory, directory / made.stdout.split()[-1]], check=True)
    [built] = directory.glob("*.whl")
    return built


def test_it_holds_the_product_and_nothing_else(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name, "one for every Python from 3.11 on"
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"criu_lazy_ext"}
    modules = {name for name in names if name.startswith("criu_lazy_ext/")}
    kinds = {Path(name).suffix for name in modules}
    assert kinds == {".py", ".pyi", ".so", ".typed", ".json"}
    sources = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "criu_lazy_ext").glob("**/*.py")}
    assert sources == {name for name in modules if name.endswith(".py")}


def test_installed_it_knows_nothing_of_a_testbed_and_works(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin_ = tmp_path / "venv/bin"
    subprocess.run([bin_ / "python", "-m", "pip", "-q", "--disable-pip-version-check", "install", wheel], check=True)

    def criu_lazy(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([bin_ / "criu-lazy", *arguments], cwd=tmp_path, capture_output=True, text=True)

    told = criu_lazy("--help")
    assert told.returncode == 0
    assert "migrate" in told.stdout
    assert not any(name in told.stdout for name in LABORATORY)
    for name in ("testbed", "bench"):
        assert criu_lazy(name).returncode == 2
    for module in LABORATORY:
        assert subprocess.run([bin_ / "python", "-c", f"import {module}"], cwd=tmp_path, stderr=-3).returncode == 1
    served = criu_lazy("lazy-pages", "--page-server", "--address", "127.0.0.1", "-D", "/nowhere")
    assert served.returncode == 1
    assert "/nowhere" in served.stderr


def test_a_repaired_wheel_lists_what_it_bundles(wheel: Path, tmp_path: Path) -> None:
    """By the command of cibuildwheel's configuration, on this machine: the SBOM of PEP 770, which auditwheel writes."""
    configuration = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    command = shlex.split(configuration["repair-wheel-command"].format(dest_dir=tmp_path, wheel=wheel))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(command, env={**os.environ, "PATH": path}, check=True, capture_output=True)
    [repaired] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(repaired) as archive:
        files = [name for name in archive.namelist() if not name.endswith("/")]
        bundled = {Path(name).name.partition("-")[0] for name in files if ".libs/" in name}
        [listed] = [name for name in files if ".dist-info/sboms/" in name]
        parts = json.loads(archive.read(listed))["components"]
    assert bundled == {"liblz4", "libzstd"}, "OpenSSL is the host's, with its updates"
    assert {part["name"].rstrip("-1") for part in parts} == {"criu_lazy", "liblz4", "libzstd"}
    assert all(part["version"] and part["purl"].startswith("pkg:") for part in parts)
