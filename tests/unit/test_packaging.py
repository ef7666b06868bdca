"""What is made of the command line and the profile's model for packages, and what they say of themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import CHECKOUT

from criu_lazy_ext import __version__, cli, profile_schema
from criu_lazy_ext.criu import options as criu_options

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_one_version_everywhere() -> None:
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == __version__
    newest = (CHECKOUT / "debian/changelog").read_text().splitlines()[0]
    assert newest.startswith(f"criu-lazy ({__version__})")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pages")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, CHECKOUT / "tools/manual_pages.py", directory]
    subprocess.run(command, env=environment, check=True)
    return directory


def test_every_subcommand_and_its_options_are_in_the_manual(pages: Path) -> None:
    text = (pages / "criu-lazy.1").read_text().replace("\\-", "-").replace("\\&", "")
    assert text.startswith(".TH CRIU-LAZY 1 2023-11-14 ")
    _, *found = re.split(r"^\.SS (\S+)$", text, flags=re.MULTILINE)
    sections = dict(zip(found[::2], found[1::2], strict=True))
    assert list(sections) == list(cli.SUBCOMMANDS)
    entries = {
        name: set(re.split(r"[ ,]+", " ".join(re.findall(r"^\.TP\n\.B (.*)$", part, re.MULTILINE))))
        for name, part in sections.items()
    }
    assert "criu-lazy init --container web dst -o web.yaml" in text.partition(".SH EXAMPLES")[2]
    assert {"--dry-run", "--rate", "SIZE"} <= entries["migrate"] and "4 undecided" in sections["migrate"]
    assert {f"--{name}" for name in criu_options.OWN_OPTIONS} <= entries["lazy-pages"]
    assert {"-o", "--log-file", "FILE", "--tls-cacert"} <= entries["lazy-pages"]


def test_every_key_of_a_profile_is_in_the_manual(pages: Path) -> None:
    text = (pages / "criu-lazy-profile.5").read_text().replace("\\-", "-").replace("\\&", "")
    entries = dict(re.findall(r"^\.TP\n\.B (\S+)\n(.*)$", text, re.MULTILINE))
    meanings = dict(re.findall(r"^\.TP\n\.B (\S+)\n.*\n\.br\n(.*)$", text, re.MULTILINE))
    told = [text for key, text in meanings.items() if re.match(r"(criu|task)\.(?!.*options)", key)]
    assert len(told) == 11 and len(set(told)) == len(told), "each says what it is for"
    assert not re.search(r"\bNone\b", text), "Python's"
    assert entries["strategy"] == "auto, lazy, hybrid; default: auto"
    assert entries["timeouts.silence"] == "a number; default: 9.0"
    assert entries["directories.source"] == "an absolute path; default: /var/lib/criu-lazy"
    assert set(re.findall(r"^\.TP\n\.B (\S+)\n.*\n\.br\n.", text, re.MULTILINE)) == set(entries), "and what it means"
    assert set(entries) == {key for key in keys(profile_schema.schema()) if not key.startswith("predump.")}


def keys(section: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, value in section["properties"].items():
        yield from keys(value, f"{path}{name}.") if "properties" in value else [path + name]


def test_names_of_migrations_are_completed(tmp_path: Path) -> None:
    def offered(function: str, word: str) -> list[str]:
        script = f". {CHECKOUT}/tools/completion.bash; IFS=$'\\n'; {function} '{word}' {tmp_path}/records"
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False)
        return done.stdout.split("\n")[:-1]

    records = tmp_path / "records"
    assert offered("_criu_lazy_under_way", "w") == offered("_criu_lazy_runs", "w") == []
    (records / "web.runs").mkdir(parents=True)
    (records / "db.runs").mkdir()
    for name in ("web.yaml", "web.json", "notes"):
        (tmp_path / name).touch()
    ended = subprocess.Popen(["true"])
    ended.wait()
    with subprocess.Popen(SLEEP) as driver, subprocess.Popen([*SLEEP, "evacuate"]) as other:
        for name, pid in (("web", driver.pid), ("db", driver.pid), ("plan.a", other.pid), ("old", ended.pid)):
            (records / f"{name}.lock").write_text(f"{pid}\n")
        assert offered("_criu_lazy_under_way", "") == ["db", "web", "web.yaml", "records"]
        assert offered("_criu_lazy_under_way", "w") == ["web", "web.yaml"]
        driver.kill()
        other.kill()
    assert offered("_criu_lazy_runs", "w") == ["web", "web.yaml", "web.json"]
    assert sorted(offered("_criu_lazy_yaml", "")) == ["records", "web.yaml"]
    assert offered("_criu_lazy_hosts", "") == [""], "without bash-completion"
