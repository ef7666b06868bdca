"""PostgreSQL in a container of podman's, and pgbench on the client host: a root for both, made of Debian's packages."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from containers import NAME, PodmanContainer
from lazy_source import eventually
from redis_containers import ADDRESS

from testbed import Testbed, prepare

ROOT = "opt/postgres"  # on the client host, and the image's
BIN = "/usr/lib/postgresql/17/bin"
VOLUME = "pg-data"
SCALE = 2  # of pgbench: 100,000 accounts each
# PostgreSQL refuses to be root, and here criu may not dump another user's processes (CAP_SYS_RESOURCE is lacking).
NOT_ROOT_C = "#include <unistd.h>\nuid_t getuid(void) { return 70; }\nuid_t geteuid(void) { return 70; }\n"
MAKE_ROOT = f"""
    root=/{ROOT}
    mkdir -p $root/bin $root/etc $root/tmp $root/data $root/proc $root/run/postgresql $root/usr/lib $root/var
    ln -s usr/lib $root/lib
    ln -s ../run $root/var/run
    cd /tmp
    export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu
    apt-get -qq update
    apt-get -qq download postgresql-17 postgresql-client-17 libpq5 libicu76 libxml2 tzdata
    for package in *.deb; do dpkg-deb -x $package $root; done
    rm -rf $root/usr/share/doc $root/usr/share/man $root/usr/share/locale $root/usr/lib/postgresql/17/lib/bitcode
    rm -f $root/usr/lib/postgresql/17/lib/llvmjit.so
    cp -L /bin/sh /bin/mkdir /bin/chown /bin/chmod $root/bin/
    gcc -shared -fPIC -O1 -o $root/not_root.so /build/not_root.c
    echo postgres:x:70:70::/:/bin/sh >$root/etc/passwd
    for library in $(ldd $root{BIN}/* $root/bin/* | grep -o ' /[^ ]*'); do
        [ -e "$root$library" ] || [ "${{library#$root}}" != "$library" ] && continue
        mkdir -p "$root${{library%/*}}"
        cp -L "$library" "$root$library"
    done
    mkdir -p $root/lib64
    cp -L /lib64/ld-linux-x86-64.so.2 $root/lib64/
    chmod 1777 $root/tmp
"""
START = f"""
    export LD_PRELOAD=/not_root.so
    if ! [ -e /data/PG_VERSION ]; then
        chmod 700 /data && chown 70 /data &&
        {BIN}/initdb -D /data -U postgres -A trust -N --locale=C --encoding=UTF8 >/dev/null &&
        echo 'host all all all trust' >>/data/pg_hba.conf || exit
    fi
    exec {BIN}/postgres -D /data -c listen_addresses='*' -c shared_buffers=16MB -c jit=off -c max_connections=40
"""


def _build(base: Path, target: Path) -> None:
    prepare.say("making a root with PostgreSQL (once; some seconds)")
    upper = target.with_name("postgres-build")
    files = {
        "build/not_root.c": NOT_ROOT_C,
        "usr/sbin/policy-rc.d": prepare.POLICY_NO_SERVICES,
        "etc/resolv.conf": prepare.read_or_empty("/etc/resolv.conf"),
    }
    prepare.build_over([base], upper, MAKE_ROOT, "can't install postgresql-17; see `apt-get update`", files=files)
    (upper / ROOT).rename(target)


def postgres_root() -> Path:
    """Made once, and kept beside the testbed's other layers."""
    digest = hashlib.sha256((MAKE_ROOT + NOT_ROOT_C).encode()).hexdigest()[:12]
    layers = prepare.prepare()
    with prepare.locked(prepare.CACHE / "lock"):
        layer = layers.recipe_directory / f"postgres-{digest}"
        prepare.make(layer, lambda target: _build(layers.recipe_directory / "base", target))
    return layer


class Postgres(PodmanContainer):
    """By podman with crun, in the host's network, at the service address; its cluster is in a named volume."""

    def __init__(self, testbed: Testbed) -> None:
        super().__init__(testbed, "crun")
        self.data = f"/var/lib/containers/storage/volumes/{VOLUME}/_data"
        root = postgres_root()
        for host in (testbed.src, testbed.client):
            if not (host.root / ROOT).exists():
                shutil.copytree(root, host.root / ROOT, symlinks=True)
        testbed.src.run(["sh", "-c", f"tar -c -C /{ROOT} . | podman import - postgres"])
        testbed.src.run(["sh", "-c", "podman save postgres | ssh dst podman load"])

    def run(self) -> None:
        """With pgbench's tables."""
        src = self.testbed.src
        command = ["podman", "--runtime", self.runtime, "run", "--detach", "--name", NAME, "--network=host"]
        src.run([*command, "--volume", f"{VOLUME}:/data", "postgres", "/bin/sh", "-c", START])
        eventually(lambda: self.query("select 1", check=False) == "1", "PostgreSQL is up")
        self.client("pgbench", "-i", "-q", "-s", str(SCALE))
        self.query("create extension amcheck")

    def command(self, program: str, *arguments: str) -> list[str]:
        """A client program's, on the client host."""
        server = [f"PGHOST={ADDRESS}", "PGUSER=postgres", "PGDATABASE=postgres"]
        return ["env", *server, "chroot", f"/{ROOT}", f"{BIN}/{program}", *arguments]

    def client(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.testbed.client.run(self.command(program, *arguments), check=check)

    def query(self, text: str, check: bool = True) -> str:
        return self.client("psql", "-Atc", text, check=check).stdout.strip()

    def assert_consistent(self, transactions: int, clients: int) -> None:
        """Every transaction that pgbench knows to be committed is there, wholly, and at most one more of each client;
        the files are as PostgreSQL wants them."""
        tables = {"accounts": "abalance", "tellers": "tbalance", "branches": "bbalance", "history": "delta"}
        sums = {self.query(f"select sum({column}) from pgbench_{table}") for table, column in tables.items()}
        assert len(sums) == 1, sums
        assert transactions <= int(self.query("select count(*) from pgbench_history")) <= transactions + clients
        checked = self.client("pg_amcheck", "--heapallindexed", "--all", check=False)
        assert checked.returncode == 0, (checked.stdout, checked.stderr)

    def remove(self) -> None:
        super().remove()
        for host in (self.testbed.src, self.testbed.dst):
            host.run(["podman", "volume", "rm", "--force", VOLUME], check=False)


class PgBench:
    """Its load from the client host, each of its clients on one connection that is never made again."""

    def __init__(self, server: Postgres, clients: int) -> None:
        self.server = server
        self.clients = clients
        command = server.command("pgbench", "-n", "-c", str(clients), "-j", "2", "-T", "600")
        self.process = server.testbed.client.popen(command, stdout=-1, stderr=-1, text=True)
        eventually(lambda: server.query("select count(*) from pgbench_history") not in ("", "0"), "pgbench writes")

    def end(self) -> int:
        """How many transactions it knows to be committed. Nothing but this has ended a connection of its."""
        self.server.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgbench'")
        output, errors = self.process.communicate(timeout=60)
        assert errors.count("terminating connection due to administrator command") == self.clients, (output, errors)
        assert "number of failed transactions: 0 " in output, output
        found = re.search(r"^number of transactions actually processed: (\d+)$", output, re.MULTILINE)
        assert found is not None, output
        return int(found[1])
