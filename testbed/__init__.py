"""Two hosts on this machine to try and test migrations on; see docs/testbed.md."""

from testbed.command import main
from testbed.errors import TestbedError
from testbed.host import Host, HostProcess
from testbed.link import Link
from testbed.testbed import Testbed

__all__ = ["Host", "HostProcess", "Link", "Testbed", "TestbedError", "main"]
