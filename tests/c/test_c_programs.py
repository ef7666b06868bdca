"""The engine's C test programs (tests/c), each built plain, with ASan+UBSan and with TSan."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aarch64
import pytest
from c_build import FLAGS, compiler, runnable
from paths import C_SRC, IMAGES

MUTATIONS = "20000"
needs_userfaultfd_events = pytest.mark.skipif(
    os.geteuid() != 0 or aarch64.is_wanted(),
    reason="userfaultfd's fork events need root (CAP_SYS_PTRACE), and no emulated process has userfaultfd",
)


def not_emulated(reason: str) -> pytest.MarkDecorator:
    """For `make aarch64`."""
    return pytest.mark.skipif(aarch64.is_wanted(), reason=reason)


def run(*command: str | Path) -> None:
    """Run a test program; its own message is the failure's."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
def test_all_is_read_and_written_and_nothing_grows_without_limit(build, sanitizer: str) -> None:
    run(build("test_base", sanitizer))


@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
def test_tls_carries_all_both_ways_and_lets_nobody_else_in(build, sanitizer: str) -> None:
    run(build("test_tls", sanitizer))


@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan"])
@pytest.mark.parametrize(
    "name",
    [
        *("test_address_space", "test_flow", "test_source_stock", "test_readahead", "test_packing", "test_push_pace"),
        pytest.param("test_push_in_flight", marks=not_emulated("qemu-user gives 4 bytes of TCP_INFO")),
    ],
)
def test_logic_against_its_model(build, name: str, sanitizer: str) -> None:
    run(build(name, sanitizer))


def test_read_ahead_keeps_the_simulated_task_going(build) -> None:
    run(build("simulate", "plain"), "--check")


def test_what_following_a_huge_task_costs_is_measured(build) -> None:
    run(build("costs", "asan-ubsan"), "1", "1000")


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
    run(build("test_uffd_guardian", sanitizer))


@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan"])
def test_each_failure_of_the_engine_has_its_own_reason_and_leaves_nothing_open(build, sanitizer: str) -> None:
    run(build("test_errors", sanitizer))


@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
def test_the_end_of_a_dump_is_not_taken_back_by_what_comes_meanwhile(build, sanitizer: str) -> None:
    run(build("test_dump_proxy", sanitizer))


@pytest.mark.skipif(os.geteuid() != 0, reason="it becomes another user")
@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan"])
def test_a_guardian_of_a_dump_is_protected_and_trusts_root_and_its_own_user_only(build, sanitizer: str) -> None:
    with tempfile.TemporaryDirectory() as directory:  # not pytest's, which another user may not enter
        Path(directory).chmod(0o755)
        run(build("test_dump_guardian", sanitizer), directory)


@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan"])
def test_only_forked_memory_is_followed_and_nobody_holds_up_who_follows_it(build, sanitizer: str) -> None:
    done = subprocess.run([build("test_advice", sanitizer)], capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("perf_event_open or tracefs isn't there")
    assert done.returncode == 0, done.stderr


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
def test_a_task_that_is_killed_with_pages_missing_is_never_taken_for_served(build, sanitizer: str) -> None:
    run(build("test_task_end", sanitizer))


@pytest.fixture
def full_cgroup() -> Iterator[Path]:
    """A cgroup with 8 MiB and no OOM killer."""
    own = next((line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line), "")
    parent = Path(f"/sys/fs/cgroup/memory{own.split(':', 2)[2]}") if own else Path("/nowhere")
    if not os.access(parent, os.W_OK):  # it may be mounted from below
        parent = Path("/sys/fs/cgroup/memory")
    if not own or not os.access(parent, os.W_OK):
        pytest.skip("it needs the memory controller of cgroups version 1, the only one without an OOM killer")
    group = parent / f"criu-lazy-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.oom_control").write_text("1")
        (group / "memory.limit_in_bytes").write_text(str(8 << 20))
        yield group
    finally:
        group.rmdir()


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["plain", "tsan"])
def test_a_task_whose_cgroup_is_full_waits_until_there_is_room(build, sanitizer: str, full_cgroup: Path) -> None:
    run(build("test_no_memory", sanitizer), full_cgroup)


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
def test_a_task_never_reads_zeroes_from_an_engine_that_ends_early(build, sanitizer: str) -> None:
    run(build("test_abandon", sanitizer))


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
@pytest.mark.parametrize("connections", ["steady", "cut", "gone", "busy", "same", "lying"])
def test_pages_are_pushed_under_a_task_that_never_holds_still(build, connections: str, sanitizer: str) -> None:
    run(build("test_push", sanitizer), connections, build("stress_task", "plain"), "1")


@pytest.mark.parametrize("sanitizer", ["asan-ubsan", "tsan"])
@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_whatever_clients_say_only_lazy_pages_are_served(build, seed: str, sanitizer: str) -> None:
    run(build("test_push_server", sanitizer), seed)


@pytest.mark.parametrize("sanitizer", ["asan-ubsan", "tsan"])
@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_a_store_gives_back_what_it_was_given_and_refuses_the_rest(build, seed: str, sanitizer: str) -> None:
    run(build("test_precopy_store", sanitizer), seed)


@not_emulated("it doesn't end within its two minutes there")
@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
def test_what_a_store_has_is_not_sent_again_and_nothing_else_is_left_out(build, sanitizer: str) -> None:
    run(build("test_precopy", sanitizer), build("precopy_task", "plain"))


def test_a_build_without_xxhash_refuses_pre_copy_in_one_line(tmp_path: Path) -> None:
    program = tmp_path / "refused.c"
    program.write_text("""
        #include <stdio.h>
        #include "source/precopy_sender.h"
        int main(void)
        {
            const struct cl_precopy_config config = { .log_fd = -1, .nr_threads = 1 };
            struct cl_error error;

            return cl_precopy_new(&config, &error) ? 1 : (puts(error.text), 0);
        }
    """)
    flags = [flag for flag in FLAGS if not flag.startswith("-DCL_WITH_")]
    rooms = (sorted(C_SRC.glob(f"{room}/*.c")) for room in ("base", "task", "wire"))
    parts = [C_SRC / f"source/{part}.c" for part in ("precopy_scan", "precopy_sender", "push_batch")]
    parts += [part for room in rooms for part in room]
    command = [*compiler(), *flags, f"-I{C_SRC}", "-o", str(tmp_path / "refused"), str(program)]
    subprocess.run([*command, *map(str, parts)], check=True)
    said = subprocess.run([runnable(tmp_path / "refused")], capture_output=True, text=True, check=True).stdout
    assert said == "--precopy: this criu-lazy was built without xxHash (libxxhash-dev)\n"


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["asan-ubsan", "tsan"])
def test_a_hostile_server_that_pushes_writes_only_what_was_asked_for(build, sanitizer: str) -> None:
    run(build("test_push", sanitizer), "hostile", "1")


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["asan-ubsan", "tsan"])
def test_a_stream_lost_before_the_task_runs_costs_no_restore(build, sanitizer: str) -> None:
    run(build("test_push", sanitizer), "early")


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["asan-ubsan", "tsan"])
def test_what_comes_before_the_task_runs_is_not_missing_then(build, sanitizer: str) -> None:
    run(build("test_push", sanitizer), "ahead")


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["asan-ubsan", "tsan"])
def test_what_was_stored_around_a_touched_page_comes_with_it(build, sanitizer: str) -> None:
    run(build("test_push", sanitizer), "around")


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["plain", "tsan"])
def test_a_server_that_refuses_is_told_of_and_left_where_there_is_no_use_in_waiting(build, sanitizer: str) -> None:
    run(build("test_push", sanitizer), "turned-away")


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["plain", "tsan"])
def test_a_server_that_hangs_up_once_it_has_confirmed_the_end_is_right(build, sanitizer: str) -> None:
    run(build("test_push", sanitizer), "hasty")


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
@pytest.mark.parametrize("what", ["races", "guards", "killed", "failed"])
def test_children_find_in_missing_memory_what_was_there_at_the_fork_or_what_their_guards_left(build, what: str) -> None:
    run(build("test_forks", "plain"), what)  # sanitizers have their own at the addresses of the task in it


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
def test_what_was_pushed_before_it_was_missing_again_in_a_child_is_pushed_again(build, sanitizer: str) -> None:
    run(build("test_push", sanitizer), "steady", build("test_forks", "plain"), "1")


@needs_userfaultfd_events
@pytest.mark.parametrize("sanitizer", ["plain", "asan-ubsan", "tsan"])
@pytest.mark.parametrize("task", ["mixed", "churning"])
def test_engines_killed_at_any_moment_are_succeeded_without_a_wrong_byte(build, task: str, sanitizer: str) -> None:
    program = build("stress_task", "plain")
    run(build("stress_takeover", sanitizer), program, "2", "1", "1" if task == "churning" else "0")
