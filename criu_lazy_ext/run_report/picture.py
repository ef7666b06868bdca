"""A picture of the page, made by Chromium, if there is one: nothing else draws it as an operator's browser does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from criu_lazy_ext.errors import CriuLazyError

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
WITHIN_S = 60.0
WIDTH = {1: 1080, 2: 1500}  # of the page, by the number of runs: as wide as its style lets it become
# Only in the copy that the browser is given: it tells how high the page is.
MEASURE = "<script>document.body.dataset.height = document.documentElement.scrollHeight</script>"


class PictureError(CriuLazyError):
    """It can't be made."""


def draw(html: str, runs: int, path: Path) -> None:
    """Make the PNG `path` of a page of so many `runs`, all of it. Raises PictureError."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        looked = ", ".join(BROWSERS)
        way_out = "apt install chromium-headless-shell, or open the HTML page elsewhere"
        raise PictureError(f"--png: no Chromium is here ({looked}): {way_out}")
    with tempfile.TemporaryDirectory(prefix="criu-lazy-report-") as name:
        directory = Path(name)
        page, picture = directory / "page.html", directory / "page.png"
        page.write_text(html.replace("</body>", f"{MEASURE}</body>"))
        # In a container /dev/shm is small.
        command = [browser, "--headless", "--hide-scrollbars", "--disable-gpu", "--disable-dev-shm-usage"]
        command.append(f"--user-data-dir={directory}/profile")
        if os.geteuid() == 0:  # refuses otherwise; it is given no page but ours
            command.append("--no-sandbox")
        size, url = f"--window-size={WIDTH[runs]},", page.as_uri()
        told = _run([*command, f"{size}800", "--dump-dom", url])
        height = re.search(r'data-height="(\d+)"', told)
        if height is None:
            raise PictureError(f"--png: {browser} did not show the page")
        _run([*command, f"{size}{height[1]}", f"--screenshot={picture}", url])
        try:
            shutil.copyfile(picture, path)
        except OSError as error:
            raise PictureError(f"{error.filename}: {error.strerror}") from error


def _run(command: list[str]) -> str:
    """What it prints. Raises PictureError."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=WITHIN_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PictureError(f"--png: {command[0]}: {error}") from error
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise PictureError(f"--png: {command[0]} ended with status {done.returncode}: {why}")
    return done.stdout
