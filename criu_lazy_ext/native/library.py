"""The C engine's module, loaded; what c_src/criu_lazy.h declares, by its names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from criu_lazy_ext.errors import CriuLazyError

try:
    from criu_lazy_ext._engine import ffi, lib
except ImportError as problem:
    raise CriuLazyError(f"the C engine is not built for this Python: {problem}; pip install .") from problem

if TYPE_CHECKING:
    from criu_lazy_ext._engine import Null, char_p, cl_error

__all__ = ("TlsConfig", "enum_words", "ffi", "lib", "new_error", "text")


def text(chars: char_p | Null) -> str:
    """What stands at `chars`; "" for NULL."""
    return ffi.string(chars).decode(errors="replace") if chars else ""


def new_error() -> cl_error:
    """For a function of C to tell in it what went wrong: see `text` of its text."""
    return ffi.new("struct cl_error *")


def enum_words(name: str, prefix: str) -> dict[int, str]:
    """The values of an enum and their names, less the prefix, in small letters."""
    return {value: word.removeprefix(prefix).lower() for value, word in ffi.typeof(f"enum {name}").elements.items()}


class TlsConfig:
    """A struct cl_tls_config, and the texts that it points to."""

    def __init__(self, texts: Mapping[str, str | None], *, server: bool = False, no_cn_verify: bool = False) -> None:
        """`texts`: file names and the like by the struct's names; None: not given."""
        self.struct = ffi.new("struct cl_tls_config *")
        self.struct.server = server
        self.struct.no_cn_verify = no_cn_verify
        self._texts = {name: ffi.new("char[]", os.fsencode(text)) for name, text in texts.items() if text is not None}
        for name, chars in self._texts.items():
            setattr(self.struct, name, chars)
