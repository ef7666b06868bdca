"""`criu-lazy lazy-pages`: a drop-in for `criu lazy-pages`; its life is destination/lazy_pages.py."""

from __future__ import annotations

import os
import signal
import time

from criu_lazy_ext import __version__
from criu_lazy_ext.criu import options as criu_options
from criu_lazy_ext.criu.getopt_long import OptionError
from criu_lazy_ext.criu.log import Log
from criu_lazy_ext.destination.lazy_pages import LazyPages, TaskLostError
from criu_lazy_ext.destination.succession import EXIT_LOST
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.system.stop_signals import Stopped, StopSignals


def main(argv: list[str]) -> int:
    """Run `criu-lazy lazy-pages ARGV`; returns criu's exit status: 0, or 1 for any error; or EXIT_LOST.

    After SIGTERM, SIGINT or SIGHUP the process ends by that signal, as criu does.
    """
    log = Log(criu_options.DEFAULT_LOG_LEVEL, time.monotonic())
    try:
        options = criu_options.parse(argv, os.environ)
    except OptionError as error:
        log.error(str(error))
        if error.usage:
            print(criu_options.USAGE)
        return 1
    if options.show:
        print(criu_options.HELP if options.show == "help" else f"Version: {__version__} (criu-lazy)")
        return 0
    log.level = options.log_level
    signals = StopSignals()
    try:
        return LazyPages(options, log, signals).run()
    except TaskLostError as error:
        log.error(str(error))
        return EXIT_LOST
    except CriuLazyError as error:
        log.error(str(error))
        return 1
    except Stopped:
        log.error(f"stopped by {signal.Signals(signals.received).name}")
        signals.die()
        return 1
    finally:
        signals.close()
