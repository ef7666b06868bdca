"""`criu-lazy report` of a real migration, opened in headless Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import chromium
import pytest
from lazy_source import eventually
from migrating import BASE, Migration, Worker, assert_moved
from PIL import Image
from report_page import Page

from criu_lazy_ext.commands import report
from criu_lazy_ext.run_report.style import STYLE


def colour(kind: str) -> tuple[int, ...]:
    """What stands for it on the page, in light."""
    found = re.search(rf"--{kind}: #(..)(..)(..)", STYLE)
    assert found
    return tuple(int(each, 16) for each in found.groups())


@pytest.mark.parametrize("runs", [1, 2])
def test_a_browser_shows_all_of_the_page(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    ping = ["ping", "-D", "-i", "0.05", "dst"]
    with (tmp_path / "ping").open("w") as log, worker.testbed.src.popen(ping, stdout=log) as pinging:
        eventually(lambda: (tmp_path / "ping").read_text().count("\n") > 2, "it is answered")
        migration = Migration(worker.testbed, BASE)
        assert_moved(worker, migration)
        pinging.terminate()
    run = f"{worker.testbed.src.root}{migration.report['run_file']}"
    chromium.install()
    monkeypatch.chdir(tmp_path)
    answers = ["--answers", "ping"] * runs
    assert report.main([run] * runs + [*answers, "-o", "a.html", "--png", "a.png"]) == 0
    assert Page(Path("a.html").read_text()).words.count("The longest time without an answer: ") == runs
    with Image.open("a.png") as picture:
        width, height = picture.size
        assert picture.format == "PNG" and width == (1080, 1500)[runs - 1]
        pixels = picture.convert("RGB")
        seen = {pixel: count for count, pixel in pixels.getcolors(width * height) or []}
        for kind in ("runs", "frozen", "follows", "restoring"):
            assert seen[colour(kind)] > 500, f"{kind} is drawn"
        paper = (255, 255, 255)
        footer = pixels.crop((0, height - 60, width, height))
        assert {pixel for _, pixel in footer.getcolors(60 * width) or []} > {paper}, "it ends with the footer"
        assert pixels.crop((0, height - 20, width, height)).getcolors() == [(20 * width, paper)], "whole"
