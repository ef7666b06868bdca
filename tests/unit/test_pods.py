"""What moves as one is told that it may run together, or not at all; a pod is made as it was made."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from criu_lazy_ext.engines import podman_pod as podman_pod_module
from criu_lazy_ext.engines.engine import EngineError
from criu_lazy_ext.engines.podman_pod import Pod as PodmanPod
from criu_lazy_ext.engines.podman_pod import move_groups
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.evacuation.pod import Pod
from criu_lazy_ext.evacuation.schedule import Member, Phase, Schedule
from criu_lazy_ext.migration import journal, moving_network
from criu_lazy_ext.migration.ending import Ending
from criu_lazy_ext.migration.operator_commands import Found, PageServer, is_held
from criu_lazy_ext.migration.progress import Progress
from criu_lazy_ext.migration.state import State, Trouble
from criu_lazy_ext.source.task import Seen, Source

NAMES = {"plan.a": "a", "plan.b": "b"}


class Moving:
    """What a pod asks of a migration."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.said_go = False
        self.none_there = False
        self.trouble = ""
        self.is_unready = False
        self.failed = ""

    async def ready(self) -> None:
        if self.is_unready:
            raise CriuLazyError("its restore has ended")

    def check_dump(self) -> None:
        if self.trouble:
            raise CriuLazyError(self.trouble)

    def fail(self, reason: str) -> None:
        self.failed = reason


def both() -> tuple[Pod, list[Any]]:
    pod = Pod(NAMES)
    moving = [Moving(name) for name in NAMES]
    for each in moving:
        pod.begin(each)  # type: ignore[arg-type]
    return pod, moving


def test_go_is_said_to_both_or_to_none() -> None:
    async def run(trouble: str, is_unready: bool = False) -> tuple[list[Any], list[bool]]:
        pod, moving = both()
        moving[0].trouble, moving[0].is_unready = trouble, is_unready
        going = [asyncio.ensure_future(pod.go(each)) for each in moving]
        await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED, timeout=1)
        if trouble:
            pod.stopping(moving[1], trouble)
        ended = await asyncio.gather(*going, return_exceptions=True)
        return ended, [each.said_go for each in moving]

    assert asyncio.run(run("")) == ([None, None], [True, True])
    for trouble, is_unready in (("its dump has ended", False), ("its restore has ended", True)):
        ended, went = asyncio.run(run(trouble, is_unready))
        assert went == [False, False]
        assert all(trouble in str(error) for error in ended), ended


def test_one_that_fails_before_go_fails_the_other_and_after_it_holds_up_none() -> None:
    async def before() -> None:
        pod, (first, second) = both()
        waiting = asyncio.ensure_future(pod.together(first, "frozen"))
        await asyncio.sleep(0)
        pod.stopping(second, "no room")
        with pytest.raises(Trouble, match="b, of the same pod: no room"):
            await waiting
        assert (first.failed, second.failed) == ("b, of the same pod: no room", "")
        with pytest.raises(Trouble):
            await pod.together(first, "restored")
        with pytest.raises(Trouble):
            pod.begin(first)

    async def after() -> None:
        pod, (first, second) = both()
        await asyncio.gather(pod.go(first), pod.go(second))
        waiting = asyncio.ensure_future(pod.together(first, "drained"))
        await asyncio.sleep(0)
        assert not waiting.done()
        pod.stopping(second, "killed")
        await waiting
        assert first.failed == ""

    asyncio.run(before())
    asyncio.run(after())


@pytest.mark.parametrize(("second_does", "back"), [("fails", True), ("runs", False), ("is in doubt", False)])
def test_those_whose_restores_all_fail_after_go_have_a_way_back(second_does: str, back: bool) -> None:
    async def run() -> bool:
        pod, (first, second) = both()
        await asyncio.gather(pod.go(first), pod.go(second))
        first.none_there = True
        waiting = asyncio.ensure_future(pod.none_there(first))
        await asyncio.sleep(0)
        assert not waiting.done()
        if second_does == "runs":
            pod.runs()
        elif second_does == "fails":
            second.none_there = True
            assert await pod.none_there(second)
        else:
            pod.stopping(second, "no answer")
        return await waiting

    assert asyncio.run(run()) is back


@pytest.mark.parametrize(
    ("other", "held"),
    [({"went": True}, False), ({}, True), ({"went": False, "state": "rolled-back"}, True), (None, False)],
)
def test_what_may_run_by_its_own_record_may_not_if_another_s_says_no(
    tmp_path: Path, other: dict[str, Any] | None, held: bool
) -> None:
    group = {"id": "1234", "names": list(NAMES)}
    if other is not None:
        (tmp_path / "plan.b").mkdir()
        facts = {"state": "allowed", "group": group, **other}
        (tmp_path / "plan.b/journal.json").write_text(json.dumps(facts))
    (tmp_path / "plan.a").mkdir()
    facts = {"went": True, "group": group, "control": str(tmp_path / "plan.a/control")}
    (tmp_path / "plan.a/journal.json").write_text(json.dumps(facts))
    assert is_held(facts) is held
    found: Any = SimpleNamespace(facts=facts, held=is_held(facts))
    assert Found.went.fget(found) is not held  # type: ignore[attr-defined]
    assert not is_held({"went": True, "control": str(tmp_path / "plan.a/control")})
    later = facts | {"group": group | {"id": "5678"}}
    assert not is_held(later | {"group": later["group"] | {"names": ["plan.b"]}}), "another try's record"


def test_one_of_which_nothing_is_left_there_is_given_up_by_force_alone() -> None:
    facts = {"state": "undecided", "went": True, "complete": True, "none_there": True}
    found = Found(facts, False, PageServer(), Source({7: Seen.STOPPED}))
    assert found.is_lost and not found.may_commit
    assert "nothing of it is left at the destination" in found.words()[-1]


def test_a_pod_is_frozen_when_all_of_it_is_ready_whatever_has_rounds() -> None:
    for at_once in (None, 1):
        schedule = Schedule(at_once)
        pod = [Member(name, pod="web", phase=Phase.PREPARED, has_rounds=name != "c") for name in "abc"]
        alone = Member("alone", phase=Phase.PREPARED, has_rounds=True)
        members = [*pod, alone]
        for expected in "ab":
            assert schedule.next_freeze(members) is None
            member = schedule.next_rounds(members)
            assert member is not None and member.name == expected
            member.phase = Phase.ROUNDS
            assert schedule.next_freeze(members) is None
            member.phase = Phase.READY
        member = schedule.next_freeze(members)
        assert member is not None and member.unit == "web"


def podman_pod(*create: str, mode: str = "bridge", **infra: Any) -> PodmanPod:
    networks = {"podman": {"IPAddress": "10.88.0.2", "GlobalIPv6Address": "", "MacAddress": "aa:bb"},
        "dual": {"IPAddress": "10.90.0.2", "GlobalIPv6Address": "fd90::2", "MacAddress": "cc:dd"}}  # fmt: skip
    known = {"HostConfig": {"NetworkMode": mode}, "NetworkSettings": {"Networks": networks}, **infra}
    config = {"Name": "web", "CreateCommand": ["podman", "--root", "/r", "pod", "create", *create]}
    return PodmanPod(["podman"], config, known)


def test_a_pod_is_made_by_the_command_that_made_it_with_its_addresses() -> None:
    dual, plain = "dual:ip=10.90.0.2,ip6=fd90::2,mac=cc:dd", "podman:ip=10.88.0.2,mac=aa:bb"
    addresses = ["--network", dual, "--network", plain]  # by name, if the command doesn't say
    given = ["--replace", "--network=podman", "--net", "dual:ip=10.90.0.7,alias=shop", "--mac-address", "x"]
    given += ["--pod-id-file", "/f", "-p", "80:80", "web"]
    told = ["--network", plain, "--network", f"{dual},alias=shop", "-p", "80:80", "web"]
    assert podman_pod(*given).to_create() == told
    assert podman_pod("--name=web").to_create() == [*addresses, "--name=web"]
    assert podman_pod().to_create() == ["--name", "web", *addresses]
    assert podman_pod("--network", "none", mode="none").to_create() == ["--name", "web", "--network", "none"]
    made_otherwise = PodmanPod([], {"Name": "web", "CreateCommand": ["podman", "kube", "play", "x"]}, None)
    assert made_otherwise.create_arguments() is None


def test_each_obstacle_of_a_pod_is_told() -> None:
    assert ["no infra container" in said for said in PodmanPod([], {"Name": "web"}, None).obstacles()] == [True]
    assert PodmanPod([], {"Name": "web"}, None).expectations() is None
    pod = podman_pod("web", mode="pasta")
    config = pod.config | {"SharedNamespaces": ["net", "pid"], "CreateCommand": None}
    config |= {"Containers": [{"Id": "1", "Name": "a", "State": "exited"}], "InfraContainerID": "2"}
    told = list(PodmanPod([], config, pod.infra).obstacles())
    words = ("shares its pid namespace", "not made by podman pod create", "the network 'pasta'", "podman rm a")
    for said, word in zip(told, words, strict=True):
        assert word in said


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ({"driver": "bridge"}, []),
        ({"driver": "bridge", "options": {"mode": "unmanaged"}}, ["an unmanaged bridge"] * 2),
        ({"driver": "macvlan"}, ["of the driver macvlan"] * 2),
        (EngineError("podman network inspect dual: no answer"), ["no answer"]),
    ],
)
def test_its_addresses_are_not_to_be_seen_at_both_hosts(
    monkeypatch: pytest.MonkeyPatch, network: Any, says: list[str]
) -> None:
    def inspect(command: Any, name: str) -> Any:
        if isinstance(network, EngineError):
            raise network
        return network

    monkeypatch.setattr(podman_pod_module, "inspect", inspect)
    told = list(podman_pod("web").obstacles())
    assert len(told) == len(says) and all(words in said for words, said in zip(says, told, strict=True)), told


@pytest.mark.parametrize(("agents", "looks"), [({}, 1), ({7: 1001.0}, 1), ({7: 999.0, 8: 1001.0}, 3)])
def test_a_pod_that_is_in_the_way_is_awaited_while_an_earlier_try_may_be_undone(
    monkeypatch: pytest.MonkeyPatch, agents: dict[int, float], looks: int
) -> None:
    seen: list[PodmanPod | None] = []

    def find(podman: Any, name: str) -> PodmanPod | None:
        pod = podman_pod(name)
        made = pod.config | {"Created": "1970-01-01T00:16:40.123456789Z"}
        seen.append(PodmanPod(podman, made, pod.infra) if len(seen) < 2 else None)
        return seen[-1]

    monkeypatch.setattr(podman_pod_module, "find", find)
    monkeypatch.setattr(podman_pod_module, "others_with", lambda word: agents)
    problems = podman_pod_module.lacking(["podman"], {"name": "web", "image": "", "networks": []})
    assert (len(seen), bool(problems)) == (looks, looks == 1)


@pytest.mark.parametrize(
    ("fails", "expected"),
    [("create", ["pod create --name web"]), ("start", ["pod create --name web", "pod start 12ab"])],
)
def test_what_was_not_made_is_not_removed(monkeypatch: pytest.MonkeyPatch, fails: str, expected: list[str]) -> None:
    calls, removed = [], []

    def run(command: list[str], seconds: float) -> SimpleNamespace:
        calls.append(" ".join(command[3:]))
        return SimpleNamespace(returncode=fails in command, stdout="12ab\n", stderr="the name is in use")

    monkeypatch.setattr(podman_pod_module, "run", run)
    monkeypatch.setattr(podman_pod_module, "remove_empty", lambda podman, pod: removed.append(pod))
    with pytest.raises(EngineError, match=f"podman pod {fails} web: the name is in use"):
        podman_pod_module.make(["podman"], {"name": "web", "create": ["--name", "web"], "runtime": "crun"})
    assert calls == expected
    assert removed == ["12ab"] * (fails == "start")


def test_each_looks_at_its_connections_when_nothing_new_comes_to_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader, who holds back what is new, comes last."""
    log: list[str] = []

    class Connections:
        def __init__(self, pid: int) -> None: ...
        def are_being_made(self) -> bool:
            log.append("looked")
            return False

        def exist(self) -> bool:
            return False

        def close(self) -> None: ...

    async def run() -> None:
        pod, moving = both()
        monkeypatch.setattr(moving_network, "Connections", Connections)
        here = SimpleNamespace(save=lambda path: None, keep_packets=lambda: None, hold_new=lambda: log.append("held"))
        held = []
        for each in moving:
            each.turns, each.pid, each.directory, each.profile = pod, 1, Path("/x"), each
            each.for_connections = lambda *_, **__: None
            network = moving_network.MovingNetwork(each)
            network.here = here if each is moving[1] else None  # type: ignore[assignment]
            held.append(network.hold_new())
        await asyncio.gather(*held)

    asyncio.run(run())
    assert log == ["held", "looked", "looked"]


def test_a_driver_that_is_killed_as_it_rolls_back_has_put_that_on_record(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    async def killed(force: bool) -> None:
        raise Killed

    nothing: Any = lambda *_: None  # noqa: E731
    dump = SimpleNamespace(process=1, roll_back=killed)
    migration: Any = SimpleNamespace(
        state=State.ALLOWED, said_go=False, dump=dump, journal=journal.Journal(tmp_path, {"went": True}),
        stop_watching=nothing, progress=Progress(), look=lambda: SimpleNamespace(is_over=False),
    )  # fmt: skip
    with pytest.raises(Killed):
        asyncio.run(Ending(migration).roll_back("the other has failed", force=True))
    assert journal.read(tmp_path)["went"] is False


def test_control_groups_get_the_new_pod_s_id_and_nothing_else(tmp_path: Path) -> None:
    move_groups(tmp_path, "ab" * 32, "cd" * 32)  # no image, as crun may be told to leave them alone
    image = tmp_path / "cgroup.img"
    image.write_bytes(b"\n\x40/libpod_parent/" + b"ab" * 32 + b"/libpod-x")
    move_groups(tmp_path, "ab" * 32, "cd" * 32)
    assert image.read_bytes() == b"\n\x40/libpod_parent/" + b"cd" * 32 + b"/libpod-x"
    with pytest.raises(EngineError):
        move_groups(tmp_path, "ab" * 32, "cd")
