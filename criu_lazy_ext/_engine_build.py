"""cffi build of the C engine (c_src/) as criu_lazy_ext._engine; used by setup.py only.

TLS needs OpenSSL 3 (Debian's libssl-dev); without it the build succeeds, and --tls is refused at run time. So does
compression LZ4 and zstd (liblz4-dev, libzstd-dev); without both, pages are pushed as they are. xxHash (libxxhash-dev)
is compiled in, and not needed later; without it --precopy is refused.
CRIU_LAZY_SANITIZE=address,undefined or =thread makes a sanitizer build.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from cffi import FFI

C_SRC = Path(__file__).resolve().parent.parent / "c_src"
BORDER = "criu_lazy.h"


def declarations(header: str) -> str:
    """The part of the header between the CFFI markers for cffi: without comments, texts declared as pointers."""
    part = header.split("/* CFFI-BEGIN */", 1)[1].split("/* CFFI-END */", 1)[0]
    part = re.sub(r"/\*.*?\*/", "", part, flags=re.DOTALL)
    return re.sub(r'^#define (\w+) +".*"', r"static const char *const \1;", part, flags=re.MULTILINE)


def flags() -> tuple[list[str], list[str]]:
    """Compiler and linker flags."""
    compile_flags = ["-std=c11", "-O2", "-g", "-D_GNU_SOURCE", "-pthread", "-Wall", "-Wextra", "-Wshadow"]
    # cffi's generated glue is not ours to keep free of unused parameters.
    compile_flags += ["-Wno-unused-parameter", "-Wno-missing-field-initializers"]
    link_flags = ["-pthread"]
    sanitize = os.environ.get("CRIU_LAZY_SANITIZE")
    if sanitize:
        compile_flags += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-O1"]
        link_flags += [f"-fsanitize={sanitize}"]
    return compile_flags, link_flags


def has_libraries(names: tuple[str, ...], program: str) -> bool:
    """Whether `program` compiles and links with these libraries here."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as directory:
        output = str(Path(directory) / "program")
        command = [*compiler, "-x", "c", "-", "-o", output, *(f"-l{name}" for name in names)]
        try:
            return subprocess.run(command, input=program, text=True, capture_output=True).returncode == 0
        except OSError:
            return False


# Macro, libraries, a program that needs them, and what is missing without them.
OPTIONAL: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    (
        "CL_WITH_TLS",
        ("ssl", "crypto"),
        "#include <openssl/ssl.h>\nint main(void) { return SSL_CTX_new_ex(NULL, NULL, TLS_method()) == NULL; }\n",
        "no OpenSSL 3 (libssl-dev) here: building without TLS",
    ),
    (
        "CL_WITH_LZ4",
        ("lz4",),
        "#include <lz4.h>\nint main(void) { return LZ4_versionNumber() == 0; }\n",
        "no LZ4 (liblz4-dev) here: building without its compression",
    ),
    (
        "CL_WITH_ZSTD",
        ("zstd",),
        "#include <zstd.h>\nint main(void) { return ZSTD_versionNumber() == 0; }\n",
        "no zstd (libzstd-dev) here: building without its compression",
    ),
    (
        "CL_WITH_XXHASH",
        (),
        "#define XXH_INLINE_ALL\n#include <xxhash.h>\n"
        "int main(void) { return XXH3_128bits_withSecret(XXH3_kSecret, 8, XXH3_kSecret, 192).low64 == 0; }\n",
        "no xxHash (libxxhash-dev) here: building without --precopy",
    ),
)

compile_args, link_args = flags()
found = [(macro, libraries) for macro, libraries, program, _ in OPTIONAL if has_libraries(libraries, program)]
for macro, _libraries, _program, without in OPTIONAL:
    if macro not in dict(found):
        print(f"criu-lazy: {without}", file=sys.stderr)
ffibuilder = FFI()
ffibuilder.cdef(declarations((C_SRC / BORDER).read_text()))
ffibuilder.set_source(
    "criu_lazy_ext._engine",
    f'#include "{BORDER}"',
    sources=[os.path.relpath(source, C_SRC.parent) for source in sorted(C_SRC.glob("*/*.c"))],
    include_dirs=[os.path.relpath(C_SRC, C_SRC.parent)],
    depends=[os.path.relpath(header, C_SRC.parent) for header in sorted(C_SRC.glob("**/*.h"))],
    define_macros=[(macro, "1") for macro, _ in found],
    libraries=[name for _, names in found for name in names],
    extra_compile_args=compile_args,
    extra_link_args=link_args,
)
