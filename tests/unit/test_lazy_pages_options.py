"""The command line of `criu-lazy lazy-pages`: criu's own, in what is taken, what is refused, and how."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from command_lines import REFUSED, TAKEN

from criu_lazy_ext.commands import lazy_pages
from criu_lazy_ext.criu import options as criu_options
from criu_lazy_ext.criu.config import line_words
from criu_lazy_ext.criu.getopt_long import OptionError
from criu_lazy_ext.criu.options import Options
from criu_lazy_ext.native.engine import WITHOUT_LIMIT

# Refused later than the parser, when the files are looked at.
REFUSED_LATER = {line for line in REFUSED if "/nonexistent" in line or "../nonexistent" in line}


def parse(line: str, **environ: str) -> Options:
    return criu_options.parse(shlex.split(line), environ)


@pytest.mark.parametrize("line", TAKEN)
def test_what_criu_takes_is_taken(line: str) -> None:
    assert not parse(line).show


@pytest.mark.parametrize("line", [line for line in REFUSED if line not in REFUSED_LATER])
def test_what_criu_refuses_is_refused_with_its_status(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError) as caught:
        parse(line)
    assert lazy_pages.main(shlex.split(line)) == 1
    assert caught.value.usage == ("Usage:" in capsys.readouterr().out)


def test_every_option_reaches_its_place() -> None:
    options = parse(
        "-D img -W work -o lp.log -v4 --page-server --address fe80::1 --port 27000 --ps-socket 5 -d "
        "--pidfile p --status-fd 9 --auto-dedup --tls --tls-key k --tls-cert c --tls-cacert ca "
        "--tls-cacrl crl --tls-no-cn-verify --action-script a --action-script b --prev-images-dir ../prev "
        "--close 7 --stats-fd 8 --no-collapse --workers 3 --max-in-flight 8M -j --tree 5 --external x"
    )
    assert vars(options) == {
        **vars(Options()),
        "images_dir": "img",
        "work_dir": "work",
        "log_file": "lp.log",
        "log_level": 4,
        "page_server": True,
        "address": "fe80::1",
        "port": 27000,
        "ps_socket": 5,
        "daemon": True,
        "pidfile": "p",
        "status_fd": 9,
        "auto_dedup": True,
        "tls": True,
        "tls_key": "k",
        "tls_cert": "c",
        "tls_cacert": "ca",
        "tls_cacrl": "crl",
        "tls_no_cn_verify": True,
        "action_scripts": ["a", "b"],
        "prev_images_dir": "../prev",
        "close_fds": [7],
        "stats_fd": 8,
        "collapse": False,
        "workers": 3,
        "max_in_flight_bytes": 8 << 20,
        "ignored": ["-j", "--tree", "--external"],
    }


def test_zdtm_and_runc_command_line() -> None:
    options = parse(
        "--no-default-config --log-file lazy-pages.log --images-dir DIR --verbosity=4 --status-fd 4 "
        "--page-server --port 12345 --address 127.0.0.1"
    )
    assert (options.images_dir, options.log_file, options.log_level) == ("DIR", "lazy-pages.log", 4)
    assert (options.status_fd, options.page_server) == (4, True)
    assert (options.address, options.port) == ("127.0.0.1", 12345)


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("", 2),
        ("-v", 3),
        ("-vv", 4),
        ("-vvvv", 6),
        ("-v0", 0),
        ("-v4", 4),
        ("-vx", 0),
        ("-v -v", 4),
        ("--verbosity", 3),
        ("--verbosity=1", 1),
        ("-v4 --verb", 5),
    ],
)
def test_verbosity_counts_as_criu_counts(line: str, level: int) -> None:
    assert parse(line).log_level == level


def test_a_value_may_look_like_an_option() -> None:
    assert parse("-o -d").log_file == "-d"
    assert parse("--log-file -").log_file == "-"
    assert parse("-olog").log_file == "log"
    assert parse("-jDdir").images_dir == "dir"


def test_the_last_one_counts() -> None:
    options = parse("--page-server --no-page-server -d --no-daemon --port 1 --port 2 --port 65537")
    assert (options.page_server, options.daemon, options.port) == (False, False, 1)


def test_our_own_options_must_be_written_out() -> None:
    assert parse("--stat 5").status_fd == 5, "--stats-fd must not make criu's abbreviation ambiguous"
    assert parse("--work dir").work_dir == "dir"
    for line in ("--stats 5", "--worker 2", "--max 5", "--no-coll"):
        with pytest.raises(OptionError, match="unrecognized"):
            parse(line)
    assert parse("--reconnect-seconds none").reconnect_seconds == WITHOUT_LIMIT
    assert parse("--reconnect-seconds 0").reconnect_seconds == 0
    wrong = ("--workers 0", "--workers -1", "--workers x", "--max-in-flight 1X", "--stats-fd x")
    for line in (*wrong, "--reconnect-seconds x"):
        with pytest.raises(OptionError):
            parse(line)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--bogus=3", "unrecognized option '--bogus=3'"),
        ("-Z", "invalid option -- 'Z'"),
        ("-D", "option requires an argument -- 'D'"),
        ("--im", "option '--images-dir' requires an argument"),
        ("--tls=1", "option '--tls' doesn't allow an argument"),
        ("--tc", "option '--tc' is ambiguous; possibilities: '--tcp-established' '--tcp-close'"),
        ("--port 0", "invalid argument for --port: 0"),
        ("extra more", "excessive parameters for command lazy-pages"),
    ],
)
def test_the_message_is_criu_s(line: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(line)
    assert str(caught.value) == message


@pytest.mark.parametrize("line", ["-h", "--help", "--bogus -h", "--he", "-D x -jh"])
def test_help_is_no_error(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lazy_pages.main(shlex.split(line)) == 0
    assert "--max-in-flight BYTES" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert lazy_pages.main(["-V", "--bogus"]) == 0
    assert capsys.readouterr().out.startswith("Version: ")


# Lines of a configuration file, as criu 4.1.1 reads them.
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("   ", []),
        ("# log-file a", []),
        ("#log-file a", []),
        ("page-server", ["--page-server"]),
        ("  page-server  # always", ["--page-server"]),
        ("page-server#always", ["--page-server"]),
        ("log-file a", ["--log-file", "a"]),
        ("log-file\ta # b", ["--log-file", "a"]),
        ("log-file a#b", ["--log-file", "a"]),
        ("log-file=a", ["--log-file=a"]),
        ('log-file "a b"', ["--log-file", "a b"]),
        ('log-file "a b" # c', ["--log-file", "a b"]),
        ('log-file "a#b" # c', ["--log-file", "a"]),
        (r'log-file "a\"b\"c"', ["--log-file", 'a"b"c']),
        (r'log-file "a\\b"', ["--log-file", r"a\\b"]),
        ('log-file ""', ["--log-file", ""]),
        ('log-file "ab"cd', ["--log-file", "ab"]),
        ('log-file a"b', ["--log-file", 'a"b']),
        ('"log-file" a', ['--"log-file"', "a"]),
        ("log-file a\r", ["--log-file", "a"]),
    ],
)
def test_a_line_of_a_configuration_file(line: str, words: list[str]) -> None:
    assert line_words(line, "f:1") == words


@pytest.mark.parametrize("line", ['log-file "a', "log-file a -v4", "log-file a --verbosity=4", 'log-file "a" "b"'])
def test_a_wrong_line_is_told_with_its_place(line: str, tmp_path: Path) -> None:
    file = tmp_path / "conf"
    file.write_text(f"page-server\n{line}\n")
    with pytest.raises(OptionError, match=f"{file}:2: "):
        parse(f"--config {file}")


def test_configuration_files_come_in_criu_s_order(tmp_path: Path) -> None:
    user = tmp_path / ".criu"
    user.mkdir()
    (user / "default.conf").write_text("log-file user\npidfile user\naddress user\nwork-dir user\n")
    (tmp_path / "env").write_text("log-file env\npidfile env\naddress env\n")
    (tmp_path / "given").write_text("log-file given\npidfile given\n# nothing\npage-server yes\n")
    environ = {"HOME": str(tmp_path), "CRIU_CONFIG_FILE": str(tmp_path / "env")}

    def look(line: str) -> list[str | None]:
        options = parse(line, **environ)
        return [options.log_file, options.pidfile, options.address, options.work_dir]

    given = f"--config {tmp_path / 'given'}"
    assert look("") == ["env", "env", "env", "user"]
    assert look("--log-file line") == ["line", "env", "env", "user"]
    assert look("--no-default-config") == ["env", "env", "env", None]
    assert look(given) == ["given", "given", "env", None], "--config leaves the default files out"
    assert look(f"{given} -o line") == ["line", "given", "env", None]
    assert look(given.replace("--config ", "--config=")) == ["given", "given", "env", None]
    assert look(given.replace("--config", "--conf")) == ["env", "env", "env", "user"], "criu wants it in full"
    assert parse(given, **environ).page_server, "a flag's value is passed over"


def test_an_unknown_option_of_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "conf"
    file.write_text("bogus\n")
    with pytest.raises(OptionError, match="unrecognized option '--bogus'"):
        parse(f"--config {file}")


def test_a_page_server_needs_an_address_or_a_socket() -> None:
    from criu_lazy_ext.destination import page_client

    with pytest.raises(page_client.PageServerError, match="--address"):
        page_client.check(parse("--page-server --port 1"))
    page_client.check(parse("--page-server --ps-socket 4"))
