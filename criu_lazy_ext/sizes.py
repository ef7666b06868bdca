"""Sizes as people write them."""

from __future__ import annotations


def parse_size(text: str) -> int | None:
    """Bytes from a number that K, M or G (powers of 1024) may follow; None if it is none."""
    shift = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper(), 0)
    number = text[:-1] if shift else text
    return int(number) << shift if number.isascii() and number.isdigit() else None
