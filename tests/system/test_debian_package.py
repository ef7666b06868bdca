"""The Debian package: built in Debian 12 and 13, the same bytes each time, and what is installed from it works."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from debian_roots import DebianRoots, run_in, sources
from migrating import BASE, Migration, Worker, assert_moved, compile_task
from paths import CONFIGS

from criu_lazy_ext import cli
from testbed import Testbed, prepare
from testbed.recipe import SUITE

OLD = "bookworm"
BUILD = """
build() {
    mkdir -p $1/criu-lazy && cd $1/criu-lazy && tar -xf /srv/sources.tar
    dpkg-buildpackage -us -uc -b >../log 2>&1 || { tail -n 40 ../log; exit 1; }
    cd / && mkdir -p $2 && cp $1/*.deb $2
}
build /tmp/one /out
"""
# The project has no mail address.
SUPPRESSED = "bogus-mail-host,bogus-mail-host-in-debian-changelog"
CHECKS = f"""
lintian --fail-on error --suppress-tags {SUPPRESSED} /tmp/one/*.changes
mandoc -T lint -W warning /tmp/one/criu-lazy/debian/made/*.[15]
TZ=Asia/Tokyo build /tmp/another/directory /out/again
"""
KEEP_WHEEL = "cp /tmp/one/criu-lazy/.pybuild/*/*.whl /out"

LOOK = """
dpkg --install /srv/criu-lazy.deb >/dev/null
criu-lazy --version
criu-lazy check --json >/out/check || test $? = 1
MANPAGER=cat man criu-lazy >/out/manual
MANPAGER=cat man criu-lazy-profile >/out/profile
man --warnings --local-file /usr/share/man/man1/criu-lazy.1.gz 2>&1 >/dev/null | tee /out/complaints
man --warnings --local-file /usr/share/man/man5/criu-lazy-profile.5.gz 2>&1 >/dev/null | tee -a /out/complaints
bash /srv/complete criu-lazy '' >/out/subcommands
printf '#!/bin/sh\\necho box; echo 0123456789ab-infra\\n' >/usr/local/bin/podman && chmod +x /usr/local/bin/podman
bash /srv/complete criu-lazy migrate --st >/out/options
mkdir -p /var/lib/criu-lazy && echo $$ >/var/lib/criu-lazy/web.lock
bash /srv/complete criu-lazy cancel w >/out/names
rm /var/lib/criu-lazy/web.lock
export HOME=/root; mkdir -p /srv/files/below ~/.ssh; cd /srv/files; touch plan.yaml notes
echo 'Host elsewhere' >~/.ssh/config
for words in migrate evacuate explain cancel check init 'init --container'; do
    echo $words: $(bash /srv/complete criu-lazy $words '')
done >/out/offered
cd /
criu-lazy metrics >/out/metrics
find /usr/share/doc/criu-lazy -name '*.gz' ! -name 'changelog*' -o -xtype l >/out/no-pages
ls /usr/share/doc/criu-lazy/docs/../configs/evacuate/plan.yaml /usr/share/doc/criu-lazy/ansible/drain.yml >/dev/null
test -x $(sed -n 's/^ExecStart=\\([^ ]*\\).*/\\1/p' /usr/lib/systemd/system/criu-lazy-metrics.service \\
    /lib/systemd/system/criu-lazy-metrics.service 2>/dev/null | head -n 1)
"""
# What bash would offer for the last of these words.
COMPLETE = """
. /usr/share/bash-completion/bash_completion
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
if declare -F _comp_load >/dev/null; then _comp_load "$1"; else _completion_loader "$1"; fi
[[ $(complete -p "$1") =~ -F\\ ([^ ]+) ]] && "${BASH_REMATCH[1]}" "$1" "${!#}" "${@: -2:1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
REMOVE = """
moves=/var/lib/criu-lazy/moves
mkdir -p $moves /run/criu-lazy/ssh
began=$(cut -d ' ' -f 22 /proc/$$/stat)
echo '{"processes": [['$$', '$began']], "state": "running", "peer": "src", "at": 0}' >$moves/live.json
! dpkg --remove criu-lazy >/dev/null 2>/out/refused
rm $moves/live.json
dpkg --remove criu-lazy >/dev/null 2>&1
echo '{"state": "running"}' >$moves/journal.json
sh /var/lib/dpkg/info/criu-lazy.postrm purge 2>/out/kept
test -e $moves
echo '{"state": "committed"}' >$moves/journal.json
dpkg --purge criu-lazy >/dev/null 2>&1
test ! -e /var/lib/criu-lazy -a ! -e /run/criu-lazy
test ! -e /usr/bin/criu-lazy
test ! -e /usr/local/sbin/criu
hash -r
"""
DROP_IN = """
criu-lazy drop-in install
criu lazy-pages --version >/out/drop-in
"""
BY_PIP = """
python3 -m pip -q install --root-user-action ignore --no-deps --break-system-packages /srv/*.whl
cd /srv
criu-lazy --version
criu-lazy explain process.yaml >/out/explained
criu-lazy status
criu-lazy metrics >/dev/null
for name in page-server page-store init check report drop-in; do criu-lazy $name --help >/dev/null; done
criu-lazy check --json >/out/check || test $? = 1
"""


def built_in(suite: str, then: str, directory: Path) -> Path:
    """Where the package is, with what `then` adds."""
    return run_in(DebianRoots(suite).building(), directory, BUILD + then, {"srv/sources.tar": sources()})


def package_in(directory: Path) -> Path:
    [package] = directory.glob("criu-lazy_*.deb")
    return package


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if os.geteuid() != 0:
        pytest.skip("roots are made by root")
    directory = tmp_path_factory.mktemp("built")
    return {SUITE: built_in(SUITE, CHECKS, directory / SUITE), OLD: built_in(OLD, KEEP_WHEEL, directory / OLD)}


def test_two_builds_give_the_same_bytes(built: dict[str, Path]) -> None:
    first, second = ({path.name: path.read_bytes() for path in where.glob("*.deb")} for where in
        (built[SUITE], built[SUITE] / "again"))  # fmt: skip
    assert len(first) == 2, "the package, and its debug symbols"
    assert first == second


def look(suite: str, package: Path, more: str, directory: Path, files: dict[str, str | bytes]) -> Path:
    layers = DebianRoots(suite).ready(package)
    given = {"srv/criu-lazy.deb": package.read_bytes(), "srv/complete": COMPLETE} | files
    return run_in(layers, directory, LOOK + more, given)


def check(out: Path) -> None:
    listed = set(cli.SUBCOMMANDS)
    assert listed <= set((out / "subcommands").read_text().split())
    assert (out / "options").read_text().split() == ["--status"]
    assert (out / "names").read_text().split() == ["web"]
    told = (line.partition(":") for line in (out / "offered").read_text().splitlines())
    ours = {"plan.yaml", "below", "notes", "elsewhere", "box", "0123456789ab-infra"}
    offered = {words: ours & set(each.split()) for words, _, each in told}
    files = {"plan.yaml", "below"}
    assert offered == dict.fromkeys(("migrate", "evacuate", "explain", "cancel"), files) | {
        "check": files | {"elsewhere"}, "init": {"elsewhere"}, "init --container": {"box"}
    }  # fmt: skip
    manual = (out / "manual").read_text()
    assert all(re.search(rf"^ +{name}$", manual, re.MULTILINE) for name in listed)
    assert "precopy.stop_when.remaining" in (out / "profile").read_text()
    assert (out / "complaints").read_text() == ""
    assert (out / "no-pages").read_text() == "", "packed, or links that lead nowhere"
    refused = (out / "refused").read_text()
    assert "criu-lazy is not removed: a migration is under way here" in refused and "moves " in refused
    assert "/var/lib/criu-lazy/moves/journal.json" in (out / "kept").read_text()
    assert '"verdict"' in (out / "check").read_text()
    assert "criu_lazy_migration_state" in (out / "metrics").read_text()


def test_installed_in_debian_13(built: dict[str, Path], tmp_path: Path) -> None:
    out = look(SUITE, package_in(built[SUITE]), DROP_IN + REMOVE, tmp_path / "root", {})
    check(out)
    assert "(criu-lazy)" in (out / "drop-in").read_text()


def test_installed_in_debian_12_and_by_its_pip(built: dict[str, Path], tmp_path: Path) -> None:
    """Where nothing packaged has pycriu."""
    profile = CONFIGS / "process.yaml"
    [wheel] = built[OLD].glob("*.whl")
    files = {"srv/process.yaml": profile.read_bytes(), f"srv/{wheel.name}": wheel.read_bytes()}
    out = look(OLD, package_in(built[OLD]), REMOVE + BY_PIP, tmp_path / "root", files)
    check(out)
    assert "freeze and dump" in (out / "explained").read_text()
    found = {each["check"]: each for each in json.loads((out / "check").read_text())}
    assert found["pycriu"]["verdict"] == "fail" and "Debian 12 has CRIU 3.17" in found["pycriu"]["text"]


def test_a_task_moves_between_two_hosts_that_have_it(built: dict[str, Path], tmp_path: Path) -> None:
    below = prepare.prepare().lower_directories("4.2")[1:]  # all but this checkout
    layer = tmp_path / "package"
    package = package_in(built[SUITE]).read_bytes()
    run_in(below, layer, "dpkg --install /srv/criu-lazy.deb >/dev/null", {"srv/criu-lazy.deb": package})
    with Testbed.start(name=f"package-{os.getpid()}", package=layer) as testbed:
        for host in (testbed.src, testbed.dst):
            assert host.run(["sh", "-c", "command -v criu-lazy"]).stdout == "/usr/bin/criu-lazy\n"
        compile_task(testbed)
        assert_moved(Worker(testbed, 32), Migration(testbed, BASE))
