"""What pyproject.toml says: each dependency has its reason in the docs, and the wheel has every file of the package."""

import fnmatch
import re
import tomllib
from pathlib import Path

from doodle_dist.config.load import preset_names

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_each_dependency_has_its_reason_and_no_other_is_named() -> None:
    project = PYPROJECT["project"]
    wanted = [
        *project["dependencies"],
        *(one for ones in project["optional-dependencies"].values() for one in ones),
    ]
    names = {re.split(r"[\[<>=!~;\s]", one)[0] for one in wanted} - {project["name"]}
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \|(.*)\|(.*)\|$", page, re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(names), "each once"
    assert all(why.strip() for _, why, _ in rows)
    for extra, ones in project["optional-dependencies"].items():
        for one in ones:
            name = re.split(r"[\[<>=!~;\s]", one)[0]
            told = [why for row, why, _ in rows if row == name]
            assert not told or f"extra `{extra}`" in told[0], f"{name} is of the extra {extra}"


def test_every_file_of_the_package_is_in_the_wheel() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["doodle_dist"]
    package = ROOT / "doodle_dist"
    files = [
        str(file.relative_to(package))
        for file in package.rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc", ".nbi", ".nbc")
    ]
    assert len(files) > len(preset_names())
    assert [file for file in files if not any(fnmatch.fnmatch(file, one) for one in patterns)] == []
    folders = {file.parent for file in package.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == [], (
        "no package of setuptools'"
    )
