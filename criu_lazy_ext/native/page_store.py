"""The destination's end of pre-copy (cl_precopy_receiver), as one class."""

from __future__ import annotations

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.native.library import TlsConfig, ffi, lib, new_error, text


class PageStoreError(CriuLazyError):
    """The store is not complete; nothing of it is left."""


class PageStore:
    """Receives pages from a page server into the files `pages` and `index` of a directory."""

    def __init__(
        self, remote_fd: int, directory_fd: int, key_hex: str | None = None, *, log_fd: int = -1, log_level: int = 0
    ) -> None:
        """Agree with the page server at `remote_fd`, which is handed over; by TLS if there is a key.

        The other descriptors are borrowed. Raises PageStoreError.
        """
        self._error = new_error()
        config = ffi.new("struct cl_precopy_receiver_config *")
        config.remote_fd = remote_fd
        config.directory_fd = directory_fd
        config.log_fd = log_fd
        config.log_level = log_level
        tls = TlsConfig({"key_hex": key_hex})
        if key_hex is not None:
            config.tls = tls.struct
        store = lib.cl_precopy_receiver_new(config, self._error)
        if not store:
            raise PageStoreError(self.error())
        self._store = store

    def run(self) -> int:
        """Receive until the store is complete and the server knows: 0; or a negative errno, and `error` tells more."""
        return lib.cl_precopy_receiver_run(self._store, self._error)

    def error(self) -> str:
        """What went wrong, one line; after `run`."""
        return text(self._error.text)

    def stop(self) -> None:
        """Make `run` return soon. Any thread."""
        lib.cl_precopy_receiver_stop(self._store)

    def close(self) -> None:
        """Free it; nothing may be called after it."""
        lib.cl_precopy_receiver_free(self._store)
