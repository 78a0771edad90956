"""Modules know no more than they need, and the command line starts without the heavy ones."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.imports import imports_of, modules, ours

STORAGE = {"data.locations", "data.storage", "data.storage_errors"}
# The doctor's, which knows facts and no cluster.
JUDGEMENT = {
    "doctor.check_files",
    "doctor.check_network",
    "doctor.check_ray",
    "doctor.check_room",
    "doctor.facts",
    "doctor.findings",
    "doctor.sizes",
}

# What may be imported of ours where layers (test_layers.py) would allow more. The longest prefix that fits a module
# decides.
ALLOWED = {
    "collector": set(),
    "errors": set(),
    "log": set(),
    "pictures": set(),
    "progress_line": set(),
    "reading": set(),
    "ray_cluster": {"config.experiment", "log", "reading"},
    "config": {"config", "reading"},
    "data": {"collector", "data", "errors", "reading"},
    # What the `data` commands do: they start Ray, tell how far they are, and show drawings.
    "data.commands": {"data", "errors", "log", "pictures", "ray_cluster"},
    "models": {"config.model", "models"},
    "losses": set(),
    "schedules": {"config.gan", "config.model", "config.optim"},
    "metrics": {"metrics"},
    "run": {"config", *STORAGE, "data.jsonl", "errors", "models", "run"},
    "evaluation.in_memory": {"errors", "pictures", "training.task"},
    # What a node says of itself runs where nothing of ours may be installed.
    "doctor.probe": {*STORAGE, "data.manifest"},
    **{name: {"config", "doctor.facts", "doctor.findings", "doctor.sizes", "reading"} for name in JUDGEMENT},
    "commands.options": set(),
}
RAY_TRAIN_ONLY_IN = {
    "train",
    "training.entry",
    "training.ray_context",
    "training.ray_trainer",
    "training.torch_backend",
}
WITHOUT = {"models": {"ray", "pyarrow"}, "losses": {"ray"}, "config": {"ray", "torch", "numpy"}}


def fits(name: str, prefixes: set[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def beyond(module: str) -> set[str]:
    """What a module imports and may not."""
    file = modules()[module]
    wrong, others = set(), imports_of(file)
    if rules := [prefix for prefix in ALLOWED if fits(module, {prefix})]:
        wrong |= {name for name in ours(file) if not fits(name, ALLOWED[max(rules, key=len)])}
    if module not in RAY_TRAIN_ONLY_IN:
        wrong |= {name for name in others if fits(name, {"ray.train"})}
    for prefix, banned in WITHOUT.items():
        if fits(module, {prefix}):
            wrong |= {name for name in others if fits(name, banned)}
    return wrong


def test_modules_import_no_more_than_they_may() -> None:
    assert len(modules()) > 200
    assert {module: wrong for module in modules() if (wrong := beyond(module))} == {}


def test_the_rules_find_what_they_are_about(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "heads.py"
    file.write_text("import ray.train\ntry:\n    from doodle_dist.data import order\nfinally:\n    pass\n")
    monkeypatch.setitem(modules(), "models.heads", file)
    assert beyond("models.heads") == {"data.order", "ray.train"}


def test_help_imports_neither_ray_nor_torch() -> None:
    code = (
        "import sys; sys.argv=['doodle-dist', '--help']\n"
        "from doodle_dist.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'ray', 'torch', 'numpy', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_look_at_a_run_and_its_driver_import_no_torch() -> None:
    names = ("run.folder", "evaluation.audit_check", "train", "training.ray_trainer")
    code = f"import sys, {', '.join(f'doodle_dist.{name}' for name in names)}\nprint('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "False"
