"""A machine of its own for tests: Debian's cloud kernel under QEMU, with the testbed's roots and this checkout in it.

For what this machine's kernel can't do: Debian's tracks which pages were written (soft-dirty). Emulated (TCG), so that
it runs wherever tests do: a program takes about ten times as long as here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from paths import CHECKOUT

from testbed import prepare
from testbed.recipe import Recipe, machine_recipe

HERE = Path(__file__).parent / "vm"
CHECKOUT_INSIDE = "/disks/b/checkout"
INSIDE = "CRIU_LAZY_TEST_TRACKED"  # in the environment of tests that run in there
TRACKED = INSIDE in os.environ  # this kernel must track what is written
KERNEL = "linux-image-cloud-amd64"
# What a migration between two hosts of a testbed needs; what they depend on is found.
MODULES = (
    *("virtio_blk", "overlay", "tun", "veth", "bridge", "sch_tbf", "nf_tables", "nft_ct", "nft_chain_nat"),
    *("inet_diag", "tcp_diag", "udp_diag", "raw_diag", "unix_diag", "netlink_diag", "af_packet_diag"),
)
MEMORY_MIB = 3072
KEPT = 2  # of what machines boot from, those used last: another checkout may have its own
BOOT_SECONDS = 150  # on a busy machine
BOOTS = 3  # an emulated CPU is not quite one: now and then Debian's kernel doesn't get up
GRACE_SECONDS = 20  # for a command to be killed, and its output to come
# cmpxchg16b of an emulated CPU is not atomic enough for Debian's kernel: it has been seen to panic.
QEMU = ("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-cx16", "-smp", "2")
BARE = ("-nodefaults", "-no-reboot", "-display", "none")
COMMAND_LINE = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable"


class Machine:
    """A running machine; see `machine`."""

    def __init__(self, channel: socket.socket, console: Path) -> None:
        self._channel = channel
        self._lines = channel.makefile("rb")
        self._console = console
        self.mirror = machine_recipe().mirror  # what a testbed is made of has it in its name

    def run(self, argv: Sequence[str], seconds: float = 120) -> str:
        """Run a command as root, which must succeed, and in that time; its stdout and stderr, as one."""
        self._channel.sendall(json.dumps([list(argv), seconds]).encode() + b"\n")
        status, output = json.loads(self._read(seconds + GRACE_SECONDS))
        assert status == 0, f"{argv} (in the machine): status {status}\n{output[-8000:]}"
        return str(output)

    def await_ready(self) -> None:
        """Until its Debian runs."""
        assert self._read(BOOT_SECONDS) == b"ready\n"

    def give_testbed(self, layers: prepare.Layers) -> None:
        """Let a testbed inside find what it is made of."""
        script = """
            mkdir -p "$1" && cd "$1"
            ln -s /disks/a/base /disks/a/testing .
            cp -a /disks/b/package "$2" && cp -a /disks/b/tools "$3" && mkdir "$4"
            cp /disks/b/checkout/programs/memtask "$2/usr/local/bin"
        """
        engine = f"engine-{prepare.Sources.of_checkout().engine_digest()}"
        names = [layers.recipe_directory, layers.package.name, layers.tools.name, engine]
        self.run(["sh", "-ec", script, "sh", *map(str, names)])

    def _read(self, seconds: float) -> bytes:
        self._channel.settimeout(seconds)
        line, why = b"", "ended"
        try:
            line = self._lines.readline()
        except TimeoutError:
            why = "hangs"
        assert line, f"the machine {why}:\n{self._console.read_text(errors='replace')[-3000:]}"
        return line


@contextlib.contextmanager
def machine(programs: dict[str, Path]) -> Iterator[Machine]:
    """Boot one. In it: this checkout at CHECKOUT_INSIDE, and `programs` by their names in CHECKOUT_INSIDE/programs.

    Raises TestbedError where what it takes can't be had.
    """
    with prepare.locked(prepare.CACHE / "lock"):  # apt has one user at a time
        prepare.ensure_tool("qemu-system-x86_64", ["qemu-system-x86"])
        prepare.ensure_tool("mkfs.ext4", ["e2fsprogs"])
    layers = prepare.prepare()
    made_by = hashlib.sha256(Path(__file__).read_bytes() + (HERE / "vm_init.c").read_bytes()).hexdigest()[:12]
    boot = layers.recipe_directory / f"vm-{made_by}"
    with prepare.locked(prepare.CACHE / "lock"):
        prepare.make(boot, lambda target: make_boot(machine_recipe(), layers, target))
        os.utime(boot)
        by_use = sorted(layers.recipe_directory.glob("vm-*"), key=lambda made: made.stat().st_mtime)
        for unused in by_use[:-KEPT]:
            shutil.rmtree(unused)
    with tempfile.TemporaryDirectory(prefix="criu-lazy-vm-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        make_tested(layers, programs, directory)
        for boots in range(1, BOOTS + 1):
            try:
                started = stack.enter_context(booted(boot, directory))
                break
            except AssertionError:
                if boots == BOOTS:
                    raise
        started.give_testbed(layers)
        yield started


@contextlib.contextmanager
def booted(boot: Path, directory: Path) -> Iterator[Machine]:
    """A machine with the disks of make_boot, and of make_tested in `directory`; its console goes to a file there."""
    with contextlib.ExitStack() as stack:
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        line = f"{COMMAND_LINE} LAYERS=b/package:a/testing:a/base START={CHECKOUT_INSIDE}/tests/support/vm/vm_agent.py"
        command = [*QEMU, *BARE, "-m", str(MEMORY_MIB), "-serial", f"file:{directory}/console"]
        command += ["-kernel", str(boot / "kernel"), "-initrd", str(boot / "initramfs"), "-append", line]
        for image in (boot / "roots.ext4", directory / "tested.ext4"):
            command += ["-drive", f"file={image},if=virtio,format=raw,readonly=on"]
        command += ["-chardev", f"socket,id=commands,fd={theirs.fileno()}", "-device", "virtio-serial-pci"]
        command += ["-device", "virtserialport,chardev=commands"]
        with theirs:
            qemu = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        stack.callback(qemu.wait)
        stack.callback(qemu.kill)
        started = Machine(ours, directory / "console")
        started.await_ready()
        yield started


# --- what it is made of -----------------------------------------------------------------------------------------


def make_boot(recipe: Recipe, layers: prepare.Layers, target: Path) -> None:
    """A kernel, an initramfs and a disk with the testbed's Debian roots; kept like the testbed's other layers."""
    prepare.say("preparing a machine of its own for tests (once; half a minute)")
    upper = target.with_name("vm-kernel")
    script = f"""
        apt-get -qq -o Acquire::Check-Valid-Until=false update
        image=$(apt-cache depends {KERNEL} | sed -n 's/.*Depends: \\(linux-image-[0-9].*\\)/\\1/p' | head -n 1)
        mkdir /build && cd /tmp && apt-get -qq download "$image" && dpkg-deb -x linux-image-*.deb /build
    """
    resolver = {"etc/resolv.conf": prepare.read_or_empty("/etc/resolv.conf")}
    failure = f"can't download {KERNEL} from {recipe.mirror}; see `apt-get update` and the network"
    prepare.build_over([layers.recipe_directory / "base"], upper, script, failure, files=resolver)
    target.mkdir()
    [kernel] = (upper / "build/boot").glob("vmlinuz-*")
    shutil.copyfile(kernel, target / "kernel")
    init = target.with_name("vm_init")
    subprocess.run(["gcc", *prepare.TOOL_FLAGS, "-o", init, HERE / "vm_init.c"], check=True)
    files = {"init": init.read_bytes()}
    for i, (name, contents) in enumerate(load_order(upper / "build/usr/lib/modules").items()):
        files[f"modules/{i:03}-{name}"] = contents
    (target / "initramfs").write_bytes(cpio(files))
    make_disk(target / "roots.ext4", {name: layers.recipe_directory / name for name in ("base", "testing")})


def load_order(modules: Path) -> dict[str, bytes]:
    """MODULES and what they need, uncompressed, by name; none before what it needs."""
    files = {path.name.partition(".")[0].replace("-", "_"): path for path in modules.glob("**/*.ko*")}
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in ordered or name not in files:  # else it is built into the kernel
            return
        contents = files[name].read_bytes()
        if files[name].suffix == ".xz":
            contents = lzma.decompress(contents)
        needed = re.search(rb"\0depends=([^\0]*)\0", contents)
        for other in needed[1].decode().split(",") if needed else ():
            add(other)
        ordered[name] = contents

    for name in MODULES:
        add(name)
    return ordered


def cpio(files: dict[str, bytes]) -> bytes:
    """An initramfs (newc) with these executable files, their directories, and a console."""
    parts = []

    def entry(name: str, mode: int, contents: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        fields = (len(parts) + 1, mode, 0, 0, 1, 0, len(contents), 0, 0, *device, len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        parts.append(header + bytes(-len(header) % 4) + contents + bytes(-len(contents) % 4))

    for directory in sorted({str(Path(name).parent) for name in files} - {"."} | {"dev"}):
        entry(directory, 0o040755)
    entry("dev/console", 0o020600, device=(5, 1))
    for name, contents in files.items():
        entry(name, 0o100755, contents)
    entry("TRAILER!!!", 0)
    return b"".join(parts)


def make_disk(image: Path, directories: dict[str, Path]) -> None:
    """An ext4 image, as large as it must be, with these directories in it."""
    script = """
        stage=$1 image=$2; shift 2
        mount -t tmpfs stage "$stage"
        while test $# -gt 0; do mkdir "$stage/$1"; mount --bind "$2" "$stage/$1"; shift 2; done
        size=$(du -sm --apparent-size "$stage" | cut -f 1)
        files=$(find "$stage" | wc -l)
        truncate -s "$((size + size / 4 + files / 200 + 16))M" "$image"
        mkfs.ext4 -q -F -m 0 -O ^has_journal -N "$((files + 1000))" -d "$stage" "$image"
    """
    stage = image.with_suffix(".stage")
    stage.mkdir()
    given = [str(part) for pair in directories.items() for part in pair]
    command = ["sh", "-ec", script, "sh", str(stage), str(image), *given]
    prepare.run_contained(command, f"can't make the disk {image.name}")
    stage.rmdir()


def make_tested(layers: prepare.Layers, programs: dict[str, Path], directory: Path) -> None:
    """The disk with what changes: our package, this checkout and the programs."""
    files = dict(prepare.Sources.of_checkout().files)
    for path in CHECKOUT.glob("tests/**/*"):
        if path.is_file() and path.suffix in (".py", ".c", ".h"):
            files[str(path.relative_to(CHECKOUT))] = path.read_bytes()
    # Compiled here, where it takes no time; an error in a file is the test's to find.
    script = f"""
        cd {CHECKOUT_INSIDE} && mkdir programs
        cc -std=c11 -O2 -o programs/memtask bench/memtask.c -pthread -lm
        python3 -m compileall -q --invalidation-mode unchecked-hash . || true
    """
    compiled = directory / "compiled"
    inside = {f"{CHECKOUT_INSIDE[1:]}/{name}": contents for name, contents in files.items()}
    base = layers.recipe_directory / "base"
    prepare.build_over([base], compiled, script, "can't compile what is tested", files=inside)
    checkout = compiled / CHECKOUT_INSIDE[1:]
    [engine] = layers.package.glob("usr/local/lib/python3*/dist-packages/criu_lazy_ext/_engine*.so")
    shutil.copy(engine, checkout / "criu_lazy_ext")
    for name, program in programs.items():
        shutil.copy(program, checkout / "programs" / name)
    parts = {"checkout": checkout, "package": layers.package, "tools": layers.tools}
    make_disk(directory / "tested.ext4", parts)
