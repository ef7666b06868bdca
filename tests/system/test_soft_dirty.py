"""What not every kernel has, in a machine of its own: tracking of what is written (soft-dirty); AppArmor."""

from __future__ import annotations

import json

from vm import CHECKOUT_INSIDE, INSIDE, Machine


def test_pages_that_were_not_written_are_not_read_again_and_all_are_right(vm: Machine) -> None:
    programs = f"{CHECKOUT_INSIDE}/programs"
    vm.run([f"{programs}/test_precopy", f"{programs}/precopy_task", "tracked"])


def test_a_task_is_migrated_with_what_the_kernel_tracked(vm: Machine) -> None:
    """The same test as on this machine, with another kernel below, and both hosts in there."""
    test = "tests/system/test_migrate_precopy.py::test_what_has_not_changed_is_not_sent_again"
    command = ["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    environment = ["env", "-C", CHECKOUT_INSIDE, "PYTHONDONTWRITEBYTECODE=1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1"]
    environment += [f"CRIU_LAZY_TESTBED_MIRROR={vm.mirror}", f"{INSIDE}=1"]
    assert "1 passed" in vm.run([*environment, *command], seconds=1500)


# apparmor_parser -K -Q -o FILE, gzip, base64, of: abi <abi/3.0>, profile moved flags=(attach_disconnected) { file,
# capability, network, signal, ptrace, unix, mount, umount, change_profile, }
POLICY = (
    "H4sIAAAAAAACA+1SSU7DMBR9cRzbGbpH6iVYIHZIWXAOkEUTiBSaqKmq7DgKV0FcDJ4HMbUbpC666LO+p//+ZH9psGs2UzesITIA"
    "0mDcDG3XN9CZwvOwa1aQCm1vHydoQQq+JyNLjHb7dB/UQjrFB/GHJzUe7DhdX9HDAbVhAGtXrYW6dUkQy7v5hssFkNXAeti2fTM7"
    "RQIZGFjEFW9OXt9fnCDu66iro9DqsqZA79v/C2LPPollpD5KgKtCxXvtKoz3ORnih73w/qRn5ygpFefKW0Rekn/51AivU3IcD8Zn"
    "rvy+8DmecfpIf/VHwlPKPlLskZy/WB0xUkbvoUdCLxfnxz99mE8/OPK/2QUAAA=="
)
AA = "/sys/kernel/security/apparmor"
# The destination: other pids than here; and what it sees of AppArmor.
NAMESPACES = "unshare, --mount, --pid, --fork, --mount-proc"
THERE = f"destination: {{{{local: true, prefix: [{NAMESPACES}, sh, -c, '{{}}; exec \"$@\"', sh]}}}}\n"
CONFINED = f"""
    mount -t securityfs securityfs /sys/kernel/security
    echo {POLICY} | base64 -d | gunzip >{AA}/.load
    mkdir -p /srv && cd /srv
    echo 10000 >/proc/sys/kernel/ns_last_pid
    setsid sh -c 'echo changeprofile moved >/proc/self/attr/current; exec sleep 100000' </dev/null >/dev/null 2>&1 &
    echo $! >/run/confined.pid
    sleep 1; cat /proc/$!/attr/current
"""
# What is done to what the destination sees, and what is said then.
CASES = {
    "true": "",
    f"mount --bind /dev/null {AA}/profiles": "profiles of AppArmor that the task has are not loaded: moved",
}


def test_a_task_that_apparmor_confines_can_move_where_its_profile_is_loaded(vm: Machine) -> None:
    assert vm.run(["sh", "-ec", CONFINED]) == "moved (enforce)\n"
    for prepare, says in CASES.items():
        text = f"task: {{pidfile: /run/confined.pid}}\n{THERE.format(prepare)}"
        told = vm.run(["sh", "-c", 'printf %s "$1" >/srv/p.yaml; criu-lazy check --json /srv/p.yaml; :', "sh", text])
        found = [item["text"] for item in json.loads(told.splitlines()[-1]) if item["verdict"] == "fail"]
        assert len(found) == bool(says) and all(says in text for text in found), told
