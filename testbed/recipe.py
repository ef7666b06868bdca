"""What the hosts' Debian root is made of. Its hash names the cached root: change anything here, get a new one."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed.errors import TestbedError

SUITE = "trixie"
TESTING_SUITE = "forky"
MIRROR_VARIABLE = "CRIU_LAZY_TESTBED_MIRROR"

# criu series -> taken from which suite. 4.1 speaks protocol v1, 4.2 protocol v2.
CRIU_SERIES = {"4.1": SUITE, "4.2": TESTING_SUITE}

CRIU_PACKAGES = ("criu", "python3-pycriu")
PACKAGES = (
    *CRIU_PACKAGES,
    # our package: what it needs to build, run and be tested
    *("gcc", "libc6-dev", "make", "pkg-config", "libssl-dev", "liblz4-dev", "libxxhash-dev", "libzstd-dev"),
    *("python3-cffi", "python3-dev", "python3-pip", "python3-setuptools", "python3-wheel"),
    *("python3-hypothesis", "python3-protobuf", "python3-pytest", "python3-rich"),
    "python3-yaml",
    # hosts
    *("iproute2", "iputils-arping", "iputils-ping", "nftables", "openssh-client", "openssh-server"),
    *("openssl", "procps", "strace", "util-linux"),
    # what is migrated
    *("python3-redis", "redis-server", "redis-tools"),
    # container engines (libcriu2: crun loads it), their networks, and what brings a container's files over
    *("conmon", "containerd", "crun", "libcriu2", "netavark", "podman", "python3-grpcio", "rsync", "runc"),
)
# Unpacked below /opt/iptables only: hosts have no iptables, unless a command's PATH leads there.
IPTABLES_PACKAGES = (
    *("iptables", "libip4tc2", "libip6tc2", "libmnl0", "libnetfilter-conntrack3", "libnfnetlink0", "libnftnl11"),
    "libxtables12",
)
NOT_INSTALLED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")

# Changed when prepare.py makes something else of the same packages.
REVISION = 1


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the prepared roots contain."""

    mirror: str
    suite: str = SUITE
    testing_suite: str = TESTING_SUITE
    packages: tuple[str, ...] = PACKAGES
    iptables_packages: tuple[str, ...] = IPTABLES_PACKAGES
    revision: int = REVISION

    def digest(self) -> str:
        """The recipe's name: 12 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


def machine_recipe() -> Recipe:
    """The recipe with the Debian mirror this machine's apt uses (CRIU_LAZY_TESTBED_MIRROR overrides it).

    Raises TestbedError where neither names one.
    """
    mirror = os.environ.get(MIRROR_VARIABLE) or apt_mirror()
    if not mirror:
        raise TestbedError(f"apt has no Debian mirror on this machine; name one in {MIRROR_VARIABLE}")
    return Recipe(mirror=mirror)


@functools.cache
def apt_mirror() -> str | None:
    """The mirror of this machine's own Debian release as apt has it; None where there is none."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"]
    try:
        targets = subprocess.run([*command, "Created-By: Packages"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    own_release = debian_codename()
    for line in targets.splitlines():
        uri, _, release_and_component = line.partition(" ")
        if own_release and release_and_component == f"{own_release} main":
            return uri.rstrip("/")
    return None


def debian_codename() -> str | None:
    """`bookworm`, `trixie`, ... if this machine is a Debian, else None."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return None
    release = dict(line.split("=", 1) for line in lines if "=" in line)
    return release.get("VERSION_CODENAME", "").strip('"') or None if release.get("ID") == "debian" else None
