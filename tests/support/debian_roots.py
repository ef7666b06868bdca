"""Debian roots in which our Debian package is built, and others in which it is installed. Cached, as the testbed's are.

Layers, each over those that it names: `clean`, a Debian with nothing but what each has; `building`, with what building
needs; `ready`, with all that apt brought when the package was installed, and the package removed again: what it depends
on is there, and nothing else, so that each run need not ask the mirror.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paths import CHECKOUT

from testbed import prepare
from testbed.recipe import SUITE, machine_recipe

REVISION = 1
KEPT = 3  # of each kind, those used last: other checkouts have theirs
# Beside what debian/control names.
BUILDING = ("build-essential", "dpkg-dev", "lintian", "mandoc")
LOOKING = ("bash-completion", "man-db", "python3-pip")
UPDATE = "apt-get -qq -o Acquire::Check-Valid-Until=false update"
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io"


def sources() -> bytes:
    """The files of the checkout that git has, or would take, as a tar archive."""
    # Root may look at a clone that is another user's.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True).stdout.decode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in sorted(filter(None, listed.split("\0"))):
            if (CHECKOUT / name).exists():
                tar.add(CHECKOUT / name, arcname=name)
    return archive.getvalue()


class DebianRoots:
    """Of one suite."""

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self._mirror = machine_recipe().mirror

    def clean(self) -> list[Path]:
        """A fresh Debian."""
        return [self._layer("clean", [], self._bootstrap)]

    def building(self) -> list[Path]:
        """One in which the package can be built. Of the testbed's suite it stands on the testbed's root."""
        below = [prepare.prepare().recipe_directory / "base"] if self.suite == SUITE else self.clean()
        files = {"build/debian/control": (CHECKOUT / "debian/control").read_bytes()}
        script = f"""
            {UPDATE}
            {INSTALL} install {" ".join(BUILDING)} >/dev/null
            cd /build && {INSTALL} build-dep . >/dev/null
        """
        contents = [str(below), script, files]
        return [self._layer("building", contents, lambda to: self._install(below, to, script, files)), *below]

    def ready(self, package: Path) -> list[Path]:
        """One in which all is installed that this package needs and recommends, and Debian has."""
        show = ["dpkg-deb", "--field", str(package), "Depends", "Recommends"]
        needs = subprocess.run(show, capture_output=True, text=True, check=True).stdout
        install = INSTALL.replace("--no-install-recommends", "--install-recommends")
        script = f"""
            {UPDATE}
            {install} install /build/criu-lazy.deb >/dev/null
            {INSTALL} install {" ".join(LOOKING)} >/dev/null
            dpkg --purge criu-lazy >/dev/null
        """
        files = {"build/criu-lazy.deb": package.read_bytes()}
        below = self.clean()
        contents = [str(below), script, needs]
        return [self._layer("ready", contents, lambda to: self._install(below, to, script, files)), *below]

    def _layer(self, name: str, contents: list[Any], build: Callable[[Path], None]) -> Path:
        digest = hashlib.sha256(repr((REVISION, self._mirror, self.suite, contents)).encode()).hexdigest()[:12]
        layer = prepare.CACHE / "debian-roots" / f"{self.suite}-{name}-{digest}"
        with prepare.locked(prepare.CACHE / f"lock-{self.suite}-{name}"):
            layer.parent.mkdir(exist_ok=True)
            prepare.make(layer, build)
            os.utime(layer)
            by_use = sorted(layer.parent.glob(f"{self.suite}-{name}-*"), key=lambda made: made.stat().st_mtime)
            for unused in by_use[:-KEPT]:
                shutil.rmtree(unused)
        return layer

    def _bootstrap(self, to: Path) -> None:
        prepare.ensure_tool("mmdebstrap", ["mmdebstrap", "debian-archive-keyring"])
        options = ["--dpkgopt=force-unsafe-io", *(f"--aptopt={option}" for option in prepare.apt_options())]
        source = f"deb {self._mirror} {self.suite} main"
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", *options, self.suite, str(to), source]
        prepare.run_contained(command, f"can't make a Debian {self.suite} root from {self._mirror}")

    def _install(self, below: list[Path], to: Path, script: str, files: dict[str, bytes]) -> None:
        """What apt installs; the lists of packages and `files` go again."""
        asked: dict[str, str | bytes] = {
            "etc/apt/sources.list": f"deb {self._mirror} {self.suite} main\n",
            "etc/resolv.conf": prepare.read_or_empty("/etc/resolv.conf"),
            "usr/sbin/policy-rc.d": prepare.POLICY_NO_SERVICES,
        }
        clean_up = f"apt-get clean; rm -rf /var/lib/apt/lists/* /build {' '.join(f'/{path}' for path in asked)}"
        failure = f"can't install packages of {self.suite} from {self._mirror}; see `apt-get update` and the network"
        prepare.build_over(below, to, f"{script}\n{clean_up}", failure, files={**asked, **files})


def run_in(layers: list[Path], directory: Path, script: str, files: dict[str, str | bytes]) -> Path:
    """Run a shell script, which must succeed, in a root of these layers (top first), with `files` in it. What it leaves
    in /out is in the directory returned. `directory`: does not exist yet."""
    out = directory / "out"
    prepare.build_over(layers, directory, script, "the script failed", files={"out/.keep": "", **files})
    return out
