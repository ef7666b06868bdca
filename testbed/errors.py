"""What the testbed raises."""

from __future__ import annotations

from criu_lazy_ext.errors import CriuLazyError


class TestbedError(CriuLazyError):
    """The testbed can't be prepared, started, stopped or steered; says what failed, why, and what to do."""

    __test__ = False  # the name starts with "Test": not a test class
