"""The wheel holds exactly the packages of the tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from imports import ROOMS, ROOT, package_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_package_list_is_the_tree() -> None:
    """setuptools is told every package by name: a folder that is missing there is missing for every user."""
    folders = {path.parent for path in package_files()}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(
        ".".join(("fluidc", *folder.parts)) for folder in folders
    )


def test_every_folder_of_code_is_a_package() -> None:
    for path in package_files():
        assert (ROOT / path.parent / "__init__.py").exists(), f"{path.parent} has no __init__.py"


def test_the_rooms_are_packages_of_one_namespace() -> None:
    assert PROJECT["tool"]["setuptools"]["package-dir"] == {f"fluidc.{room}": room for room in ROOMS}
    assert not (ROOT / "__init__.py").exists()


def test_the_wheel_holds_the_tree(tmp_path: Path) -> None:
    """Built from a copy: setuptools leaves build/ behind, and would pick up stale modules from one."""
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"),
            *("--quiet", "--disable-pip-version-check", "--wheel-dir", str(wheels), str(source)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    (wheel,) = wheels.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    code = {f"fluidc/{path.relative_to(source)}" for room in ROOMS for path in (source / room).rglob("*.py")}
    typed = {f"fluidc/{room}/py.typed" for room in ROOMS}
    data = {f"fluidc/{path.relative_to(source)}" for path in (source / "frontend" / "api").glob("*.json")}
    assert data
    assert held == code | typed | data
