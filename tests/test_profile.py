"""Profiles: a wrong one is refused with file, line, column, key and what was expected, before anything is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from criu_lazy_ext.profile import PHASES, Hook, Profile, ProfileError, load, parse

CONFIGS = Path(__file__).parent.parent / "configs"
BASE = "task: {pid: 7}\ndestination: {ssh: dst}\n"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_sample_is_a_right_profile(path: Path) -> None:
    assert isinstance(load(path), Profile)


def test_the_least_profile_gets_the_defaults() -> None:
    profile = parse(BASE, "p.yaml")
    assert (profile.task.pid, profile.destination.ssh) == (7, "dst")
    assert (profile.source.address, profile.source.port) == (None, 0)
    assert (profile.daemon, profile.page_source, profile.keep_files) == ("criu-lazy", "stock", False)
    assert profile.criu.options() == []


def test_everything_is_read_as_it_stands() -> None:
    profile = parse(
        BASE
        + "source: {address: 10.0.0.1, port: 27000}\n"
        + "directories: {source: /a, destination: /b}\n"
        + "criu: {tcp_established: true, network_lock: nftables, manage_cgroups: ignore, dump_options: [--x, '1']}\n"
        + "daemon: stock\n"
        + "hooks:\n  after_dump: [{run: [ip, link], on: destination, timeout: 2}]\n  after_commit: [{run: 'echo $X'}]\n"
        + "timeouts: {restore: 0.5}\nkeep_files: yes\n",
        "p.yaml",
    )
    assert (profile.source.address, profile.source.port) == ("10.0.0.1", 27000)
    assert (profile.directories.source, profile.directories.destination) == (Path("/a"), Path("/b"))
    assert profile.criu.options() == [
        "--tcp-established", "--network-lock", "nftables", "--manage-cgroups=ignore",
    ]  # fmt: skip
    assert profile.criu.dump_options == ["--x", "1"]
    assert profile.daemon == "stock"
    assert profile.hooks["after_dump"] == [Hook(["ip", "link"], "destination", 2.0)]
    assert profile.hooks["after_commit"][0].run == "echo $X"
    assert profile.timeouts.restore == 0.5 and profile.timeouts.dump == 120.0
    assert profile.keep_files is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.yaml:1:1: the profile is empty"),
        ("task: [", "p.yaml:1:8: not YAML: expected the node content, but found '<stream end>'"),
        ("task: \x01", "p.yaml: not YAML: unacceptable character #x0001"),
        ("- 1\n", "p.yaml:1:1: profile: expected a mapping with task, "),
        ("destination: {ssh: dst}\n", "p.yaml:1:1: task: missing"),
        ("task: {pid: 7}\n", "p.yaml:1:1: destination: missing"),
        (
            "task:\ndestination: {ssh: dst}\n",
            "p.yaml:1:6: task: expected a mapping with pid, pidfile, command, found nothing",
        ),
        ("task: {}\ndestination: {ssh: dst}\n", "p.yaml:1:7: task: expected exactly one of pid, pidfile, command"),
        ("task: {pid: 7, command: x}\ndestination: {ssh: dst}\n", "p.yaml:1:7: task: expected exactly one of"),
        (
            "task: {pid: seven}\ndestination: {ssh: dst}\n",
            "p.yaml:1:13: task.pid: expected a whole number, found 'seven'",
        ),
        (
            "task: {pid: 0}\ndestination: {ssh: dst}\n",
            "p.yaml:1:13: task.pid: expected a number from 1 to 4194304, found 0",
        ),
        ("task: {pid: 7, pid: 8}\ndestination: {ssh: dst}\n", "p.yaml:1:16: task.pid: given twice"),
        (
            "task: {pidfile: run/x}\ndestination: {ssh: dst}\n",
            "p.yaml:1:17: task.pidfile: expected an absolute path, found 'run/x'",
        ),
        ("task: {pid: 7}\ndestination: {}\n", "p.yaml:2:14: destination: expected either ssh: HOST or local: true"),
        ("task: {pid: 7}\ndestination: {ssh: d, local: true}\n", "p.yaml:2:14: destination: expected either ssh"),
        (
            "task: {pid: 7}\ndestination: {ssh: d, prefix: [a]}\n",
            "p.yaml:2:14: destination.prefix: goes with local: true only",
        ),
        (
            "task: {pid: 7}\ndestination: {ssh: 5}\n",
            "p.yaml:2:20: destination.ssh: expected text, found '5'; write it in quotes",
        ),
        ("task: {pid: 7}\ndestnation: {ssh: d}\n", "p.yaml:2:1: destnation: unknown key; did you mean 'destination'?"),
        (BASE + "colour: red\n", "p.yaml:3:1: colour: unknown key; known are task, destination, "),
        (BASE + "source: {port: 70000}\n", "p.yaml:3:16: source.port: expected a number from 0 to 65535, found 70000"),
        (
            BASE + "criu:\n  tcp_established: 1\n",
            "p.yaml:4:20: criu.tcp_established: expected true or false, found '1'",
        ),
        (
            BASE + "criu: {network_lock: ebpf}\n",
            "p.yaml:3:22: criu.network_lock: expected iptables or nftables or skip, found 'ebpf'",
        ),
        (BASE + "criu: {dump_options: --x}\n", "p.yaml:3:22: criu.dump_options: expected a list of texts, found '--x'"),
        (BASE + "criu: {dump_options: [--x, 1]}\n", "p.yaml:3:28: criu.dump_options[1]: expected text, found '1'"),
        (BASE + "daemon: mine\n", "p.yaml:3:9: daemon: expected criu-lazy or stock, found 'mine'"),
        (BASE + "hooks: []\n", "p.yaml:3:8: hooks: expected a mapping with before_dump, "),
        (
            BASE + "hooks: {before_dmp: []}\n",
            "p.yaml:3:9: hooks.before_dmp: unknown phase; did you mean 'before_dump'?",
        ),
        (
            BASE + "hooks: {after_dump: echo}\n",
            "p.yaml:3:21: hooks.after_dump: expected a list of hooks (run, on, timeout), found 'echo'",
        ),
        (BASE + "hooks: {after_dump: [{on: source}]}\n", "p.yaml:3:22: hooks.after_dump[0].run: missing"),
        (
            BASE + "hooks: {after_dump: [{run: []}]}\n",
            "p.yaml:3:28: hooks.after_dump[0].run: expected a command, found an empty list",
        ),
        (
            BASE + "hooks: {after_dump: [{run: x, on: there}]}\n",
            "p.yaml:3:35: hooks.after_dump[0].on: expected source or destination, found 'there'",
        ),
        (BASE + "timeouts: {dump: 0}\n", "p.yaml:3:18: timeouts.dump: expected a number of seconds above 0, found 0"),
        (
            BASE + "timeouts: {dump: .inf}\n",
            "p.yaml:3:18: timeouts.dump: expected a number of seconds above 0, found inf",
        ),
        # What later versions will know is refused, not ignored.
        (BASE + "predump: {rounds: auto}\n", "p.yaml:3:1: predump: pre-dump rounds are not in this version yet"),
        (BASE + "page_source: criu-lazy\n", "p.yaml:3:14: page_source: expected stock, found 'criu-lazy'"),
    ],
)
def test_a_wrong_profile_is_refused_with_line_and_key(text: str, message: str) -> None:
    with pytest.raises(ProfileError) as refused:
        parse(text, "p.yaml")
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_takes_hooks(phase: str) -> None:
    assert parse(BASE + f"hooks: {{{phase}: [{{run: x}}]}}", "p.yaml").hooks[phase] == [Hook("x")]


def test_the_command_refuses_a_wrong_profile_before_anything_else(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(BASE + f"directories: {{source: {tmp_path}/made}}\ntimeout: 3\n")
    command = [sys.executable, "-m", "criu_lazy_ext.cli", "migrate", str(wrong)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"criu-lazy migrate: error: {wrong}:4:1: timeout: unknown key; did you mean 'timeouts'?\n"
    assert not (tmp_path / "made").exists()


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ProfileError, match=r"^/nowhere/p\.yaml: No such file or directory$"):
        load(Path("/nowhere/p.yaml"))
