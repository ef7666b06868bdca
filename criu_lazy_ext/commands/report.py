"""`criu-lazy report`: one HTML page, or text, of what a migration did, or of two of them beside each other."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from criu_lazy_ext import profile
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.migration import journal, run_file
from criu_lazy_ext.migration.on_record import leaving
from criu_lazy_ext.profile import Directories
from criu_lazy_ext.run_report.answers import Answers
from criu_lazy_ext.run_report.page import page
from criu_lazy_ext.run_report.picture import draw
from criu_lazy_ext.run_report.run import Run
from criu_lazy_ext.run_report.text import text


class ReportError(CriuLazyError):
    """The page can't be made."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy report",
        description="Make an HTML page, which needs nothing else, or a text, of one migration or two.",
    )
    parser.add_argument("run", type=Path, nargs="+",
        help="the run file that migrate names; or their directory, a profile, its name: the newest")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path,
        help="the page; - for stdout (default: NAME.html, here; of --text: stdout)")  # fmt: skip
    parser.add_argument("--answers", type=Path, metavar="FILE", action="append", default=[],
        help="when a client got answers: lines that begin with the time (ping -D); for two runs, twice")  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--text", action="store_true", help="a text for a terminal in place of the page")
    form.add_argument("--png", type=Path, metavar="FILE", help="a picture of the page, too, if Chromium is here")
    return parser


def main(argv: list[str]) -> int:
    """Exit status: 0, or 1 with a line."""
    parser = arguments()
    options = parser.parse_args(argv)
    if len(options.run) > 2:
        parser.error("two runs can be compared, no more")
    if len(options.answers) > len(options.run):
        parser.error("--answers: there are more of them than runs")
    runs = [load(found(path)) for path in options.run]
    for run, path in zip(runs, options.answers, strict=False):
        run.answers = Answers.read(path, run.facts["began"], run.total_s)
    made = text(runs) if options.text else page(runs)
    default = "-" if options.text else "-and-".join(run.facts["name"] for run in runs) + ".html"
    output = options.output or Path(default)
    if str(output) == "-":
        sys.stdout.write(made)
    else:
        try:
            output.write_text(made)
        except OSError as error:
            raise ReportError(f"{output}: {error.strerror}") from error
        print(output)
    if options.png is not None:
        draw(made, len(runs), options.png)
        if str(output) != "-":
            print(options.png)
    return 0


def found(path: Path) -> Path:
    """Where its run files are, of a profile or a name. Raises CriuLazyError."""
    if path.suffix in (".yaml", ".yml"):
        directory, name = profile.load(path).directories.source, path.stem
    elif path.name == str(path) and path.suffix != ".json" and not path.exists():
        directory, name = Directories().source, path.name
    else:
        return path
    runs = run_file.directory_of(directory / name)
    if not runs.exists():
        others = sorted(other.stem for other in directory.glob("*.runs"))
        there = f"those of {', '.join(others)} are" if others else "nor of another"
        raise ReportError(f"{name}: no run of it is on record in {directory}; {there}")
    return runs


def load(path: Path) -> Run:
    """Raises CriuLazyError if it lacks what a run file has."""
    facts = run_file.read(path)
    try:
        run = Run(facts)
        if not run.settled and (not run.ended or run.outcome == "undecided"):
            facts["now"] = on_record_now(path, str(run.report["id"]))
        return run
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{path}: this is no whole run file: {error!r}") from error


def on_record_now(path: Path, migration: str) -> list[str]:
    """What this host has on record of a migration that has, or had, not ended; [] if nothing. `path`: a run file, or
    the directory of such."""
    directory = (path if path.is_dir() else path.parent).resolve().with_suffix("")
    facts = journal.read(directory) if journal.exists(directory) else {}
    if not migration or facts.get("id") != migration:
        return []
    seen = leaving(directory, facts)
    return [f"this host's record, as this page was made: {seen.state}", *seen.notes]
