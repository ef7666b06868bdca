"""`criu-lazy bench`: lazy migration with stock criu's daemon and with ours, side by side; see docs/bench.md."""

from bench.command import main

__all__ = ["main"]
