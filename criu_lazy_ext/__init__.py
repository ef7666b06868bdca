"""criu-lazy: fast post-copy live migration for CRIU."""

__version__ = "0.1.0"
