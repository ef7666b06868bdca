"""c_src/wire/page_protocol.c against headers packed by Python's struct, as CRIU's sources lay them out."""

from __future__ import annotations

import struct
import subprocess

import cffi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import C_SRC

GET, ADD_F, CLOSE = 7, 6, 0x1023
U64 = st.integers(0, 2**64 - 1)
PAGES = st.integers(1, 2**16)
PID = st.integers(1, 2**22 - 1)


def header(version: int, cmd: int, nr_pages: int, vaddr: int, dst_id: int, padding: int = 0) -> bytes:
    if version == 1:
        return struct.pack("<IIQQ", cmd, nr_pages, vaddr, dst_id)
    return struct.pack("<IIQQQ", cmd, padding, nr_pages, vaddr, dst_id)


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory):
    """page_protocol.c as a shared library; undefined behaviour traps."""
    library = tmp_path_factory.mktemp("wire") / "libwire.so"
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Wshadow", "-Werror"]
    sanitizers = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    output = ["-O1", "-fPIC", "-shared", "-o", library]
    subprocess.run(["cc", *warnings, *sanitizers, *output, f"-I{C_SRC}", C_SRC / "wire/page_protocol.c"], check=True)
    ffi = cffi.FFI()
    ffi.cdef(
        """
        struct cl_wire_header { uint16_t cmd; uint16_t flags; uint64_t nr_pages, vaddr, dst_id; };
        size_t cl_wire_header_bytes(int version);
        void cl_wire_pack(int version, const struct cl_wire_header *h, uint8_t *out);
        int cl_wire_unpack(int version, const uint8_t *in, struct cl_wire_header *h);
        const char *cl_wire_refuse_get(const struct cl_wire_header *h, uint64_t max_pages);
        int cl_wire_tell_version(const uint8_t *first);
        """
    )
    return ffi, ffi.dlopen(str(library))


def unpack(wire, version: int, raw: bytes):
    ffi, lib = wire
    h = ffi.new("struct cl_wire_header *")
    return lib.cl_wire_unpack(version, ffi.from_buffer(raw), h), h


def test_header_sizes_are_crius(wire) -> None:
    _, lib = wire
    assert [lib.cl_wire_header_bytes(version) for version in (0, 1, 2, 3)] == [0, 24, 32, 0]


@given(version=st.sampled_from([1, 2]), nr_pages=st.integers(0, 2**32 - 1), vaddr=U64, dst_id=U64)
def test_packed_headers_have_crius_layout(wire, version: int, nr_pages: int, vaddr: int, dst_id: int) -> None:
    ffi, lib = wire
    out = ffi.new("uint8_t[]", 32)
    h = {"cmd": ADD_F, "flags": 4, "nr_pages": nr_pages, "vaddr": vaddr, "dst_id": dst_id}
    lib.cl_wire_pack(version, ffi.new("struct cl_wire_header *", h), out)
    expected = header(version, 0x00040006, nr_pages, vaddr, dst_id)
    assert bytes(out)[: len(expected)] == expected
    assert not any(bytes(out)[len(expected) :])


@given(
    version=st.sampled_from([1, 2]), nr_pages=PAGES, page=st.integers(0, 2**51), dst_id=U64, padding=st.integers(0, 99)
)
def test_headers_are_read_back_whatever_the_padding(wire, version, nr_pages, page, dst_id, padding) -> None:
    raw = header(version, 0x00040006, nr_pages, page * 4096, dst_id, padding)
    error, h = unpack(wire, version, raw)
    assert error == 0
    assert (h.cmd, h.flags, h.nr_pages, h.vaddr, h.dst_id) == (ADD_F, 4, nr_pages, page * 4096, dst_id)


@given(version=st.sampled_from([1, 2]), raw=st.binary(min_size=32, max_size=32))
def test_any_bytes_are_read_without_harm(wire, version: int, raw: bytes) -> None:
    ffi, lib = wire
    error, h = unpack(wire, version, raw)
    assert error in (0, -74)
    if lib.cl_wire_refuse_get(h, 2**16) == ffi.NULL:
        assert error == 0
        assert h.cmd == GET
        assert h.vaddr % 4096 == 0
        assert h.vaddr + h.nr_pages * 4096 <= 2**64
    lib.cl_wire_tell_version(ffi.from_buffer(raw))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("cmd", "nr_pages", "vaddr"),
    [
        (0x55, 1, 4096),  # no such command
        (0, 0, 0),
        (GET, 1, 4097),  # not page aligned
        (GET, 2, 2**64 - 4096),  # one page past the end
        (ADD_F, 2**32 - 1, 2**64 - 2**43),
    ],
)
def test_malformed_headers_are_refused(wire, version: int, cmd: int, nr_pages: int, vaddr: int) -> None:
    assert unpack(wire, version, header(version, cmd, nr_pages, vaddr, 1))[0] == -74


@pytest.mark.parametrize("version", [1, 2])
def test_a_range_may_reach_the_end_of_the_address_space(wire, version: int) -> None:
    assert unpack(wire, version, header(version, GET, 1, 2**64 - 4096, 1))[0] == 0


@pytest.mark.parametrize(
    ("nr_pages", "vaddr", "dst_id", "refused"),
    [
        (1, 4096, 1, False),
        (1024, 4096, 2**22 - 1, False),
        (1025, 4096, 1, True),
        (0, 4096, 1, True),
        (1, 4096, 0, True),
        (1, 4096, 2**22, True),
    ],
)
def test_only_plausible_gets_pass(wire, nr_pages: int, vaddr: int, dst_id: int, refused: bool) -> None:
    ffi, lib = wire
    _, h = unpack(wire, 2, header(2, GET, nr_pages, vaddr, dst_id))
    assert (lib.cl_wire_refuse_get(h, 1024) != ffi.NULL) == refused


@given(nr_pages=PAGES, page=st.integers(1, 2**51), dst_id=PID)
def test_a_version_1_get_is_never_taken_for_version_2(wire, nr_pages: int, page: int, dst_id: int) -> None:
    ffi, lib = wire
    assert lib.cl_wire_tell_version(ffi.from_buffer(header(1, GET, nr_pages, page * 4096, dst_id))) in (0, 1)


@given(nr_pages=PAGES, page=st.integers(1, 2**51), dst_id=PID, padding=st.integers(0, 2**32 - 1))
def test_a_version_2_get_is_never_taken_for_version_1(wire, nr_pages, page, dst_id, padding) -> None:
    ffi, lib = wire
    raw = header(2, GET, nr_pages, page * 4096, dst_id, padding)
    assert lib.cl_wire_tell_version(ffi.from_buffer(raw)) in (0, 2)


def test_ordinary_first_requests_tell_the_version(wire) -> None:
    ffi, lib = wire
    for vaddr in (0x400000, 0x555555554000, 0x7FFFF7DD5000):
        for nr_pages in (1, 16, 1000, 1024):
            for version in (1, 2):
                raw = header(version, GET, nr_pages, vaddr, 4711)
                assert lib.cl_wire_tell_version(ffi.from_buffer(raw)) == version
    assert lib.cl_wire_tell_version(ffi.from_buffer(header(2, CLOSE, 0, 0, 0))) == 0
