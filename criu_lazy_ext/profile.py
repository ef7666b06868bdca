"""The migration profile: YAML to a typed model; every error names file, line, column, key and what was expected.

A new key is a field, with its type and default, of the section's class; docs/migrate.md documents it, and `python -m
criu_lazy_ext.profile_schema` writes it into the schema. A new type also needs a reader in READERS and a line in
profile_schema._TYPES, a new enumeration its words in CHOICES, a new section its class in SECTIONS (and its name in
OPTIONAL_SECTIONS, if it may be missing). Rules between keys are in `parse`. commands/explain.py says what the key does.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, NewType, get_type_hints

import yaml

from criu_lazy_ext.criu.contrary import contrary_in
from criu_lazy_ext.criu.getopt_long import OptionError
from criu_lazy_ext.criu.options import parse as parse_options
from criu_lazy_ext.errors import UsageError
from criu_lazy_ext.sizes import parse_size
from criu_lazy_ext.system.migration_id import VARIABLE

Size = NewType("Size", int)  # bytes; in YAML a number that K, M or G may follow
Rounds = NewType("Rounds", int)  # in YAML a number, or auto, which is None
OTHER_NAMES = {"predump": "precopy"}  # of keys: what users of criu may look for
PHASES = ("before_dump", "after_dump", "before_restore", "after_restore", "after_commit", "after_rollback")


HOW_TO_GET_ONE = "criu-lazy init writes one that fits a task"
MAX_SHOWN = 60  # characters of what was found instead
EXAMPLES = {"destination": "ssh: HOST, or local: true", "run": "a command of the shell's, or a list of words"}


class ProfileError(UsageError):
    """The profile is wrong; nothing was touched."""


@dataclass(frozen=True)
class Task:
    """Which task moves: exactly one of `pid`, `pidfile` and `command`, which prints the pid. `program`: who has to have
    it (/proc/PID/comm), as a pid is used again."""

    pid: int | None = None
    pidfile: Path | None = None
    command: str | None = None
    program: str | None = None


@dataclass(frozen=True)
class Container:
    """Which container moves, in place of a task: `engine` knows it by `name`. `root`: the engine's state directory (its
    --root), if not its own choice. `bundle`: the OCI bundle's directory at the destination, if not as at the source.
    `files`: `sync`, the bundle with its root directory, and `volumes`, go over by rsync, before the freeze and then
    what has changed; or `shared`: they are there already. `namespace`: containerd's. `pod`: podman's, as a part of
    which it moves, all of which `criu-lazy evacuate` moves as one."""

    engine: str
    name: str
    root: Path | None = None
    bundle: Path | None = None
    files: str = "sync"
    volumes: list[Path] = field(default_factory=list)
    namespace: str = "default"
    pod: str | None = None


@dataclass(frozen=True)
class Destination:
    """Where to: `ssh` is a host as in ~/.ssh/config; `local` runs the agent on this machine, after `prefix`.
    `check_memory`: the task is refused if it finds too little memory there."""

    ssh: str | None = None
    local: bool = False
    prefix: list[str] = field(default_factory=list)
    ssh_options: list[str] = field(default_factory=list)
    criu_lazy: str = "criu-lazy"
    check_memory: bool = True


@dataclass(frozen=True)
class Source:
    """Where the source's page server listens: if no `address` is given, at the one that the SSH connection comes from
    (local: 127.0.0.1); port 0: any free one. Preflight makes sure that the destination reaches it. `encrypt`: by TLS,
    with a key made for this migration alone, without which nobody gets a page; if not given: where the daemon can
    (criu's can't). `rate`: pages take at most so many bytes per second; 0: no limit."""

    address: str | None = None
    port: int = 0
    encrypt: bool | None = None
    rate: Size = Size(0)


@dataclass(frozen=True)
class Directories:
    """Images and logs of one migration go to a directory of its own below these."""

    source: Path = Path("/var/lib/criu-lazy")
    destination: Path = Path("/var/lib/criu-lazy")


@dataclass(frozen=True)
class StopWhen:
    """Either is enough: a round that sent at most `remaining` bytes, or as much as takes `seconds` at the best rate
    that was measured."""

    remaining: Size = Size(16 << 20)
    seconds: float | None = None


@dataclass(frozen=True)
class Precopy:
    """Pre-copy: rounds in which the running task's memory is sent before it is frozen: as many `rounds` as pay, if no
    number is given. `max_seconds`: no round goes on for longer. `bandwidth`: bytes per second, 0: source.rate.
    `directory`: below it the destination keeps the pages until they are needed, if not with the images."""

    rounds: Rounds | None = None
    stop_when: StopWhen = field(default_factory=StopWhen)
    max_seconds: float = 300.0
    bandwidth: Size = Size(0)
    directory: Path | None = None


@dataclass(frozen=True)
class Criu:
    """What CRIU is told, on both ends; the lists are passed on as they stand. If not given, `tcp_established` is on if
    the task has TCP connections when it is dumped, and `network_lock` is nftables then, criu's own choice else."""

    tcp_established: bool | None = None
    shell_job: bool = False
    file_locks: bool = False
    ext_unix_sk: bool = False
    link_remap: bool = False
    network_lock: str | None = None
    manage_cgroups: str | None = None
    dump_options: list[str] = field(default_factory=list)
    restore_options: list[str] = field(default_factory=list)

    def options(self) -> list[str]:
        """The options that dump and restore share."""
        flags = ("tcp_established", "shell_job", "file_locks", "ext_unix_sk", "link_remap")
        options = ["--" + flag.replace("_", "-") for flag in flags if getattr(self, flag)]
        if self.network_lock:
            options += ["--network-lock", self.network_lock]
        if self.manage_cgroups:
            options.append(f"--manage-cgroups={self.manage_cgroups}")
        return options


@dataclass(frozen=True)
class MovedAddress:
    """An IP address of the device `device` at the source, which goes to the device `there` at the destination."""

    address: str
    prefix: int
    device: str
    there: str

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix} dev {self.device}"


@dataclass(frozen=True)
class Network:
    """What moves of the network: service addresses, each as "10.0.0.5/24 dev eth0" or, where the destination's device
    has another name, "10.0.0.5/24 dev eth0 -> eth1"."""

    addresses: list[MovedAddress]


@dataclass(frozen=True)
class Hook:
    """A command run in a phase, on the source or the destination: a text for /bin/sh -c, or a program and its
    arguments. `timeout` in seconds."""

    run: str | list[str]
    on: str = "source"
    timeout: float = 30.0


def hook_environment(phase: str, pid: int, destination: str, migration: str) -> dict[str, str]:
    """What a hook is told. `migration`: its id."""
    told = {"CRIU_LAZY_PHASE": phase, "CRIU_LAZY_PID": str(pid), "CRIU_LAZY_DESTINATION": destination}
    return told | {VARIABLE: migration}


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `dump`, `restore`: until it is ready, else roll back. `stall`: without a page, then a warning.
    `silence`: a host that says nothing for so long is lost. `reconnect`: so long the daemon connects to a lost page
    server again, while the restored task waits for its pages; 0: without limit."""

    dump: float = 120.0
    restore: float = 120.0
    stall: float = 60.0
    silence: float = 9.0
    reconnect: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One migration, of either a task or a container. `downtime_limit`: seconds; a task that could not be resumed at
    the destination within them is rolled back. `deadline`: seconds from the start of migrate until the freeze; then, by
    `at_deadline`, the rounds are cut short (`lazy`), or the task stays (`give-up`)."""

    task: Task | None = None
    destination: Destination
    container: Container | None = None
    source: Source = field(default_factory=Source)
    directories: Directories = field(default_factory=Directories)
    criu: Criu = field(default_factory=Criu)
    network: Network | None = None
    daemon: str = "criu-lazy"
    daemon_options: list[str] = field(default_factory=list)
    page_source: str = "criu-lazy"
    strategy: str = "auto"
    downtime_limit: float | None = None
    deadline: float | None = None
    at_deadline: str = "lazy"
    precopy: Precopy | None = None
    hooks: Mapping[str, list[Hook]] = field(default_factory=dict)
    timeouts: Timeouts = field(default_factory=Timeouts)
    keep_files: bool = False
    accept: list[str] = field(default_factory=list)  # checks of the preflight: their failures only warn

    def encrypts(self) -> bool:
        """Whether pages go encrypted."""
        return self.daemon == "criu-lazy" and self.source.encrypt is not False

    def pushes(self) -> bool:
        """Whether our page server pushes to our daemon."""
        return self.page_source == "criu-lazy" and self.daemon == "criu-lazy"

    def for_connections(self, has_some: bool, nftables: bool) -> Profile:
        """This profile, for a task that has TCP connections or not; `nftables`: they can be locked by that."""
        criu = self.criu
        by_looking = has_some and "--tcp-close" not in criu.dump_options
        established = by_looking if criu.tcp_established is None else criu.tcp_established
        # Of a network namespace that goes along, criu locks all.
        lock = criu.network_lock or ("nftables" if nftables and (established or self.container) else None)
        return replace(self, criu=replace(criu, tcp_established=established, network_lock=lock))

    def rounds(self) -> Precopy | None:
        """What pre-copy is to keep to; None: the migration is purely lazy."""
        wanted = self.strategy == "hybrid" or (self.strategy == "auto" and self.pushes())
        return self.precopy or (Precopy() if wanted else None)

    def chooses(self) -> bool:
        """Whether pre-copy is left out where it does not pay."""
        return self.strategy == "auto" and self.precopy is None


PUSH_ONLY = "needs daemon: criu-lazy and page_source: criu-lazy"
NO_ENGINE = "it keeps its own record of a container, which would be wrong at both ends"
CHOICES = {
    "daemon": ("criu-lazy", "stock"),
    "page_source": ("criu-lazy", "stock"),
    "strategy": ("auto", "lazy", "hybrid"),
    "at_deadline": ("lazy", "give-up"),
    "criu.network_lock": ("iptables", "nftables", "skip"),
    "container.engine": ("runc", "crun", "podman", "containerd"),
    "container.files": ("sync", "shared"),
    "on": ("source", "destination"),
}
OPTIONS_FOR = {"criu.dump_options": "dump", "criu.restore_options": "restore", "daemon_options": "lazy-pages"}
SECTIONS = (
    Task, Container, Destination, Source, Directories, StopWhen, Precopy, Criu, Network, Hook, Timeouts, Profile
)  # fmt: skip
OPTIONAL_SECTIONS: dict[Any, type[Any]] = {section | None: section for section in (Task, Container, Precopy, Network)}
ADDRESS_EXAMPLE = "10.0.0.5/24 dev eth0"
MOVED_ADDRESS = re.compile(r"(\S+/\d+) dev (\S{1,15})(?: -> (\S{1,15}))?")


class Reader:
    """Reads a YAML node as a model of dataclasses. `name`: of the file, for messages."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fail(self, node: yaml.Node, key: str, text: str) -> ProfileError:
        mark = node.start_mark
        return ProfileError(f"{self.name}:{mark.line + 1}:{mark.column + 1}: {key}: {text}")

    def section(self, node: yaml.Node, key: str, model: type[Any]) -> Any:
        """A mapping as `model`: unknown, repeated and missing keys are refused."""
        known = {item.name: item for item in fields(model)}
        values: dict[str, Any] = {}
        hints = get_type_hints(model)
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, key or "profile", f"expected a mapping with {', '.join(known)}, found {found(node)}")
        for key_node, value_node in node.value:
            path = f"{key}.{key_node.value}" if key else str(key_node.value)
            name = OTHER_NAMES.get(path, str(key_node.value))
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
                raise self.fail(key_node, path, f"unknown key{hint}")
            if name in values:
                raise self.fail(key_node, path, "given twice")
            values[name] = self.value(value_node, path, hints[name])
        for name, item in known.items():
            if name not in values and item.default is MISSING and item.default_factory is MISSING:
                example = EXAMPLES.get(name)
                text = f"missing: {example}" if example else "missing"
                raise self.fail(node, f"{key}.{name}" if key else name, text)
        return model(**values)

    def value(self, node: yaml.Node, key: str, hint: Any) -> Any:
        if hint in SECTIONS:
            return self.section(node, key, hint)
        if hint in OPTIONAL_SECTIONS:
            return self.section(node, key, OPTIONAL_SECTIONS[hint])
        if key == "hooks":
            return self.hooks(node)
        result = READERS[hint](self, node, key)
        if key in OPTIONS_FOR and (contrary := contrary_in(result, OPTIONS_FOR[key])):
            raise self.fail(node.value[contrary[0]], f"{key}[{contrary[0]}]", contrary[1])
        choices = CHOICES.get(key) or (CHOICES["on"] if key.endswith(".on") else None)
        if choices and result not in choices:
            hint = f": {NO_ENGINE}" if key == "container.engine" and result == "docker" else ""
            raise self.fail(node, key, f"expected {' or '.join(choices)}, found {result!r}{hint}")
        return result

    def hooks(self, node: yaml.Node) -> dict[str, list[Hook]]:
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, "hooks", f"expected a mapping with {', '.join(PHASES)}, found {found(node)}")
        hooks: dict[str, list[Hook]] = {}
        for key_node, value_node in node.value:
            phase = str(key_node.value)
            if phase not in PHASES:
                near = difflib.get_close_matches(phase, PHASES, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(PHASES)}"
                raise self.fail(key_node, f"hooks.{phase}", f"unknown phase; {hint}")
            if phase in hooks:
                raise self.fail(key_node, f"hooks.{phase}", "given twice")
            if not isinstance(value_node, yaml.SequenceNode):
                text = f"expected a list of hooks (run, on, timeout), found {found(value_node)}"
                raise self.fail(value_node, f"hooks.{phase}", text)
            hooks[phase] = [self.section(item, f"hooks.{phase}[{i}]", Hook) for i, item in enumerate(value_node.value)]
        return hooks

    def scalar(self, node: yaml.Node, key: str, tag: str, expected: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise self.fail(node, key, f"expected {expected}, found {found(node)}")
        if node.tag != f"tag:yaml.org,2002:{tag}":
            hint = "; write it in quotes" if tag == "str" and node.value else ""
            raise self.fail(node, key, f"expected {expected}, found {found(node)}{hint}")
        return yaml.SafeLoader("").construct_object(node)

    def text(self, node: yaml.Node, key: str) -> str:
        value = str(self.scalar(node, key, "str", "text"))
        if not value:
            raise self.fail(node, key, "expected text, found nothing")
        return value

    def integer(self, node: yaml.Node, key: str) -> int:
        value = int(self.scalar(node, key, "int", "a whole number"))
        low, high = (1, 2**22) if key.endswith("pid") else (0, 65535)
        if not low <= value <= high:
            raise self.fail(node, key, f"expected a number from {low} to {high}, found {value}")
        return value

    def number(self, node: yaml.Node, key: str) -> float:
        is_float = isinstance(node, yaml.ScalarNode) and node.tag.endswith(":float")
        value = float(self.scalar(node, key, "float" if is_float else "int", "a number of seconds"))
        no_limit = key == "timeouts.reconnect" and value == 0
        if not no_limit and not 0 < value < 1e7:
            raise self.fail(node, key, f"expected a number of seconds above 0, found {value:g}")
        return value

    def size(self, node: yaml.Node, key: str) -> Size:
        is_number = isinstance(node, yaml.ScalarNode) and node.tag.split(":")[-1] in ("int", "str")
        value = parse_size(node.value) if is_number else None
        if value is None or value >= 1 << 62:
            raise self.fail(node, key, f"expected a number of bytes (K, M, G may follow), found {found(node)}")
        return Size(value)

    def rounds(self, node: yaml.Node, key: str) -> Rounds | None:
        if isinstance(node, yaml.ScalarNode) and node.value == "auto":
            return None
        is_number = isinstance(node, yaml.ScalarNode) and node.tag.endswith(":int")
        value = int(self.scalar(node, key, "int", "a number of rounds")) if is_number else 0
        if not 1 <= value <= 1000:
            raise self.fail(node, key, f"expected auto, or a number from 1 to 1000, found {found(node)}")
        return Rounds(value)

    def path(self, node: yaml.Node, key: str) -> Path:
        value = Path(self.text(node, key))
        if not value.is_absolute():
            raise self.fail(node, key, f"expected an absolute path, found {str(value)!r}")
        return value

    def paths(self, node: yaml.Node, key: str) -> list[Path]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.fail(node, key, f"expected a list of absolute paths, found {found(node)}")
        return [self.path(item, f"{key}[{i}]") for i, item in enumerate(node.value)]

    def texts(self, node: yaml.Node, key: str) -> list[str]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.fail(node, key, f"expected a list of texts, found {found(node)}")
        return [self.text(item, f"{key}[{i}]") for i, item in enumerate(node.value)]

    def moved_addresses(self, node: yaml.Node, key: str) -> list[MovedAddress]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            what = "an empty list" if isinstance(node, yaml.SequenceNode) else found(node)
            raise self.fail(node, key, f"expected a list of addresses, each as {ADDRESS_EXAMPLE}, found {what}")
        return [self.moved_address(item, f"{key}[{i}]") for i, item in enumerate(node.value)]

    def moved_address(self, node: yaml.Node, key: str) -> MovedAddress:
        text = self.text(node, key)
        if match := MOVED_ADDRESS.fullmatch(text):
            with contextlib.suppress(ValueError):
                found = ip_interface(match[1])
                return MovedAddress(str(found.ip), found.network.prefixlen, match[2], match[3] or match[2])
        raise self.fail(node, key, f"expected an address as {ADDRESS_EXAMPLE}, found {text!r}")

    def command(self, node: yaml.Node, key: str) -> str | list[str]:
        if not isinstance(node, yaml.SequenceNode):
            return self.text(node, key)
        if not node.value:
            raise self.fail(node, key, "expected a command, found an empty list")
        return self.texts(node, key)


def found(node: yaml.Node) -> str:
    """What stands there, in words."""
    if isinstance(node, yaml.ScalarNode):
        return repr(textwrap.shorten(node.value, MAX_SHOWN)) if node.value else "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


READERS: dict[Any, Callable[[Reader, yaml.Node, str], Any]] = {
    str: Reader.text,
    str | None: Reader.text,
    int: Reader.integer,
    int | None: Reader.integer,
    float: Reader.number,
    bool: lambda reader, node, key: reader.scalar(node, key, "bool", "true or false"),
    bool | None: lambda reader, node, key: reader.scalar(node, key, "bool", "true or false"),
    float | None: Reader.number,
    Size: Reader.size,
    Rounds | None: Reader.rounds,
    Path: Reader.path,
    Path | None: Reader.path,
    list[str]: Reader.texts,
    list[Path]: Reader.paths,
    list[MovedAddress]: Reader.moved_addresses,
    str | list[str]: Reader.command,
}


def parse(text: str, name: str) -> Profile:
    """The profile in `text`; `name` is its file in messages. Raises ProfileError."""
    node = compose(text, name)
    if node is None:
        raise ProfileError(f"{name}:1:1: the profile is empty; {HOW_TO_GET_ONE}")
    return profile_in(node, name)


def compose(text: str, name: str) -> yaml.Node | None:
    """The node of a document; None: it is empty. Raises ProfileError if it is not YAML."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ProfileError(f"{where}: not YAML: {reason}") from error


def profile_in(node: yaml.Node, name: str) -> Profile:
    """The profile in a node of the file `name`. Raises ProfileError."""
    reader = Reader(name)
    profile: Profile = reader.section(node, "", Profile)
    sections = {OTHER_NAMES.get(str(key.value), str(key.value)): value for key, value in node.value}
    check_moved(reader, node, sections, profile)
    if profile.destination.local == (profile.destination.ssh is not None):
        raise reader.fail(sections["destination"], "destination", "expected either ssh: HOST or local: true")
    if profile.destination.prefix and not profile.destination.local:
        raise reader.fail(sections["destination"], "destination.prefix", "goes with local: true only")
    if profile.source.encrypt and not profile.encrypts():
        text = "criu's own daemon can't speak TLS with a key: use daemon: criu-lazy, or encrypt: false"
        raise reader.fail(sections["source"], "source.encrypt", text)
    if profile.daemon == "criu-lazy":
        try:
            parse_options([*profile.daemon_options, "--version", "--no-default-config"], {})
        except OptionError as error:
            problem = str(error).splitlines()[0]
            raise reader.fail(sections.get("daemon_options", node), "daemon_options", problem) from error
    if profile.source.rate and not profile.pushes():
        raise reader.fail(sections["source"], "source.rate", PUSH_ONLY)
    if profile.precopy is not None and not profile.pushes():
        raise reader.fail(sections["precopy"], "precopy", PUSH_ONLY)
    if profile.strategy == "hybrid" and not profile.pushes():
        raise reader.fail(sections["strategy"], "strategy", PUSH_ONLY)
    if profile.strategy == "lazy" and profile.precopy is not None:
        raise reader.fail(sections["precopy"], "precopy", "goes with strategy: hybrid or auto; lazy has no pre-copy")
    if "at_deadline" in sections and profile.deadline is None:
        raise reader.fail(sections["at_deadline"], "at_deadline", "goes with a deadline, in seconds")
    for name, item in zip(profile.accept, sections["accept"].value if profile.accept else [], strict=True):
        if name not in check_names():
            near = difflib.get_close_matches(name, check_names(), 1)
            hint = f"did you mean {near[0]!r}?" if near else "criu-lazy check tells their names"
            raise reader.fail(item, "accept", f"no check is called {name!r}; {hint}")
    return profile


def check_names() -> list[str]:
    """What `accept` may name."""
    from criu_lazy_ext.checks.catalogue import NAMES  # not above: the checks look at profiles

    return NAMES


def check_moved(reader: Reader, node: yaml.Node, sections: Mapping[str, yaml.Node], profile: Profile) -> None:
    """What moves is one task, or one container. Raises ProfileError."""
    task, container = profile.task, profile.container
    if task is None and container is None:
        raise reader.fail(node, "task", "missing: pid, pidfile or command (or container)")
    if task is not None and container is not None:
        raise reader.fail(sections["container"], "container", "there is a task, too: leave one of them out")
    if task is not None and sum(item is not None for item in (task.pid, task.pidfile, task.command)) != 1:
        raise reader.fail(sections["task"], "task", "expected exactly one of pid, pidfile, command")
    if container is not None and container.files == "sync" and profile.destination.ssh is None:
        text = "files go over by rsync and ssh: with destination.local say files: shared"
        raise reader.fail(sections["container"], "container.files", text)


def load(path: Path) -> Profile:
    """The profile in the file `path`. Raises ProfileError."""
    return parse(read(path, HOW_TO_GET_ONE), str(path))


def read(path: Path, how_to_get_one: str) -> str:
    """The text of a file that an operator writes. Raises ProfileError."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: not YAML: no text in UTF-8; {how_to_get_one}") from error
    except OSError as error:
        way_out = f"; {how_to_get_one}" if isinstance(error, FileNotFoundError) else ""
        raise ProfileError(f"{path}: {error.strerror}{way_out}") from error
