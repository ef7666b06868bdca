"""Build entry point: the metadata is in pyproject.toml, the C extension in criu_lazy_ext/_engine_build.py."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext


class BuildEngine(build_ext):
    """Compiles on all CPUs, and only what is older than its source or any header."""

    def build_extension(self, ext: Any) -> None:
        compile_some = self.compiler.compile
        headers = max((Path(header).stat().st_mtime for header in ext.depends), default=0.0)

        def compile_one(source: str, arguments: dict[str, Any]) -> str:
            [built] = self.compiler.object_filenames([source], output_dir=arguments.get("output_dir") or "")
            needed = max(headers, Path(source).stat().st_mtime)
            if not Path(built).exists() or Path(built).stat().st_mtime <= needed:
                compile_some([source], **arguments)
            return str(built)

        def compile_all(sources: list[str], **arguments: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return list(pool.map(lambda source: compile_one(source, arguments), sources))

        self.compiler.compile = compile_all
        super().build_extension(ext)


setup(cffi_modules=["criu_lazy_ext/_engine_build.py:ffibuilder"], cmdclass={"build_ext": BuildEngine})
