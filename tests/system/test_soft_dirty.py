"""Pre-copy on a kernel that tracks what is written (soft-dirty): in a machine of its own, as not every kernel does."""

from __future__ import annotations

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
