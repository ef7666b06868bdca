"""The engine's C test programs (tests/c), each built plain, with ASan+UBSan and with TSan."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
C_SRC = TESTS.parent / "c_src"
IMAGES = TESTS / "images"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-g", "-O1", "-pthread"]
FLAGS += ["-DCL_WITH_TLS", "-DCL_WITH_LZ4"]
LIBRARIES = ["-lgnutls", "-llz4", "-lm"]
SANITIZERS = {"plain": [], "asan-ubsan": ["-fsanitize=address,undefined"], "tsan": ["-fsanitize=thread"]}
MUTATIONS = "20000"
needs_userfaultfd_events = pytest.mark.skipif(
    os.geteuid() != 0, reason="userfaultfd's fork events need root (CAP_SYS_PTRACE)"
)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory):
    """build(name, sanitizer) -> the program tests/c/NAME.c, linked with all of c_src; built once."""
    directory = tmp_path_factory.mktemp("c")
    engine_objects: dict[str, list[str]] = {}

    def compile_all(sanitizer: str) -> list[str]:
        where = directory / sanitizer
        where.mkdir()
        sources = sorted(map(str, C_SRC.glob("*.c")))
        subprocess.run(["gcc", *FLAGS, *SANITIZERS[sanitizer], "-c", *sources], cwd=where, check=True)
        return sorted(map(str, where.glob("*.o")))

    def build_one(name: str, sanitizer: str) -> Path:
        if sanitizer not in engine_objects:
            engine_objects[sanitizer] = compile_all(sanitizer)
        program = directory / f"{name}-{sanitizer}"
        if not program.exists():
            directories = (TESTS / "c", TESTS.parent / "criu_lazy_ext/bench")
            source = next(path for where in directories if (path := where / f"{name}.c").exists())
            flags = [*FLAGS, *SANITIZERS[sanitizer], f"-I{C_SRC}"]
            command = ["gcc", *flags, "-o", str(program), str(source), *engine_objects[sanitizer], *LIBRARIES]
            subprocess.run(command, check=True)
        return program

    return build_one


def run(*command: str | Path) -> None:
    """Run a test program; its own message is the failure's."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan"])
@pytest.mark.parametrize("name", ["test_space", "test_flow", "test_remote", "test_readahead"])
def test_logic_against_its_model(build, name: str, sanitizer: str) -> None:
    run(build(name, sanitizer))


def test_read_ahead_keeps_the_simulated_task_going(build) -> None:
    run(build("simulate", "plain"), "--check")


def test_simulator_replays_a_recorded_trace(build, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("".join(f"{10 * i} {i % 2} {i * 3 % 500}\n" for i in range(1000)))
    simulate = build("simulate", "asan-ubsan")
    run(simulate, "--trace", trace, "--pages", "600")
    trace.write_text("0 0 1\n5 0\n")
    with pytest.raises(AssertionError, match="expected lines"):
        run(simulate, "--trace", trace)


def test_the_oracle_of_a_lone_reader_is_what_the_link_cannot_carry_in_time(build) -> None:
    simulate = build("simulate", "asan-ubsan")
    pages, think_ns, mbit = 4096, 10000, 1000
    link = ["--rate-mbit", str(mbit), "--rtt-us", "200", "--pages", str(pages), "--think-ns", str(think_ns)]
    for mode in ("sequential", "strided"):
        command = [simulate, "--oracle", "--trace", f"task-{mode}", "--threads", "1", *link]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert told["drain_s"] == pytest.approx(pages * 4096 * 8 / (mbit * 1e6) + 200e-6, rel=0.01)
        assert told["stall_s"] == pytest.approx(told["drain_s"] - pages * think_ns / 1e9, rel=0.01)
    for mode in ("random", "zipf"):  # most accesses are to pages that are there
        command = [simulate, "--oracle", "--trace", f"task-{mode}", "--threads", "2", *link]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert 0 < told["stall_s"] < 2 * told["drain_s"]


@pytest.mark.parametrize("image", sorted(IMAGES.glob("*/pagemap-*.img")), ids=lambda p: p.parent.name + "-" + p.stem)
def test_pagemap_reader_survives_mutations_of_a_real_image(build, image: Path) -> None:
    run(build("test_pagemap", "asan-ubsan"), image, MUTATIONS)


@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan"])
def test_no_end_before_a_task_runs_is_taken_for_success(build, sanitizer: str, tmp_path: Path) -> None:
    run(build("test_byte_ahead", sanitizer), tmp_path)


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
def test_whoever_kills_the_daemon_the_tasks_wait_or_the_restore_fails(build, sanitizer: str) -> None:
    run(build("test_holder", sanitizer))


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
@pytest.mark.parametrize("connections", ["steady", "cut"])
def test_pages_are_pushed_under_a_task_that_never_holds_still(build, connections: str, sanitizer: str) -> None:
    run(build("test_push", sanitizer), connections, build("stress_task", "plain"), "1")


@pytest.mark.parametrize("sanitizer", ["asan-ubsan", "tsan"])
@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_whatever_clients_say_only_lazy_pages_are_served(build, seed: str, sanitizer: str) -> None:
    run(build("test_push_serve", sanitizer), seed)


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["asan-ubsan", "tsan"])
def test_a_hostile_server_that_pushes_writes_only_what_was_asked_for(build, sanitizer: str) -> None:
    run(build("test_push", sanitizer), "hostile", "1")


@needs_userfaultfd_events
def test_what_a_server_that_pushes_may_not_send_is_refused(build) -> None:
    run(build("test_push", "asan-ubsan"), "refused")


@needs_userfaultfd_events
@pytest.mark.parametrize("source", ["remote", "local"])
@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("task", ["mixed", "churning"])
def test_engine_under_a_task_that_never_holds_still(build, task: str, seed: int, sanitizer: str, source: str) -> None:
    program = build("stress_task", "plain")
    run(
        *(build("stress_engine", sanitizer), program, "2", str(seed)),
        "1" if source == "local" else "0",
        "1" if task == "churning" else "0",
    )


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
@pytest.mark.parametrize("task", ["mixed", "churning"])
def test_engines_killed_at_any_moment_are_succeeded_without_a_wrong_byte(build, task: str, sanitizer: str) -> None:
    program = build("stress_task", "plain")
    run(build("stress_takeover", sanitizer), program, "2", "1", "1" if task == "churning" else "0")
