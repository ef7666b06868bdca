"""Plans of evacuations: what is wrong in one is said with its line; what is right becomes profiles."""

from __future__ import annotations

import pytest
import yaml
from paths import CONFIGS

from criu_lazy_ext.evacuation.plan import PlanFile
from criu_lazy_ext.profile import ProfileError, parse

TWO = "destinations: [{ssh: b}, {ssh: c, name: other, memory: 2G}]\n"
ONE_TASK = "move:\n- {task: {pid: 1}, name: web}\n"


def place_named(file: PlanFile, title: str) -> int:
    return [place.title for place in file.plan.destinations].index(title)


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        ("", "p.yaml:1:1: the plan is empty"),
        ("a: [", "p.yaml:1:5: not YAML"),
        ("x: 1\n", "p.yaml:1:1: x: unknown key"),
        (TWO, "p.yaml:1:1: move: missing"),
        (TWO + "move: []\n", "p.yaml:2:7: move: expected a list, found an empty list"),
        (TWO + "move: [{}]\n", "p.yaml:2:8: move[0]: expected exactly one of task, container, containers, cgroup"),
        (TWO + "move: [{task: {pid: 1}, cgroup: /x}]\n", "p.yaml:2:8: move[0]: expected exactly one of"),
        (TWO + "move: [{task: 7}]\n", "p.yaml:2:15: move[0].task: expected a mapping, found '7'"),
        (TWO + "move: [{task: {pid: x}}]\n", "p.yaml:2:21: task.pid: expected a whole number"),
        (TWO + "move: [{task: {pid: 1}, name: a/b}]\n", "move[0].name: 'a/b' is no name"),
        (TWO + "move: [{task: {pid: 1}, to: [d]}]\n", "move[0].to: no destination is called 'd': b, other"),
        (TWO + "move: [{task: {pid: 1}, after: [d]}]\n", "move[0].after: no other entry is called 'd'"),
        (
            TWO + "move: [{cgroup: /a, name: a, after: [b]}, {cgroup: /b, name: b, after: [a]}]\n",
            "p.yaml:2:7: move: each waits for the next: ",
        ),
        (TWO + ONE_TASK + "profile: {task: {pid: 2}}\n", "p.yaml:4:11: profile.task: not here: the plan's move"),
        (TWO + ONE_TASK + "profile: {destination: {ssh: b}}\n", "profile.destination: not here: the plan's dest"),
        (TWO + ONE_TASK + "profile: {strategy: fast}\n", "p.yaml:4:21: strategy: expected auto or lazy or hybrid"),
        (TWO + ONE_TASK + "at_once: many\n", "p.yaml:4:10: at_once: expected auto, or a number from 1 to 64"),
        (TWO + ONE_TASK + "on_failure: cry\n", "p.yaml:4:13: on_failure: expected elsewhere or skip or stop"),
        ("destinations: [{ssh: b}, {ssh: b}]\n" + ONE_TASK, "destinations[1]: 'b' is there twice: name one of them"),
        ("destinations: [{name: b}]\n" + ONE_TASK, "destination: expected either ssh: HOST or local: true"),
        ("destinations: [{ssh: b, memory: lots}]\n" + ONE_TASK, "destinations[0].memory: expected a number of bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(plan: str, error: str) -> None:
    with pytest.raises(ProfileError) as raised:
        PlanFile(plan, "p.yaml")
    assert error in str(raised.value)
    assert str(raised.value).startswith("p.yaml:")


def test_the_sample() -> None:
    """All of its keys are right, and it shows most."""
    plan = PlanFile.load(CONFIGS / "evacuate" / "plan.yaml").plan
    assert [entry.title for entry in plan.move] == ["shop", "queue", "cache", ""]


def test_a_profile_for_each() -> None:
    """The plan's own part, an entry's over it, the place, and who moves."""
    file = PlanFile(
        TWO
        + "profile: {strategy: lazy, source: {encrypt: false}, timeouts: {stall: 7}}\n"
        + "move: [{containers: {engine: podman, label: app=shop, files: shared}, profile: {timeouts: {restore: 9}}}]\n",
        "p.yaml",
    )
    entry = file.plan.move[0]
    place = file.plan.destinations[place_named(file, "other")]
    made = file.document(entry, place, container="007", rate=5 << 20)
    read_again = parse(yaml.serialize(made, Dumper=yaml.SafeDumper), "again.yaml")
    assert read_again == file.profile(entry, place, container="007", rate=5 << 20)
    assert read_again.container is not None and read_again.container.name == "007"
    assert (read_again.container.engine, read_again.container.files) == ("podman", "shared")
    assert (read_again.strategy, read_again.source.encrypt, read_again.source.rate) == ("lazy", False, 5 << 20)
    assert (read_again.timeouts.stall, read_again.timeouts.restore) == (7, 9)
    assert read_again.destination.ssh == "c"
    assert place.memory == 2 << 30
