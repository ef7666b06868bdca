"""Makes what hosts are stacked from: Debian roots, the testbed's own tools, and our package.

Layers are directories below CACHE/<recipe>/, made in a temporary directory and renamed, under one lock: what has
its name is whole. A host's root is an overlay over, top first: our package, Debian testing's criu (4.2 only), the
Debian stable root.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import TestbedError
from testbed.recipe import (
    CRIU_PACKAGES,
    CRIU_SERIES,
    NOT_INSTALLED,
    SUITE,
    Recipe,
    machine_recipe,
)

CACHE = Path("/var/cache/criu-lazy/testbed")
KEPT_PACKAGE_LAYERS = 8
TOOLS = ("host_init", "delaylink")
TOOL_FLAGS = ("-std=c11", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-static")

# name -> (service address, migration address); the addresses are the hosts' in every testbed.
HOSTS_FILE = """127.0.0.1 localhost
::1 localhost
10.77.0.1 src
10.77.0.2 dst
10.78.0.1 src-service
10.78.0.2 dst-service
10.78.0.3 client
10.78.0.100 service
fd77::1 src6
fd77::2 dst6
"""
SSHD_CONFIG = """UsePAM no
StrictModes no
UseDNS no
PermitRootLogin prohibit-password
PasswordAuthentication no
MaxStartups 200
MaxSessions 200
"""
SSH_CONFIG = """Host *
    BatchMode yes
    User root
    ConnectTimeout 10
"""
# Run as root in a chroot while a root is made: no service may start there.
POLICY_NO_SERVICES = "#!/bin/sh\nexit 101\n"


@dataclass(frozen=True)
class Layers:
    """What a testbed is made of: `root` gives the overlay's lower directories (top first) for a criu series."""

    recipe_directory: Path
    package: Path
    tools: Path

    def lower_directories(self, series: str) -> list[Path]:
        """`series`: a key of recipe.CRIU_SERIES."""
        criu = [] if CRIU_SERIES[series] == SUITE else [self.recipe_directory / "testing"]
        return [self.package, *criu, self.recipe_directory / "base"]


def say(text: str) -> None:
    """One line of progress on stderr."""
    print(f"criu-lazy testbed: {text}", file=sys.stderr, flush=True)


def prepare(in_use: Callable[[], frozenset[Path]] | None = None) -> Layers:
    """Make whatever layer is missing (minutes from nothing, a fraction of a second if nothing changed).

    `in_use`: tells the package layers that running testbeds stand on, once the others may go, which may be minutes
    later; None: none is removed. Raises TestbedError.
    """
    sources = Sources.of_checkout()
    recipe = machine_recipe()
    directory = CACHE / recipe.digest()
    base, testing = directory / "base", directory / "testing"
    tools = directory / f"tools-{tools_digest()}"
    engine = directory / f"engine-{sources.engine_digest()}"
    package = directory / f"package-{sources.digest()}"
    layers = Layers(recipe_directory=directory, package=package, tools=tools)
    if all(layer.exists() for layer in (base, testing, tools, engine, package)):
        # Not under the lock: somebody may hold it for minutes, to build another checkout's. What was used last is kept.
        os.utime(engine)
        os.utime(package)
        return layers
    directory.mkdir(parents=True, exist_ok=True)
    CACHE.chmod(0o700)  # the roots hold the hosts' SSH keys
    with locked(CACHE / "lock"):
        remove_unfinished(directory)
        make(base, lambda target: make_base(recipe, target))
        make(testing, lambda target: make_testing(recipe, base, target))
        make(tools, lambda target: make_tools(base, target))
        make(engine, lambda target: install_package(base, sources, target))
        make(package, lambda target: refresh_python(base, engine, sources, target))
        os.utime(engine)
        os.utime(package)
        if in_use is not None:
            forget_old_layers(directory, in_use() | {package, engine})
    return layers


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`; it goes with the process, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make(layer: Path, build: Callable[[Path], None]) -> None:
    """Let `build` fill a temporary directory and rename it to `layer`, unless that exists."""
    if layer.exists():
        return
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=layer.parent))
    try:
        target = building / "layer"
        build(target)
        # Once for all: dpkg asks for it with each file, which build_over's volatile overlay passes over.
        subprocess.run(["sync", "--file-system", target], check=True)
        target.rename(layer)
    finally:
        shutil.rmtree(building)


def remove_unfinished(directory: Path) -> None:
    """Remove what killed preparations left; only under the lock, else it may be somebody's who lives."""
    for unfinished in directory.glob(".building-*"):
        shutil.rmtree(unfinished)


def forget_old_layers(directory: Path, in_use: frozenset[Path] | set[Path]) -> None:
    """Remove all but the last used package and engine layers."""
    for kind in ("package-*", "engine-*"):
        by_age = sorted(directory.glob(kind), key=lambda layer: layer.stat().st_mtime, reverse=True)
        for layer in by_age[KEPT_PACKAGE_LAYERS:]:
            if layer not in in_use:
                # At once, as others look without the lock.
                shutil.rmtree(layer.rename(directory / f".building-{layer.name}"))


# --- Debian roots ---------------------------------------------------------------------------------------------


def make_base(recipe: Recipe, target: Path) -> None:
    """A Debian stable root with everything but Debian testing's criu and our package."""
    # The keyring too: an old one lacks the keys of newer releases.
    ensure_tool("mmdebstrap", ["mmdebstrap", "debian-archive-keyring"])
    say(f"preparing the hosts' Debian {recipe.suite} root from {recipe.mirror} (once; one to three minutes)")
    options = [f"--aptopt={option}" for option in apt_options()]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in NOT_INSTALLED]
    options += [f"--include={','.join(recipe.packages)}"]
    unpack = f"cd /tmp && apt-get -qq download {' '.join(recipe.iptables_packages)}"
    unpack += " && for package in *.deb; do dpkg-deb -x $package /opt/iptables; done && rm *.deb"
    options += [f"--customize-hook=chroot \"$1\" sh -ec '{unpack}'"]
    source = f"deb {recipe.mirror} {recipe.suite} main"
    run_contained(
        ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", *options, recipe.suite, str(target), source],
        f"can't make a Debian {recipe.suite} root from {recipe.mirror}; see `apt-get update` and the network",
    )
    ssh = target / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    make_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "testbed", "-f", "/root/.ssh/id_ed25519"]
    run_contained(["chroot", str(target), *make_key], "can't make the hosts' SSH key")
    shutil.copy(ssh / "id_ed25519.pub", ssh / "authorized_keys")
    names = ",".join(name for line in HOSTS_FILE.splitlines()[2:] for name in line.split())
    host_keys = sorted((target / "etc/ssh").glob("ssh_host_*_key.pub"))
    known = "".join(f"{names} {' '.join(key.read_text().split()[:2])}\n" for key in host_keys)
    (ssh / "known_hosts").write_text(known)
    (ssh / "config").write_text(SSH_CONFIG)
    (target / "etc/hosts").write_text(HOSTS_FILE)
    (target / "etc/ssh/sshd_config.d/testbed.conf").write_text(SSHD_CONFIG)


def make_testing(recipe: Recipe, base: Path, target: Path) -> None:
    """The difference to `base` that Debian testing's criu makes."""
    say(f"adding Debian {recipe.testing_suite}'s criu (once; some seconds)")
    source = f"deb {recipe.mirror} {recipe.testing_suite} main"
    script = f"""
        printf '%s\\n' '{source}' >/etc/apt/sources.list.d/testing.list
        printf 'Package: *\\nPin: release n={recipe.testing_suite}\\nPin-Priority: 100\\n' \\
            >/etc/apt/preferences.d/testing
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -t {recipe.testing_suite} \\
            install {" ".join(CRIU_PACKAGES)} >/dev/null
        apt-get clean
        rm -rf /var/lib/apt/lists/* /tmp/*
    """
    build_over(
        [base],
        target,
        script,
        f"can't install {recipe.testing_suite}'s criu from {recipe.mirror}; see `apt-get update` and the network",
        files={"usr/sbin/policy-rc.d": POLICY_NO_SERVICES, "etc/resolv.conf": read_or_empty("/etc/resolv.conf")},
    )
    for only_for_building in ("usr/sbin/policy-rc.d", "etc/resolv.conf"):
        (target / only_for_building).unlink()


def read_or_empty(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def apt_options() -> list[str]:
    """apt options for the roots: this machine's proxies, and no complaint about an old Release file."""
    options = ['Acquire::Check-Valid-Until "false"']
    dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=False).stdout
    lines = [line.rstrip(";") for line in dump.splitlines()]
    options += [line for line in lines if "proxy" in line.lower() and not line.endswith('""')]
    return options


def apt_words() -> list[str]:
    """The same for a command line of apt-get."""
    return [word for option in apt_options() for word in ("-o", option.replace(' "', "=").rstrip('"'))]


def ensure_tool(command: str, packages: list[str]) -> None:
    """Install Debian packages on this machine if `command` isn't there. Raises TestbedError."""
    if shutil.which(command):
        return
    say(f"{command} is missing on this machine: installing {' and '.join(packages)} with apt")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *packages]
    for command_line in (["apt-get", "-qq", "-o", "Acquire::Check-Valid-Until=false", "update"], install):
        try:
            done = subprocess.run(command_line, env=environment, stdout=subprocess.DEVNULL, check=False)
        except OSError as error:
            raise TestbedError(f"{command} is needed, and there is no apt here to install it: {error}") from error
    # update's own status is not asked for: it fails when any of the machine's sources does.
    if done.returncode != 0 or not shutil.which(command):
        raise TestbedError(f"{command} is needed and could not be installed: `{' '.join(install)}` failed")


# --- our own tools and package --------------------------------------------------------------------------------


def tools_digest() -> str:
    """Names the built tools: their sources and flags."""
    digest = hashlib.sha256(repr(TOOL_FLAGS).encode())
    for tool in TOOLS:
        digest.update((Path(__file__).parent / f"{tool}.c").read_bytes())
    return digest.hexdigest()[:12]


def make_tools(base: Path, target: Path) -> None:
    """Compile the testbed's programs with the root's compiler, static, so that they run on this machine."""
    compile_all = " && ".join(f"gcc {' '.join(TOOL_FLAGS)} -o /build/{tool} /build/{tool}.c" for tool in TOOLS)
    files = {f"build/{tool}.c": (Path(__file__).parent / f"{tool}.c").read_text() for tool in TOOLS}
    upper = target.with_name("tools-build")
    build_over([base], upper, compile_all, "can't compile the testbed's tools", files=files)
    target.mkdir()
    for tool in TOOLS:
        (upper / "build" / tool).rename(target / tool)


# What the hosts of a testbed get of a checkout; the last three stand in for what an operator would bring.
PACKAGES = ("criu_lazy_ext", "testbed", "bench", "demo")


@dataclass(frozen=True)
class Sources:
    """The package's sources in a checkout, read at one moment: path relative to the checkout -> contents."""

    files: Mapping[str, bytes]

    @classmethod
    def of_checkout(cls) -> Sources:
        """Raises TestbedError if this module does not run from a checkout."""
        checkout = Path(__file__).resolve().parent.parent
        if not (checkout / "setup.py").is_file() or not (checkout / "c_src").is_dir():
            raise TestbedError(
                f"the testbed installs criu-lazy from a checkout, and {checkout} is none: run it from one"
                " (`python3 -m criu_lazy_ext.cli testbed ...`)"
            )
        paths = [checkout / name for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE")]
        paths += sorted((checkout / "c_src").glob("**/*.[ch]"))
        for package in PACKAGES:
            for pattern in ("*.py", "*.pyi", "*.json", "*.c", "*.h", "py.typed"):
                paths += sorted((checkout / package).glob(f"**/{pattern}"))
        generated = checkout / "criu_lazy_ext/_engine.c"
        files = {
            str(path.relative_to(checkout)): path.read_bytes() for path in paths if path.is_file() and path != generated
        }
        files.setdefault("README.md", b"")  # setuptools insists
        return cls(files)

    def engine_files(self) -> dict[str, bytes]:
        """What decides the built extension and the installed metadata."""
        return {
            path: contents
            for path, contents in self.files.items()
            if path.startswith("c_src/") or path in ("setup.py", "pyproject.toml", "criu_lazy_ext/_engine_build.py")
        }

    def engine_digest(self) -> str:
        """Changes when the C extension must be built anew."""
        return files_digest(self.engine_files())

    def digest(self) -> str:
        """Changes when anything that is installed changes."""
        return files_digest(self.files)


def files_digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for path, contents in sorted(files.items()):
        digest.update(f"{path}\0{len(contents)}\0".encode())
        digest.update(contents)
    return digest.hexdigest()[:12]


def install_package(base: Path, sources: Sources, target: Path) -> None:
    """`pip install` the package into a layer of its own; builds the C extension."""
    say("building criu-lazy for the hosts (its C sources changed)")
    upper = target.with_name("engine-build")
    build_over(
        [base],
        upper,
        "cd /build && python3 -m pip --quiet --disable-pip-version-check install --root-user-action=ignore"
        " --no-build-isolation --no-deps --break-system-packages --no-compile .",
        "can't build criu-lazy from this checkout",
        files={f"build/{path}": contents for path, contents in sources.files.items()},
    )
    target.mkdir()
    (target / "usr").mkdir()
    (upper / "usr/local").rename(target / "usr/local")


def refresh_python(base: Path, engine: Path, sources: Sources, target: Path) -> None:
    """The engine's layer with the package's Python files as they are now: no compiler is run for these."""
    shutil.copytree(engine, target, symlinks=True)
    [site] = target.glob("usr/local/lib/python3*/dist-packages")
    for extension in (site / "criu_lazy_ext").glob("_engine*.so"):
        extension.rename(site / extension.name)
    shutil.rmtree(site / "criu_lazy_ext")
    for path, contents in sources.files.items():
        if path.partition("/")[0] in PACKAGES:
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(contents)
    for extension in site.glob("_engine*.so"):
        extension.rename(site / "criu_lazy_ext" / extension.name)
    inside = " ".join("/" + str((site / package).relative_to(target)) for package in PACKAGES)
    compiled = target.with_name("compiled")
    # Byte code checked by hash, as overlays may change time stamps. A file with an error in it is not our affair.
    build_over(
        [target, base],
        compiled,
        f"python3 -m compileall -q --invalidation-mode checked-hash {inside} || true",
        "can't compile criu-lazy's Python files",
    )
    shutil.copytree(compiled / "usr/local", target / "usr/local", symlinks=True, dirs_exist_ok=True)


# --- running things in roots ----------------------------------------------------------------------------------


def build_over(
    lower: list[Path], target: Path, script: str, failure: str, files: Mapping[str, str | bytes] | None = None
) -> None:
    """Run `script` (sh -e, as root, chrooted) in an overlay over `lower`; `target` becomes what it changed.

    `files` are put there first (path -> contents). Raises TestbedError with `failure` and the output's end.
    """
    work, root = target.with_name(f"{target.name}-work"), target.with_name(f"{target.name}-root")
    for directory in (target, work, root):
        directory.mkdir()
    for path, contents in (files or {}).items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        if path.endswith("policy-rc.d"):
            (target / path).chmod(0o755)
    layers = ":".join(str(layer) for layer in lower)
    mount_and_run = f"""
        mount -t overlay overlay -o 'volatile,lowerdir={layers},upperdir={target},workdir={work}' '{root}'
        mount -t proc proc '{root}/proc'
        mount --rbind /dev '{root}/dev'
        mount -t tmpfs tmp '{root}/tmp'
        exec chroot '{root}' sh -e -c "$1"
    """
    run_contained(["sh", "-e", "-c", mount_and_run, "sh", script], failure)


def run_contained(command: list[str], failure: str) -> None:
    """Run a command in mount and pid namespaces that end with this process, so that no mount stays behind."""
    contained = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", *command]
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        contained,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(telling_lines(done.stdout.splitlines()))
        raise TestbedError(f"{failure} (exit status {done.returncode}):\n{tail}")


def telling_lines(lines: list[str]) -> list[str]:
    """Of a failed build's output: the compiler's and tools' errors if there are such lines, else its end."""
    errors = [line for line in lines if "error:" in line.lower() or line.startswith("E: ")]
    return errors[:15] or lines[-15:]
