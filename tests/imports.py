"""The package's modules, and what each imports of the others: each file read once, for hundreds of tests."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "doodle_dist"


@cache
def modules() -> dict[str, Path]:
    """Names without ``doodle_dist.``, and files."""
    return {
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts): file
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.name != "__init__.py"
    }


@cache
def imports_of(file: Path) -> set[str]:
    """Every name that a file imports, in functions too, but not where it is only run as a program."""
    found = set()
    for node in _nodes(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            continue
        yield node
        yield from _nodes(node)


def ours(file: Path) -> set[str]:
    """The modules of the package among them."""
    names = {
        name.removeprefix("doodle_dist.") for name in imports_of(file) if name.startswith("doodle_dist.")
    }
    return names & set(modules())
