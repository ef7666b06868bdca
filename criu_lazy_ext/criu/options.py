"""The command line and configuration files of `criu lazy-pages`, read the way criu reads them.

criu has one option table for all of its actions and parses it with GNU getopt_long; `LONG_OPTIONS` is that
table as CRIU 4.1.1 and 4.2.1 have it, so that every command line criu takes is taken here, abbreviations
included, and one that criu refuses is refused with the same exit status (1). Options which mean nothing for
lazy-pages are checked as far as criu checks them, and noted in `Options.ignored`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from criu_lazy_ext.criu.config import config_files, config_words
from criu_lazy_ext.criu.getopt_long import (
    MAY_HAVE_VALUE,
    NEEDS_VALUE,
    NO_VALUE,
    OptionError,
    Positional,
    Table,
    parse_words,
)
from criu_lazy_ext.native.engine import MAX_PUSH_STREAMS, WITHOUT_LIMIT
from criu_lazy_ext.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


# criu's own, in its order (the order shows in the message for an ambiguous abbreviation).
LONG_OPTIONS: tuple[tuple[str, str], ...] = (
    ("tree", "="), ("leave-stopped", ""), ("leave-running", ""), ("restore-detached", "!"),
    ("restore-sibling", "!"), ("daemon", "!"), ("images-dir", "="), ("work-dir", "="), ("log-file", "="),
    ("join-ns", "="), ("root", "="), ("ext-unix-sk", "?"), ("help", ""), ("tcp-established", "!"),
    ("close", "="), ("log-pid", "!"), ("version", ""), ("evasive-devices", "!"), ("pidfile", "="),
    ("veth-pair", "="), ("action-script", "="), ("link-remap", "!"), ("shell-job", "!"), ("file-locks", "!"),
    ("page-server", "!"), ("address", "="), ("port", "="), ("prev-images-dir", "="), ("ms", ""),
    ("track-mem", "!"), ("auto-dedup", "!"), ("libdir", "="), ("cpu-cap", "?"), ("force-irmap", "!"),
    ("ext-mount-map", "="), ("exec-cmd", ""), ("manage-cgroups", "?"), ("cgroup-root", "="),
    ("inherit-fd", "="), ("feature", "="), ("skip-mnt", "="), ("enable-fs", "="),
    ("enable-external-sharing", ""), ("enable-external-masters", ""), ("freeze-cgroup", "="),
    ("ghost-limit", "="), ("irmap-scan-path", "="), ("lsm-profile", "="), ("timeout", "="), ("external", "="),
    ("empty-ns", "="), ("lazy-pages", ""), ("extra", "!"), ("experimental", "!"), ("all", ""),
    ("cgroup-props", "="), ("cgroup-props-file", "="), ("cgroup-dump-controller", "="),
    ("skip-in-flight", "!"), ("deprecated", "!"), ("display-stats", "!"), ("weak-sysctls", "!"),
    ("status-fd", "="), ("tcp-close", "!"), ("verbosity", "?"), ("ps-socket", "="), ("stream", "!"),
    ("config", "="), ("no-default-config", ""), ("tls-cacert", "="), ("tls-cacrl", "="), ("tls-cert", "="),
    ("tls-key", "="), ("tls", "!"), ("tls-no-cn-verify", ""), ("cgroup-yard", "="), ("pre-dump-mode", "="),
    ("file-validation", "="), ("skip-file-rwx-check", "!"), ("lsm-mount-context", "="), ("network-lock", "="),
    ("mntns-compat-mode", "!"), ("unprivileged", "!"), ("ghost-fiemap", "!"), ("allow-uprobes", "!"),
)  # fmt: skip

# Ours. Never abbreviated: they must not make an abbreviation ambiguous that criu takes.
OWN_OPTIONS: dict[str, str] = {
    "stats-fd": NEEDS_VALUE,
    "no-collapse": NO_VALUE,
    "workers": NEEDS_VALUE,
    "max-in-flight": NEEDS_VALUE,
    "reconnect-seconds": NEEDS_VALUE,
    "push": MAY_HAVE_VALUE,
    "tls-psk": NEEDS_VALUE,
    "resume": NO_VALUE,
    "precopied": NEEDS_VALUE,
}

SHORT_OPTIONS: dict[str, str] = {
    "t": "tree", "s": "leave-stopped", "R": "leave-running", "d": "daemon", "S": "restore-sibling",
    "D": "images-dir", "W": "work-dir", "o": "log-file", "J": "join-ns", "r": "root", "x": "ext-unix-sk",
    "h": "help", "V": "version", "j": "shell-job", "l": "file-locks", "L": "libdir", "M": "ext-mount-map",
    "v": "verbosity",
}  # fmt: skip

DEFAULT_LOG_LEVEL = 2
DEFAULT_PUSH_STREAMS = 2

USAGE = """
Usage:
  criu-lazy lazy-pages -D DIR [<options>]

Try -h|--help for more info"""

HELP = """
Usage:
  criu-lazy lazy-pages -D DIR [<options>]

Serves the page faults of a task restored by 'criu restore --lazy-pages': a drop-in for 'criu lazy-pages'.

  -D|--images-dir DIR   directory of the images (default: the current one)
  -W|--work-dir DIR     directory of the socket, the log file and the pidfile (default: that of the images)
  --page-server         fetch pages from the page server at --address and --port; without it, from the images
  --address ADDR        its IPv4 or IPv6 address, or host name
  --port PORT           its TCP port
  --ps-socket FD        an inherited socket, connected to the page server, in place of address and port
  --auto-dedup          punch pages out of local images once they are in the task
  -d|--daemon           run in the background once the socket listens
  --pidfile FILE        with --daemon: write the daemon's pid to FILE, which must not exist
  --status-fd FD        write \\0 to FD and close it once the socket listens
  --action-script FILE  run FILE then, with CRTOOLS_SCRIPT_ACTION=status-ready
  -o|--log-file FILE    log to FILE (default: stderr; - is stdout)
  -v[v...]|-vNUM|--verbosity[=NUM]
                        1 errors, 2 warnings too (default), 3 information and timestamps too, 4 all
  --tls, --tls-cacert FILE, --tls-cacrl FILE, --tls-cert FILE, --tls-key FILE, --tls-no-cn-verify
                        TLS to the page server
  --config FILE         read this configuration file, and not the default ones
  --no-default-config   don't read /etc/criu/default.conf and $HOME/.criu/default.conf
  -h|--help, -V|--version

criu's other options are accepted, as criu does, and ignored.

criu-lazy's own options:
  --stats-fd FD         write counters to FD, one JSON object a line, 5 a second and at the end
  --workers N           receiving and copying threads (default: by the number of CPUs)
  --max-in-flight BYTES most bytes to have asked of the page server at once; K, M, G may follow the number
  --reconnect-seconds N once the restored task runs: if the page server is lost, connect to it again for N seconds,
                        while the task waits; N may be `none`, without limit, or 0, fail at once; for criu-lazy
                        page-server only (default: none for one that pushes, 0 for others, as criu's)
  --push[=STREAMS]      ask the page server to push, on so many background connections (default: 2, at most 16);
                        one that can't, as criu's, answers requests as without it
  --tls-psk FILE        TLS 1.3 with the page server by the key in FILE (hexadecimal) that criu-lazy page-server has too
  --precopied DIR       with --push: pages that `criu-lazy page-store` left there are taken from there, if the page
                        server says that they are still right; the files go at once
  --resume              go on where a daemon was killed (same -D, -W, page server) once its restored task ran; for
                        criu-lazy page-server, or images that have all pages
  --no-collapse         don't give huge pages back to the task's memory after the last page came"""


class Options:
    """What the command line and the configuration files ask for."""

    def __init__(self) -> None:
        self.show = ""  # "help" or "version": print that and leave
        self.images_dir = "."
        self.work_dir: str | None = None  # None: the images directory
        self.prev_images_dir: str | None = None  # relative to images_dir
        self.log_file: str | None = None  # relative to the work directory; None: stderr; "-": stdout
        self.log_level = DEFAULT_LOG_LEVEL
        self.daemon = False
        self.pidfile: str | None = None  # relative to the work directory
        self.status_fd = -1
        self.action_scripts: list[str] = []
        self.close_fds: list[int] = []
        self.page_server = False
        self.address: str | None = None
        self.port = 0
        self.ps_socket = -1
        self.auto_dedup = False
        self.tls = False
        self.tls_cacert: str | None = None
        self.tls_cacrl: str | None = None
        self.tls_cert: str | None = None
        self.tls_key: str | None = None
        self.tls_no_cn_verify = False
        self.tls_psk: str | None = None  # a file
        self.stats_fd = -1
        self.collapse = True
        self.workers = 0  # 0: by the number of CPUs
        self.max_in_flight_bytes = 0  # 0: the engine's default
        self.reconnect_seconds: int | None = None  # None: as the page server is; see WITHOUT_LIMIT
        self.resume = False
        self.precopied: str | None = None  # a directory
        self.push_streams = 0  # 0: the page server isn't asked to push
        self.ignored: list[str] = []  # given, but without meaning for lazy-pages
        # Only to refuse what criu refuses:
        self.restore_sibling = False
        self.stream = False
        self.exec_cmd = False
        self.mntns_compat_mode = False
        self.inherit_fd = False


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Options of `criu-lazy lazy-pages ARGV`; raises OptionError. Reads the configuration files."""
    options = Options()
    if "--help" in argv or "-h" in argv:  # criu looks for these before it reads any file
        options.show = "help"
        return options
    table = Table(LONG_OPTIONS, SHORT_OPTIONS, OWN_OPTIONS)
    for path in config_files(argv, environ):
        for name, value, shown in parse_words(config_words(path), table):
            if not isinstance(value, Positional):  # criu doesn't look at those of a file
                _apply(options, name, value, shown)
            if options.show:
                return options
    extra = 0
    for name, value, shown in parse_words(argv, table):
        if isinstance(value, Positional):
            extra += 1
            continue
        _apply(options, name, value, shown)
        if options.show:
            return options
    _check_together(options, extra)
    return options


# Options that criu checks although they mean nothing here: (values taken, short usage after the message).
_ENUMERATED: dict[str, tuple[tuple[str, ...], bool]] = {
    "manage-cgroups": (("none", "props", "soft", "full", "strict", "ignore"), True),
    "file-validation": (("filesize", "buildid"), True),
    "network-lock": (("iptables", "nftables", "skip"), False),
    "pre-dump-mode": (("splice", "read"), False),
    "empty-ns": (("net",), False),
}
_NEEDED_IN_VALUE = {"join-ns": ":", "veth-pair": "=", "ext-mount-map": ":"}
_TEXTS = {
    "images-dir", "work-dir", "prev-images-dir", "log-file", "pidfile", "address",
    "tls-cacert", "tls-cacrl", "tls-cert", "tls-key", "tls-psk", "precopied",
}  # fmt: skip
_FLAGS = {
    "daemon", "page-server", "auto-dedup", "tls", "tls-no-cn-verify",
    "restore-sibling", "stream", "exec-cmd", "mntns-compat-mode",
}  # fmt: skip


def _apply(options: Options, name: str, value: str | None, shown: str) -> None:
    """Put one parsed option into `options`; raises OptionError."""
    flag = name.removeprefix("no-")
    text = value or ""
    if name in ("help", "version"):
        options.show = name
    elif name in _TEXTS:
        setattr(options, name.replace("-", "_"), text)
    elif flag in _FLAGS:
        setattr(options, flag.replace("-", "_"), flag == name)
    elif flag == "restore-detached":  # the same switch as --daemon to criu
        options.daemon = flag == name
    elif name == "verbosity":
        options.log_level = _verbosity(options.log_level, value)
    elif name == "port":
        options.port = atoi(text) & 0xFFFF
        if not options.port:
            raise _bad_value(shown, text)
    elif name == "ps-socket":
        options.ps_socket = atoi(text)
    elif name in ("status-fd", "stats-fd"):
        if not _leading_number(text):
            raise OptionError(f"Unable to parse a value of --{name}")
        setattr(options, name.replace("-", "_"), atoi(text))
    elif name == "action-script":
        options.action_scripts.append(text)
    elif name == "close":
        options.close_fds.append(atoi(text))
    elif name == "no-collapse":
        options.collapse = False
    elif name == "resume":
        options.resume = True
    elif name == "workers":
        options.workers = _positive(shown, text)
    elif name == "max-in-flight":
        options.max_in_flight_bytes = _size(shown, text)
    elif name == "push":
        options.push_streams = DEFAULT_PUSH_STREAMS if value is None else _positive(shown, text)
        if options.push_streams > MAX_PUSH_STREAMS:
            raise OptionError(f"invalid argument for {shown}: {text} (at most {MAX_PUSH_STREAMS})")
    elif name == "reconnect-seconds":
        options.reconnect_seconds = _reconnect_seconds(shown, text)
    elif name not in ("config", "no-default-config"):
        _check_ignored(name, value, shown)
        options.inherit_fd |= name == "inherit-fd"
        options.ignored.append(shown)


def _check_ignored(name: str, value: str | None, shown: str) -> None:
    """Refuse the values that criu refuses of an option that means nothing for lazy-pages."""
    text = value or ""
    if name == "tree" and atoi(text) <= 0:
        raise _bad_value(shown, text)
    if name == "ms":
        raise OptionError("--ms is deprecated")
    if name in _ENUMERATED and value is not None:
        allowed, usage = _ENUMERATED[name]
        if text not in allowed:
            message = f"invalid argument for {shown}: {text} (expected one of: {', '.join(allowed)})"
            raise OptionError(message, usage=usage)
    automatic = name == "ext-mount-map" and text == "auto"
    if _NEEDED_IN_VALUE.get(name, "") not in text and not automatic:
        raise _bad_value(shown, text)
    if name == "cpu-cap" and not _is_cpu_cap(text):
        raise OptionError(f"Unknown FPU mode `{text}' selected", usage=True)


def _check_together(options: Options, extra: int) -> None:
    """Refuse combinations that criu refuses for lazy-pages; `extra`: words that belong to no option."""
    if options.restore_sibling and not options.daemon:
        raise OptionError("--restore-sibling only makes sense with --restore-detached")
    if options.mntns_compat_mode:
        raise OptionError("Option --mntns-compat-mode is only valid on restore")
    if options.exec_cmd:
        raise OptionError("--exec-cmd is available for the restore command only", usage=True)
    if extra:
        raise OptionError(f"excessive parameter{'s' if extra > 1 else ''} for command lazy-pages", usage=True)
    if options.stream:
        raise OptionError("--stream cannot be used with the lazy-pages command", usage=True)
    if options.precopied and not options.push_streams:
        raise OptionError("--precopied needs --push")
    if options.inherit_fd:
        raise OptionError("--inherit-fd is restore-only option")


def _reconnect_seconds(shown: str, text: str) -> int:
    if text == "none":
        return WITHOUT_LIMIT
    return 0 if text == "0" else _positive(shown, text)


def _verbosity(level: int, value: str | None) -> int:
    """The log level after one -v, -vvv, -vNUM, --verbosity or --verbosity=NUM."""
    if value is None:
        return level + 1
    return level + len(value) + 1 if value.startswith("v") else atoi(value)


def _is_cpu_cap(text: str) -> bool:
    tokens = text.replace("^", "").replace(",", " ").split()
    return all(token in ("fpu", "all", "none", "cpu", "ins") for token in tokens)


def _leading_number(text: str) -> str:
    """The decimal number `text` starts with, as C's strtol sees it; "" if there is none."""
    text = text.lstrip()
    end = 1 if text[:1] in ("+", "-") else 0
    start = end
    while end < len(text) and text[end] in "0123456789":
        end += 1
    return text[:end] if end > start else ""


def atoi(text: str) -> int:
    """C's atoi, which criu uses for most numbers: 0 for a word that is none."""
    return int(_leading_number(text) or 0)


def _positive(shown: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise OptionError(f"invalid argument for {shown}: {text} (a number above 0 is expected)")
    return int(text)


def _size(shown: str, text: str) -> int:
    """A size in bytes; K, M or G may follow the number."""
    size = parse_size(text)
    if not size:
        raise OptionError(f"invalid argument for {shown}: {text} (a number above 0 is expected)")
    return size


def _bad_value(shown: str, text: str) -> OptionError:
    return OptionError(f"invalid argument for {shown}: {text}")
