"""What packages export: every name is there, says what it is, and costs nothing until used."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import genkt

PACKAGE = Path(genkt.__file__).parent
EXPORTING = sorted(
    ".".join(["genkt", *stub.relative_to(PACKAGE).parts[:-1]])
    for stub in PACKAGE.rglob("__init__.pyi")
)


def test_the_packages_for_ones_own_code_export_names() -> None:
    wanted = (
        "losses", "methods", "metrics", "models", "data", "readers", "transfer_set", "stores",
        "generative", "generative.decoding", "retrieval", "retrieval.search", "synthesis",
        "training", "execution",
    )  # fmt: skip
    assert {f"genkt.{name}" for name in wanted} <= set(EXPORTING)


@pytest.mark.parametrize("name", ["genkt", *EXPORTING])
def test_every_exported_name_resolves_and_is_documented(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__doc__ and len(package.__all__) == len(set(package.__all__)) > 0
    assert set(package.__all__) <= set(dir(package))
    for each in package.__all__:
        value = getattr(package, each)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{each}"
            assert value.__doc__ is not None, f"{name}.{each}"
        assert not inspect.ismodule(value), f"{name}.{each} is a module"
    with pytest.raises(AttributeError):
        package.no_such_name  # noqa: B018


def test_a_function_is_not_hidden_by_its_module() -> None:
    importlib.import_module("genkt.metrics.logme")
    from genkt.execution import run_tasks
    from genkt.metrics import logme

    assert inspect.isfunction(logme) and inspect.isfunction(run_tasks)


def test_importing_packages_imports_no_torch() -> None:
    code = (
        f"import sys, {', '.join(EXPORTING)}; print({{'torch', 'timm', 'PIL'}} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_a_star_brings_the_exported_names() -> None:
    known: dict[str, object] = {}
    exec("from genkt.losses import *", known)
    assert {"kernel_distance", "linear_kernel"} <= known.keys()
