"""`criu-lazy migrate` that stops itself (SIGSTOP) before or after it records a state, once. For crash_matrix.py.

    pausing_migrate.py STATE before|after PROFILE [OPTIONS]
"""

import os
import signal
import sys

from criu_lazy_ext import cli
from criu_lazy_ext.migration import journal

state, when, *arguments = sys.argv[1:]
record = journal.Journal.record
paused = False


def pausing_record(self, **facts):
    global paused
    here = not paused and facts.get("state") == state
    if here and when == "before":
        paused = True
        os.kill(os.getpid(), signal.SIGSTOP)
    record(self, **facts)
    if here and when == "after":
        paused = True
        os.kill(os.getpid(), signal.SIGSTOP)


journal.Journal.record = pausing_record
sys.exit(cli.main(["migrate", *arguments]))
