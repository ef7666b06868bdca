"""Wrong uses end with one line that says what is wrong and what to do, and with its exit status."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from criu_lazy_ext.cli import main

FAILED, USAGE = 1, 2


@pytest.fixture(scope="module")
def thread() -> int:
    """Of this process."""
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    return thread.native_id or 0


LOCAL = "destination: {local: true}\n"
LEAST = "task: {pid: 1}\n" + LOCAL
THREAD, OWN = "THREAD", "OWN"  # stand for its id, and this process's: a test is called the same in each worker
NOBODY = 4194303  # a pid that no process has

# Words after criu-lazy ("P": the profile), the profile, the exit status, and what the last line says.
WRONG: list[tuple[list[str], str | None, int, tuple[str, ...]]] = [
    (["migrate"], None, USAGE, ("required: profile",)),
    (["migrate", "P", "--fast"], LEAST, USAGE, ("unrecognized arguments: --fast",)),
    (["migrate", "P"], None, USAGE, ("p.yaml: No such file or directory; criu-lazy init writes one",)),
    (["migrate", "/"], None, USAGE, ("/: Is a directory",)),
    (["migrate", "P"], "", USAGE, ("the profile is empty; criu-lazy init writes one",)),
    (["migrate", "P"], "task: [", USAGE, ("p.yaml:1:8: not YAML",)),
    (["migrate", "P"], "- a\n", USAGE, ("expected a mapping with", "found a list")),
    (["migrate", "P"], LEAST + "timeout: {}\n", USAGE, ("unknown key", "did you mean 'timeouts'?")),
    (["migrate", "P"], LEAST + LOCAL, USAGE, ("p.yaml:3:1: destination: given twice",)),
    (["migrate", "P"], LOCAL, USAGE, ("task: missing: pid, pidfile or command (or container)",)),
    (["migrate", "P"], "task: {}\n" + LOCAL, USAGE, ("exactly one of pid, pidfile, command",)),
    (["migrate", "P"], "task: {pid: 1, pidfile: /run/x}\n" + LOCAL, USAGE, ("exactly one of pid, pidfile, command",)),
    (["migrate", "P"], "task: {pid: nginx}\n" + LOCAL, USAGE, ("task.pid: expected a whole number, found 'nginx'",)),
    (["migrate", "P"], "task: {pid: 0}\n" + LOCAL, USAGE, ("expected a number from 1 to",)),
    (["migrate", "P"], "task: {pidfile: x.pid}\n" + LOCAL, USAGE, ("expected an absolute path, found 'x.pid'",)),
    (["migrate", "P"], "task: {pid: 1}\n", USAGE, ("destination: missing: ssh: HOST, or local: true",)),
    (["migrate", "P"], "task: {pid: 1}\ndestination: {}\n", USAGE, ("expected either ssh: HOST or local: true",)),
    (["migrate", "P"], "task: {pid: 1}\ndestination: {ssh: a, local: true}\n", USAGE, ("either ssh: HOST or local",)),
    (["migrate", "P"], "task: {pid: 1}\ndestination: {ssh: a, prefix: [x]}\n", USAGE, ("goes with local: true only",)),
    (["migrate", "P"], LEAST + "source: {rate: quick}\n", USAGE, ("expected a number of bytes (K, M, G may follow)",)),
    (["migrate", "P"], LEAST + "strategy: eager\n", USAGE, ("expected auto or lazy or hybrid, found 'eager'",)),
    (["migrate", "P"], LEAST + "keep_files: 1\n", USAGE, ("expected true or false, found '1'",)),
    (["migrate", "P"], LEAST + "hooks: {before_dmp: []}\n", USAGE, ("unknown phase; did you mean 'before_dump'?",)),
    (["migrate", "P"], LEAST + "hooks: {before_dump: [{on: source}]}\n", USAGE, ("[0].run: missing: a command",)),
    (["migrate", "P"], LEAST + "accept: [outside-pipe]\n", USAGE, ("did you mean 'outside-pipes'?",)),
    (["migrate", "P"], LEAST + "criu: {dump_options: [-R]}\n", USAGE, ("beside the restored one; leave it out",)),
    (["migrate", "P"], LEAST + "daemon_options: [--fast]\n", USAGE, ("daemon_options: unrecognized option '--fast'",)),
    (["migrate", "P"], LEAST + "daemon: stock\nprecopy: {}\n", USAGE, ("precopy: needs daemon: criu-lazy",)),
    (["migrate", "P"], LEAST + "network: {addresses: [10.0.0.1]}\n", USAGE, ("expected an address as",)),
    (["migrate", "P"], LEAST + "container: {engine: runc, name: x}\n", USAGE, ("task, too: leave one of them out",)),
    (["migrate", "P"], f"task: {{pid: {NOBODY}}}\n" + LOCAL, FAILED, (f"no process has pid {NOBODY}",)),
    (["migrate", "P"], "task: {pidfile: /nowhere/x.pid}\n" + LOCAL, FAILED, ("; does the task run?",)),
    (["migrate", "P"], "task: {command: echo one two}\n" + LOCAL, FAILED, ("root), found 'one two'",)),
    (["migrate", "P"], "task: {command: 'exit 3'}\n" + LOCAL, FAILED, ("status 3; it is to print",)),
    (["migrate", "P"], f"task: {{pid: {OWN}, program: x}}\n" + LOCAL, FAILED, (", and not 'x' (task.program)",)),
    (["migrate", "P"], f"task: {{pid: {THREAD}}}\n" + LOCAL, FAILED, (f"thread of process {OWN}", "give ")),
    (["migrate", "P"], "a: \xff\n", USAGE, ("p.yaml: not YAML: no text in UTF-8; criu-lazy init writes one",)),
    (["migrate", "P"], "task: {pid: " + "word " * 99 + "}\n" + LOCAL, USAGE, ("number, found 'word word", " [...]'")),
    (["migrate", "P", "--commit", "--abort"], LEAST, USAGE, ("--abort: not allowed with argument --commit",)),
    (["migrate", "P", "--dry-run", "--status"], LEAST, USAGE, ("--status: not allowed with argument --dry-run",)),
    (["migrate", "P", "--force"], LEAST, USAGE, ("--force goes with --abort or --commit",)),
    (["migrate", "P", "--rate", "fast"], LEAST, USAGE, ("--rate: ",)),
    (["migrate", "P", "--abort"], LEAST, FAILED, ("no migration of this profile",)),
    (["check", "P", "host"], LEAST, USAGE, ("a profile names its container, and its destination, itself",)),
    (["check", "--container", "web", "P"], LEAST, USAGE, ("a profile names its container, and its destination",)),
    (["check", "--container", "web", "--pid", "1"], None, USAGE, ("not allowed with argument",)),
    (["check", "--engine", "runc"], None, USAGE, ("--engine goes with --container",)),
    (["check", "--destination", "--container", "web"], None, USAGE, ("a task leaves it as the source",)),
    (["init", "--pid", "1", "--engine", "runc", "dst"], None, USAGE, ("--engine goes with --container",)),
    (["check", "P"], None, USAGE, ("p.yaml: No such file or directory; criu-lazy init writes one",)),
    (["check", "--destination", "--pid", "1"], None, USAGE, ("a task leaves it as the source",)),
    (["check", "./p"], None, USAGE, ("p: No such file or directory; criu-lazy init writes one",)),
    (["check", "--pid", str(NOBODY)], None, USAGE, (f"--pid: no process has pid {NOBODY}; has it ended?",)),
    (["check", "--pid", THREAD], None, USAGE, (f"--pid: {THREAD} is a thread of process {OWN}, ",)),
    (["init", "host"], None, USAGE, ("--pid --container --evacuate is required",)),
    (["init", "--pid", str(OWN), "a", "b"], None, USAGE, ("a profile has one destination: --evacuate writes a plan",)),
    (["init", "--evacuate", "host", "-o", "P"], LEAST, USAGE, ("is there already", "--output")),
    (["init", "--pid", str(NOBODY), "host"], None, USAGE, (f"--pid: no process has pid {NOBODY}; has it",)),
    (["init", "--pid", "-1", "host"], None, USAGE, ("--pid: no process has pid -1; has it ended?",)),
    (["init", "--pid", THREAD, "host"], None, USAGE, (f"--pid: {THREAD} is a thread of process {OWN}, ",)),
    (["init", "--container", "none", "host"], None, FAILED, ("see podman ps, runc list, crun list",)),
    (["status", "--directory", "/nowhere"], None, USAGE, ("/nowhere: No such file or directory",)),
    (["status", "--directory", "P"], LEAST, USAGE, ("p.yaml: Not a directory",)),
    (["metrics", "--directory", "/nowhere"], None, USAGE, ("/nowhere: No such file or directory",)),
    (["metrics", "--listen", "9967"], None, USAGE, ("--listen: expected ADDRESS:PORT, not '9967'",)),
    (["report", "P"], LEAST, FAILED, ("p: no run of it is on record in ",)),
    (["report", "/etc/passwd"], None, FAILED, ("passwd: this is no run file; migrate names its own at",)),
    (["report", "none"], None, FAILED, ("none: no run of it is on record in /var/lib/criu-lazy; ",)),
    (["report", "none.json"], None, FAILED, ("error: none.json: No such file or directory; migrate names its own",)),
    (["report", "/proc"], None, FAILED, ("/proc: no run file is there; migrate names its own at the end, as",)),
    (["init", "--pid", "1", "host", "-o", "P"], LEAST, USAGE, ("is there already", "--output")),
    (["explain", "P"], None, USAGE, ("p.yaml: No such file or directory; criu-lazy init writes one",)),
    (["agent", "now"], None, FAILED, ("it is run by criu-lazy migrate",)),
]


@pytest.mark.parametrize(("words", "profile", "status", "says"), WRONG, ids=lambda value: str(value)[:60])
def test_a_wrong_use_is_told_in_one_line(
    words: list[str], profile: str | None, status: int, says: tuple[str, ...],
    tmp_path: Path, capsys: pytest.CaptureFixture[str], thread: int,
) -> None:  # fmt: skip
    def known(text: str) -> str:
        return text.replace(THREAD, str(thread)).replace(OWN, str(os.getpid()))

    words, says = [known(word) for word in words], tuple(known(text) for text in says)
    profile = None if profile is None else known(profile)
    path = tmp_path / "p.yaml"
    if profile is not None:
        end = "" if profile in ("", "task: [", "- a\n") else f"directories: {{source: {tmp_path}/d}}\n"
        path.write_text(profile + end, encoding="latin-1")
    try:
        found = main([str(path) if word == "P" else word for word in words])
    except SystemExit as ended:  # argparse's
        found = int(ended.code or 0)
    error = capsys.readouterr().err
    assert found == status, error
    assert "Traceback" not in error
    *usage, line = error.strip().splitlines()
    assert line.startswith(f"criu-lazy {words[0]}: ") and all(text in line for text in says), line
    assert not usage or usage[0].startswith("usage: criu-lazy"), "one line, or argparse's usage before it"
    assert {item.name for item in tmp_path.rglob("*")} <= {"p.yaml", "d", "p.lock"}, "nothing was touched"


def test_a_directory_whose_sockets_would_have_too_long_a_path_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.yaml"
    for longest, status in ((107, FAILED), (108, USAGE)):  # with what the kernel just takes it goes on, to the task
        directory = f"{tmp_path}/".ljust(longest - len("/p/page-server.sock.guard"), "d")
        path.write_text(f"task: {{pid: {NOBODY}}}\n{LOCAL}directories: {{source: {directory}}}\n")
        assert main(["migrate", str(path)]) == status
        is_told = "has 108 bytes, and may have 107: let directories.source be a shorter one" in capsys.readouterr().err
        assert is_told == (status == USAGE)


def test_without_a_subcommand_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == USAGE
    assert "\n  migrate " in capsys.readouterr().err


def test_an_unknown_subcommand_is_answered_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for word, hint in (("migrat", "did you mean 'migrate'?"), ("xyzzy", "criu-lazy --help lists them")):
        assert main([word]) == USAGE
        assert capsys.readouterr().err == f"criu-lazy: error: unknown subcommand {word!r}; {hint}\n"


@pytest.mark.parametrize("words", ["status --directory", "report"])
def test_who_isnt_root_is_told_that_it_takes_root(words: str, capfd: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="criu-lazy-test-") as directory:
        private = Path(directory) / "m"
        private.mkdir(mode=0o700)
        (private / "journal.json").write_text("{}")
        Path(directory).chmod(0o755)
        importlib.import_module(f"criu_lazy_ext.commands.{words.split()[0]}")  # before it is another user
        if (child := os.fork()) == 0:
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            else:
                private.chmod(0)
            os._exit(main([*words.split(), directory if "status" in words else str(private)]))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == FAILED
        private.chmod(0o700)
    assert "Permission denied: run it as root" in capfd.readouterr().err


# What can't be written to: a full disk, a reader that has gone; the exit status, and what is said.
OUTPUTS = {">/dev/full": (FAILED, "error: No space left on device\n"), "| true": (141, "")}
WRITING = ("explain P", "status", "metrics", "check --source")


@pytest.mark.parametrize("words", WRITING)
@pytest.mark.parametrize("output", OUTPUTS)
def test_output_that_cannot_be_written_is_told_in_one_line(words: str, output: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(LEAST)
    status, says = OUTPUTS[output]
    command = f"{sys.executable} -m criu_lazy_ext.cli {words.replace('P', str(path))}"
    # The reader has gone before anything is written, whoever is faster.
    script = f"{command} {output}" if ">" in output else f"exec 3>&1; (sleep 0.1; {command}; echo $? >&3) | exec true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr and done.stderr.endswith(says) and len(done.stderr.splitlines()) <= 1
    assert (int(done.stdout) if done.stdout else done.returncode) == status, done


@pytest.mark.parametrize("words", WRITING)
def test_closed_output_is_as_good_as_none(words: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(LEAST)
    command = f"exec {sys.executable} -m criu_lazy_ext.cli {words.replace('P', str(path))}"
    open_, closed = (
        subprocess.run(["bash", "-c", command + to], capture_output=True, text=True) for to in (">/dev/null", ">&-")
    )
    assert closed.stderr == open_.stderr and closed.returncode == open_.returncode
