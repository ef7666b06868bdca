"""The border between C and Python: one header, one stub that says the same, one package that uses it."""

from __future__ import annotations

import ast
import re

from paths import CHECKOUT

from criu_lazy_ext._engine import ffi, lib

PACKAGE = CHECKOUT / "criu_lazy_ext"
C_TYPES = {"void": "None", "char": "int", "_Bool": "bool"}
POINTERS = {"char *": "char_p", "char * *": "char_pp", "int32_t *": "int32_array", "uint64_t *": "uint64_array"}


def classes() -> dict[str, ast.ClassDef]:
    stub = ast.parse((PACKAGE / "_engine.pyi").read_text())
    return {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}


def declared(name: str) -> dict[str, str]:
    """The attributes of a class of the stub and their types, less what says that they may be NULL."""
    nodes = [node for node in classes()[name].body if isinstance(node, ast.AnnAssign)]
    return {ast.unparse(node.target): plain(node.annotation) for node in nodes}


def plain(annotation: ast.expr | None) -> str:
    assert annotation is not None
    return ast.unparse(annotation).removesuffix(" | Null")


def of_c(ctype: object) -> str:
    """How the stub is to name a C type."""
    name, kind = ctype.cname, ctype.kind  # type: ignore[attr-defined]
    if kind == "array":
        return "char_p" if ctype.item.cname == "char" else "Sequence[int]"  # type: ignore[attr-defined]
    if kind == "pointer":
        return POINTERS.get(name) or name.removeprefix("struct ").removesuffix(" *")
    return C_TYPES.get(name, "int")


def test_every_function_is_in_the_stub_with_its_types() -> None:
    stub = {node.name: node for node in classes()["Lib"].body if isinstance(node, ast.FunctionDef)}
    assert set(stub) == {name for name in dir(lib) if name.startswith("cl_")}
    for name, node in stub.items():
        c_type = ffi.typeof(getattr(lib, name))
        assert [plain(argument.annotation) for argument in node.args.args[1:]] == [of_c(c) for c in c_type.args], name
        assert plain(node.returns) == of_c(c_type.result), name


def test_every_constant_is_in_the_stub() -> None:
    names = [name for name in dir(lib) if name.startswith("CL_")]
    kinds = {name: "int" if isinstance(getattr(lib, name), int) else "char_p" for name in names}
    assert declared("Lib") == kinds


def test_every_struct_is_in_the_stub_with_its_fields() -> None:
    header = (CHECKOUT / "c_src/criu_lazy.h").read_text()
    structs = re.findall(r"^struct (cl_\w+) \{$", header, re.MULTILINE)
    opaque = re.findall(r"^struct (cl_\w+);$", header, re.MULTILINE)
    assert {*structs, *opaque} == {name for name in classes() if name.startswith("cl_")}
    for name in structs:
        fields = {field: of_c(info.type) for field, info in ffi.typeof(f"struct {name}").fields}
        assert declared(name) == fields, name
    for name in opaque:
        assert declared(name) == {}


def test_only_native_imports_the_engine() -> None:
    importers = set()
    for path in PACKAGE.glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if any("_engine" in f"{module}.{name}".split(".") for name in names):
                importers.add(path.relative_to(PACKAGE).parts[0])
    assert importers == {"native"}
