"""nftables, by the library that criu itself uses."""

from __future__ import annotations

import ctypes
import json
import threading
from typing import Any

from criu_lazy_ext.errors import CriuLazyError

NFT_OUTPUT_JSON = 1 << 4
CLOSED_AFTER_S = 0.5
LIBRARY = "libnftables.so.1"


class FilterError(CriuLazyError):
    """The packet filter can't be read or changed."""


class Nft:
    """A context of libnftables, in the network namespace where it is entered."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._context: int | None = None
        library.nft_ctx_new.restype = ctypes.c_void_p
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, name).restype = ctypes.c_char_p

    @classmethod
    def load(cls) -> Nft | None:
        """None where there is no such library."""
        try:
            return cls(ctypes.CDLL(LIBRARY))
        except OSError:
            return None

    def __enter__(self) -> Nft:
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise FilterError("nftables can't be used")
        self._library.nft_ctx_buffer_output(ctypes.c_void_p(self._context))
        self._library.nft_ctx_buffer_error(ctypes.c_void_p(self._context))
        self._library.nft_ctx_output_set_flags(ctypes.c_void_p(self._context), NFT_OUTPUT_JSON)
        return self

    def __exit__(self, *_: object) -> None:
        # The kernel waits for all CPUs as it closes the context's socket, 5 to 60 ms; what it closes meanwhile waits.
        # A task may wait for what comes next. (What isn't closed when this process ends, the kernel closes then.)
        closing = threading.Timer(CLOSED_AFTER_S, self._library.nft_ctx_free, (ctypes.c_void_p(self._context),))
        closing.daemon = True
        closing.start()

    def run(self, commands: str) -> list[dict[str, Any]]:
        """Run commands, one a line, all or none of them; the objects that they list. Raises FilterError."""
        context = ctypes.c_void_p(self._context)
        shown = "; ".join(commands.splitlines())
        failed = self._library.nft_run_cmd_from_buffer(context, commands.encode())
        output = self._library.nft_ctx_get_output_buffer(context) or b""
        said = (self._library.nft_ctx_get_error_buffer(context) or b"").decode(errors="replace").split("\n")[0]
        if failed:
            raise FilterError(f"nft {shown}: {said or 'failed'}; do it by hand")
        try:
            return list(json.loads(output)["nftables"]) if output.strip() else []
        except (ValueError, KeyError) as error:
            raise FilterError(f"nft {shown}: {error!r} in what it lists") from error
