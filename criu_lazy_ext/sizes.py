"""Sizes: a page's, and as people write them."""

from __future__ import annotations

import argparse
import os

from criu_lazy_ext.errors import CriuLazyError

PAGE_BYTES = 4096


def page_size_problem() -> str:
    """Why this kernel's pages are none that criu-lazy can serve; "" if they are. An arm64 one may have others."""
    size = os.sysconf("SC_PAGESIZE")
    if size == PAGE_BYTES:
        return ""
    return f"this kernel has pages of {size} bytes, and criu-lazy serves {PAGE_BYTES} only"


def check_page_size() -> None:
    """Raises CriuLazyError on such a kernel."""
    if problem := page_size_problem():
        raise CriuLazyError(problem)


def parse_size(text: str) -> int | None:
    """Bytes from a number that K, M or G (powers of 1024) may follow; None if it is none."""
    shift = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper(), 0)
    number = text[:-1] if shift else text
    return int(number) << shift if number.isascii() and number.isdigit() else None


def rate_argument(text: str) -> int:
    """For argparse: bytes per second; K, M or G may follow the number."""
    rate = parse_size(text)
    if rate is None:
        raise argparse.ArgumentTypeError(f"expected a number of bytes per second (K, M, G), not {text!r}")
    return rate
