"""Profiles: what is wrong is refused with file, line, column, key and what was expected."""

from __future__ import annotations

from pathlib import Path

import paths
import pytest
from hypothesis import given
from hypothesis import strategies as st

from criu_lazy_ext.profile import Precopy, Profile, ProfileError, Rounds, Size, StopWhen, load, parse

CONFIGS = sorted(paths.CONFIGS.glob("*.yaml"))
BOX = "destination: {ssh: d}\ncontainer: "
LEAST = "task: {pid: 7}\ndestination: {ssh: dst}\n"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_sample_is_a_profile(path: Path) -> None:
    assert isinstance(load(path), Profile)


def test_the_least_profile_has_defaults() -> None:
    profile = parse(LEAST, "p")
    assert profile.task.pid == 7
    assert profile.destination.ssh == "dst"
    assert (profile.source.address, profile.source.port) == (None, 0)
    assert profile.directories.source == Path("/var/lib/criu-lazy")
    assert profile.daemon == "criu-lazy"
    assert profile.criu.options() == []
    assert profile.hooks == {}


def test_criu_options_are_passed_on() -> None:
    text = LEAST + "criu: {tcp_established: true, network_lock: skip, manage_cgroups: ignore, shell_job: false}\n"
    options = ["--tcp-established", "--network-lock", "skip", "--manage-cgroups=ignore"]
    assert parse(text, "p").criu.options() == options


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("50M", 50 << 20), ("2g", 2 << 30), ("1000", 1000)])
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse(LEAST + f"source: {{rate: {text}}}\n", "p").source.rate == size


def test_rounds_are_off_unless_asked_for() -> None:
    assert parse(LEAST, "p").precopy is None
    assert parse(LEAST + "precopy: {}\n", "p").precopy == parse(LEAST + "predump: {}\n", "p").precopy == Precopy()
    stop_when = "stop_when: {remaining: 1G, seconds: 2}"
    text = f"precopy: {{rounds: 3, {stop_when}, max_seconds: 9, bandwidth: 5M, directory: /dev/shm}}\n"
    stop = StopWhen(Size(1 << 30), 2.0)
    assert parse(LEAST + text, "p").precopy == Precopy(Rounds(3), stop, 9.0, Size(5 << 20), Path("/dev/shm"))


def test_hooks_are_texts_or_lists() -> None:
    text = LEAST + "hooks: {after_dump: [{run: a b}, {run: [a, b], on: destination, timeout: 1.5}]}\n"
    first, second = parse(text, "p").hooks["after_dump"]
    assert (first.run, first.on, first.timeout) == ("a b", "source", 30.0)
    assert (second.run, second.on, second.timeout) == (["a", "b"], "destination", 1.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p:1:1: the profile is empty; criu-lazy init writes one that fits a task"),
        ("[1]\n", "p:1:1: profile: expected a mapping with task, destination"),
        ("task: [\n", "p:2:1: not YAML: "),
        ("task: {pid: 7}\n", "p:1:1: destination: missing: ssh: HOST, or local: true"),
        (LEAST + "tsak: 1\n", "p:3:1: tsak: unknown key; did you mean 'task'?"),
        (LEAST + "zzz: 1\n", "p:3:1: zzz: unknown key; known are task, destination"),
        (LEAST + "task: {pid: 8}\n", "p:3:1: task: given twice"),
        (LEAST + "precopy:\n", "p:3:9: precopy: expected a mapping with rounds, stop_when"),
        (LEAST + "predump: {rounds: 0}\n", "p:3:19: predump.rounds: expected auto, or a number from 1 to 1000, found"),
        (LEAST + "precopy: {}\npredump: {}\n", "p:4:1: predump: given twice"),
        (LEAST + "precopy: {rounds: 0}\n", "p:3:19: precopy.rounds: expected auto, or a number from 1 to 1000, found"),
        (LEAST + "precopy: {rounds: most}\n", "p:3:19: precopy.rounds: expected auto, or a number"),
        (LEAST + "precopy: {max_seconds: 0}\n", "p:3:24: precopy.max_seconds: expected a number of seconds above 0"),
        (LEAST + "precopy: {stop_when: {remaining: x}}\n", "p:3:34: precopy.stop_when.remaining: expected a number of"),
        (LEAST + "precopy: {stop_when: {downtime: 1}}\n", "p:3:23: precopy.stop_when.downtime: unknown key; known are"),
        (LEAST + "at_deadline: lazy\n", "p:3:14: at_deadline: goes with a deadline, in seconds"),
        (LEAST + "deadline: 9\nat_deadline: stop\n", "p:4:14: at_deadline: expected lazy or give-up, found 'stop'"),
        (LEAST + "downtime_limit: 0\n", "p:3:17: downtime_limit: expected a number of seconds above 0, found 0"),
        (LEAST + "precopy: {directory: here}\n", "p:3:22: precopy.directory: expected an absolute path"),
        (LEAST + "predump: {}\ndaemon: stock\n", "p:3:10: precopy: needs daemon: criu-lazy and page_source"),
        (LEAST + "precopy: {}\ndaemon: stock\n", "p:3:10: precopy: needs daemon: criu-lazy and page_source"),
        (LEAST + "page_source: stock\nprecopy: {}\n", "p:4:10: precopy: needs daemon: criu-lazy and page_source"),
        (LEAST + "page_source: fast\n", "p:3:14: page_source: expected criu-lazy or stock, found 'fast'"),
        (LEAST + "daemon: other\n", "p:3:9: daemon: expected criu-lazy or stock, found 'other'"),
        (LEAST + "keep_files: 1\n", "p:3:13: keep_files: expected true or false, found '1'"),
        (LEAST + "timeouts: {dump: soon}\n", "p:3:18: timeouts.dump: expected a number of seconds, found 'soon'"),
        (
            LEAST + "timeouts: {reconnect: -1}\n",
            "p:3:23: timeouts.reconnect: expected a number of seconds above 0, found -1",
        ),
        (LEAST + "timeouts: {dump: 0}\n", "p:3:18: timeouts.dump: expected a number of seconds above 0, found 0"),
        (LEAST + "source: {port: 65536}\n", "p:3:16: source.port: expected a number from 0 to 65535, found 65536"),
        (LEAST + "source: {rate: 1T}\n", "p:3:16: source.rate: expected a number of bytes (K, M, G may follow), found"),
        (LEAST + "source: {rate: -1}\n", "p:3:16: source.rate: expected a number of bytes"),
        (LEAST + "source: {rate: [1]}\n", "p:3:16: source.rate: expected a number of bytes (K, M, G may follow)"),
        (LEAST + "source: {encrypt: true}\ndaemon: stock\n", "p:3:9: source.encrypt: criu's own daemon can't"),
        (LEAST + "source: {rate: 9}\ndaemon: stock\n", "p:3:9: source.rate: needs daemon: criu-lazy and page_source"),
        (LEAST + "directories:\n  source: var\n", "p:4:11: directories.source: expected an absolute path, found 'var'"),
        (LEAST + "criu: {dump_options: -v4}\n", "p:3:22: criu.dump_options: expected a list of texts, found '-v4'"),
        (LEAST + "criu: {network_lock: pf}\n", "p:3:22: criu.network_lock: expected iptables or nftables or skip"),
        (LEAST + "hooks: {before_dmp: []}\n", "p:3:9: hooks.before_dmp: unknown phase; did you mean 'before_dump'?"),
        (LEAST + "hooks: {before_dump: x}\n", "p:3:22: hooks.before_dump: expected a list of hooks"),
        (LEAST + "hooks: {before_dump: [{}]}\n", "p:3:23: hooks.before_dump[0].run: missing: a command"),
        (LEAST + "hooks: {before_dump: [{run: []}]}\n", "p:3:29: hooks.before_dump[0].run: expected a command"),
        (LEAST + "hooks: {before_dump: [{run: a, on: here}]}\n", "p:3:36: hooks.before_dump[0].on: expected source or"),
        ("task: {}\ndestination: {ssh: d}\n", "p:1:7: task: expected exactly one of pid, pidfile, command"),
        ("task: {pid: 1, command: x}\ndestination: {ssh: d}\n", "p:1:7: task: expected exactly one of"),
        ("task: {pid: 0}\ndestination: {ssh: d}\n", "p:1:13: task.pid: expected a number from 1 to"),
        ("task: {pid: 7}\ndestination: {}\n", "p:2:14: destination: expected either ssh: HOST or local: true"),
        ("task: {pid: 7}\ndestination: {ssh: 12}\n", "p:2:20: destination.ssh: expected text, found '12'; write it in"),
        ("task: {pid: 7}\ndestination: {ssh: d, prefix: [a]}\n", "p:2:14: destination.prefix: goes with local"),
        (LEAST + "strategy: fast\n", "p:3:11: strategy: expected auto or lazy or hybrid"),
        (LEAST + "strategy: lazy\nprecopy: {}\n", "p:4:10: precopy: goes with strategy: hybrid or auto"),
        (LEAST + "strategy: hybrid\ndaemon: stock\n", "p:3:11: strategy: needs daemon: criu-lazy and page_source"),
        (BOX + "{engine: docker, name: b}\n", "p:2:21: container.engine: expected runc or crun or podman or"),
        (BOX + "{engine: runc}\n", "p:2:12: container.name: missing"),
        (BOX + "{engine: runc, name: b, volumes: [srv]}\n", "p:2:46: container.volumes[0]: expected an absolute path"),
        (BOX + "{engine: runc, name: b}\ntask: {pid: 7}\n", "p:2:12: container: there is a task, too: leave one"),
        (BOX.replace("ssh: d", "local: true") + "{engine: runc, name: b}\n", "p:2:12: container.files: files go over"),
        ("destination: {ssh: d}\n", "p:1:1: task: missing: pid, pidfile or command (or container)"),
    ],
)
def test_what_is_wrong_is_refused_where_it_stands(text: str, message: str) -> None:
    with pytest.raises(ProfileError) as refused:
        parse(text, "p")
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


def test_who_says_nothing_gets_rounds_where_they_pay() -> None:
    default, lazy, hybrid = (parse(LEAST + text, "p") for text in ("", "strategy: lazy\n", "strategy: hybrid\n"))
    assert default.rounds() is not None and default.chooses()
    assert lazy.rounds() is None
    assert hybrid.rounds() is not None and not hybrid.chooses()
    said = parse(LEAST + "precopy: {max_seconds: 3}\n", "p")
    assert said.rounds() is said.precopy and not said.chooses()
    stock = parse(LEAST + "page_source: stock\n", "p")
    assert stock.rounds() is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"nowhere\.yaml: No such file"):
        load(tmp_path / "nowhere.yaml")


KEYS = st.sampled_from(["task", "destination", "pid", "ssh", "hooks", "run", "criu", "source", "precopy", "rounds"])
VALUES = st.one_of(st.integers(), st.booleans(), st.none(), st.floats(), st.text(max_size=5))


@given(
    st.recursive(
        VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(), inner), max_leaves=12
    )
)
def test_any_yaml_is_a_profile_or_refused(value: object) -> None:
    import yaml

    try:
        parse(yaml.safe_dump(value, allow_unicode=True), "p")
    except ProfileError as refused:
        assert str(refused).startswith("p:")


@given(st.text())
def test_any_text_is_a_profile_or_refused(text: str) -> None:
    try:
        parse(text, "p")
    except ProfileError as refused:
        assert str(refused).startswith("p")
