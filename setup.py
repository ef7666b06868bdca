"""Build entry point: the metadata is in pyproject.toml, the C extension in criu_lazy_ext/_engine_build.py."""

from setuptools import setup

setup(cffi_modules=["criu_lazy_ext/_engine_build.py:ffibuilder"])
