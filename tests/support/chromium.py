"""Headless Chromium, as Debian has it: installed on this machine, as `make setup` does with what that lacks."""

from __future__ import annotations

import os
import shutil
import subprocess

from criu_lazy_ext.run_report.picture import BROWSERS
from testbed import prepare

PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core")


def install() -> None:
    """It is in PATH then."""
    with prepare.locked(prepare.CACHE / "lock-chromium"):
        if any(map(shutil.which, BROWSERS)):
            return
        apt = ["apt-get", "-qq", *prepare.apt_words()]
        subprocess.run([*apt, "update"], check=False)  # its status is 100 when any of the machine's sources fails
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = [*apt, "-y", "--no-install-recommends", "install", *PACKAGES]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL, env=environment)
