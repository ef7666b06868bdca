"""Of criu's log the cause is shown, with what helps. The lines are criu 4.2.1's own, from failures on the testbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from criu_lazy_ext.criu.explain import PASSING, cause, cause_in_log


@pytest.mark.parametrize(
    ("line", "helps"),
    [
        (
            "Error (criu/files-reg.c:1031): Can't dump ghost file /srv/x of 3072000 size, increase limit",
            "--ghost-limit",
        ),
        (
            "Error (criu/files-reg.c:1122): Can't create link remap for /srv/x. Use link-remap option.",
            "link_remap: true",
        ),
        ("Error (criu/file-lock.c:110): Some file locks are hold by dumping tasks! You can try", "file_locks: true"),
        (
            "Error (criu/sk-unix.c:874): unix: External socket is used. Consider using --ext-unix-sk",
            "ext_unix_sk: true",
        ),
        ("pie: 162: Error (criu/pie/restorer.c:196): can't write lsm profile -2", "(security-profiles)"),
        ("Error (criu/sk-inet.c:137): inet: Unsupported proto 262 for socket c310f7", "GODEBUG=multipathtcp=0"),
        ("Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using", "leave criu.tcp_established out"),
        (
            "11: Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 15): Cannot assign requested address",
            "a hook",
        ),
        (
            "11: Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 15): Address already in use",
            "stop it there",
        ),
        (
            "11: Error (criu/files-reg.c:2353): Can't open file run/x on restore: No such file or directory",
            "after_dump",
        ),
        ("Error (criu/cr-dump.c:478): Task 10845 with SysVIPC shmem map @7f77 doesn't live in IPC ns", "unshare --ipc"),
        ("Error (criu/cr-dump.c:1528): A session leader of 12214(12214) is outside of its pid namespace", "setsid"),
        ("12: Error (criu/tty.c:1010): tty: Don't have tty to inherit session from, aborting", "without one"),
        ("Error (criu/fsnotify.c:284): fsnotify: \tCan't dump that handle", "--force-irmap"),
        ("Error (criu/arch/x86/cpu.c:223): cpu: CPU instruction capabilities do not match run time", "processor lacks"),
        ('Error (criu/util.c:642): execvp("/srv/m/work/gate.sh", ...) failed: Permission denied', "mounted noexec"),
        ("7: Error (criu/util.c:1621): Unable to open the proc file system: Operation not permitted", "user namespace"),
        ("Error (criu/namespaces.c:460): Can't dump nested uts namespace for 11339", "namespaces of its own"),
        ("Error (criu/files-reg.c:1790): Can't lookup mount=18 for fd=-3 path=/anon_hugepage (deleted)", "criu.kdat"),
        ("Error (criu/pstree.c:969): Can't restore sub-task in NS (cflags 40000000)", "namespaces of its own"),
        ("Error (criu/cr-restore.c:2639): Inconsistent sched params received (6.0.0)", "chrt --other"),
        ("Error (criu/pidfd.c:97): pidfd: pidfd pid 1 is not a part of process tree..", "close it"),
        ("5: Error (criu/sk-inet.c:889): inet: Can't create inet socket: Permission denied", "ping_group_range"),
        ("Error (criu/proc_parse.c:502): Unknown shit 600 (anon_inode:[io_uring])", "kernel-objects"),
        ("pie: 10684: Error (criu/pie/parasite.c:588): send_fds failed (-22)", "io_uring"),
    ],
)
def test_an_error_comes_with_what_helps(line: str, helps: str) -> None:
    found = cause(["Warn  (criu/x.c:1): nothing", line, "Error (criu/cr-dump.c:2128): Dumping FAILED."])
    assert found.startswith(line.strip()) and helps in found


def test_the_cause_is_shown_and_not_the_first_line_with_error_in_it(tmp_path: Path) -> None:
    log = tmp_path / "restore.log"
    log.write_text(
        "Error (criu/net.c:100): ipv4: Address already assigned.\n"
        "RTNETLINK answers: Error (no such device)\n"
        "Error (criu/util.c:657): exited, status=127\n"
        "Error (criu/mount.c:634): mnt: Can't stat mountpoint /srv: No such file or directory\n"
        "Error (criu/cr-restore.c:1): Restoring FAILED.\n"
    )
    assert cause_in_log(log).startswith("Error (criu/mount.c:634): mnt: Can't stat mountpoint /srv")
    log.write_text("Error (criu/util.c:657): exited, status=127\nError (criu/a.c:1): Something new\n")
    assert cause_in_log(log) == "Error (criu/a.c:1): Something new"
    log.write_text("all is well\n")
    assert cause_in_log(log) == "no error in restore.log"


def test_what_passes_by_itself_is_known() -> None:
    assert PASSING.search("Error (criu/sk-inet.c:190): inet: In-flight connection (l) for 1234")
    assert PASSING.search("Error (criu/proc_parse.c:1): Can't open PID 1234: No such file or directory")
    assert not PASSING.search("Error (criu/sk-inet.c:200): inet: Connected TCP socket")
