"""The package's modules, and what each imports of the others: each file read once."""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "doodle_dist"
# Where imports can stand: in no expression.
_BLOCKS = (ast.stmt, ast.excepthandler, ast.match_case)


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
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(file.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            continue
        todo += [one for one in ast.iter_child_nodes(node) if isinstance(one, _BLOCKS)]
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(file: Path) -> set[str]:
    """The modules of the package among them."""
    names = {
        name.removeprefix("doodle_dist.") for name in imports_of(file) if name.startswith("doodle_dist.")
    }
    return names & set(modules())
