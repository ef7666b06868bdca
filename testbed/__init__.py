"""Two hosts on this machine to try and test migrations on; see docs/testbed.md."""

from criu_lazy_ext.testbed.command import main
from criu_lazy_ext.testbed.errors import TestbedError
from criu_lazy_ext.testbed.host import Host, HostProcess
from criu_lazy_ext.testbed.link import Link
from criu_lazy_ext.testbed.testbed import Testbed

__all__ = ["Host", "HostProcess", "Link", "Testbed", "TestbedError", "main"]
