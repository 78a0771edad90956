"""A drawing's way, from a file to a gradient to a figure, runs one way through the package."""

from pathlib import Path

from tests.imports import imports_of, modules, ours

# From the bottom to the top. A module imports from its own package and from layers below, not from its neighbours.
LAYERS = (
    {"collector", "errors", "log", "pictures", "progress_line", "reading"},
    {"config"},
    {"ray_cluster"},
    {"data"},
    {"losses", "models", "schedules"},
    {"metrics"},
    {"run"},
    {"training"},
    {"evaluation"},
    {"train"},
    {"tuning"},
    {"tune"},
    {"bench", "doctor"},
    {"commands"},
    {"cli"},
)
LAYER = {package: number for number, layer in enumerate(LAYERS) for package in layer}
# `python -m doodle_dist.doctor`: the command line, from inside of what it calls.
PROGRAMS = {"doctor.__main__"}


def package_of(module: str) -> str:
    return module.partition(".")[0]


def upwards(module: str, imported: set[str]) -> set[str]:
    """What a module may not import."""
    own = package_of(module)
    return {name for name in imported if package_of(name) != own and LAYER[package_of(name)] >= LAYER[own]}


def test_imports_point_to_lower_layers() -> None:
    known = sorted(set(modules()) - PROGRAMS)
    assert {name: wrong for name in known if (wrong := upwards(name, ours(modules()[name])))} == {}


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {name: ours(file) - {name} for name, file in modules().items()}
    while free := {name for name, imported in graph.items() if not imported}:
        graph = {name: imported - free for name, imported in graph.items() if name not in free}
    assert not graph, "in a circle, or above one"


def test_the_rule_finds_what_it_is_about(tmp_path: Path) -> None:
    file = tmp_path / "shards.py"
    file.write_text(
        "from doodle_dist.data import order\n"
        "def late():\n    from doodle_dist.training.loop import train\n"
        'if __name__ == "__main__":\n    from doodle_dist.cli import main\n'
    )
    assert ours(file) == {"data.order", "training.loop"}
    assert "doodle_dist.cli" not in imports_of(file)
    assert upwards("data.shards", ours(file)) == {"training.loop"}
    assert upwards("models.layers", {"losses", "config.model"}) == {"losses"}
