"""Imports point downwards only, and the command line starts without the heavy ones."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "doodle_dist"

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

# What each layer may import of ours. The longest prefix that fits a module decides.
ALLOWED = {
    "config": {"config"},
    "data": {"data", "errors"},
    # What the `data` commands do: they start Ray, and show drawings.
    "data.commands": {"data", "errors", "ray_cluster", "evaluation.pictures"},
    "models": {"config.model", "models"},
    "losses": set(),
    "schedules": {"config.gan", "config.model", "config.optim"},
    "ray_cluster": set(),
    "errors": set(),
    "log": set(),
    "evaluation.progress_line": set(),
    "evaluation.watch": {*STORAGE, "errors", "evaluation"},
    "evaluation.classifier_metrics": set(),
    "evaluation.gan_metrics": {"evaluation.moments"},
    "evaluation.moments": set(),
    "evaluation.neighbourhoods": set(),
    "evaluation.pictures": set(),
    "evaluation.snapshot": {"config", *STORAGE, "errors", "models"},
    "evaluation": {"config", "data", "errors", "evaluation", "models", "ray_cluster", "training.audit"},
    "evaluation.in_memory": {"evaluation.pictures", "training.task"},
    # Trains a classifier to judge samples by it.
    "evaluation.classification_accuracy": {
        "config",
        "data",
        "evaluation",
        "training.classifier",
        "training.task",
    },
    "training": {"config", "data", "evaluation", "log", "losses", "models", "schedules", "training"},
    "training.worker": {"config", "data", "errors", "evaluation", "ray_cluster", "training"},
    "training.reasons": {"data", "errors", "evaluation.runs"},
    # Trains GANs and classifiers in memory.
    "evaluation.augment_training": {
        "config",
        "data",
        "errors",
        "evaluation",
        "models",
        "training.classifier",
        "training.gan",
        "training.task",
    },
    "evaluation.augment": {"config", "data", "errors", "evaluation", "models", "ray_cluster"},
    "train": {"config", "data", "errors", "evaluation.runs", "ray_cluster", "training", "cli"},
    # What a node says of itself runs where nothing of ours may be installed.
    "doctor.probe": {*STORAGE, "data.manifest"},
    "doctor.checks": {"config", *JUDGEMENT},
    **{name: {"config", "doctor.facts", "doctor.findings", "doctor.sizes"} for name in JUDGEMENT},
    "doctor": {"config", "data", "doctor", "errors", "ray_cluster"},
    "doctor.__main__": {"cli"},
    "tuning": {"config", "data", "errors", "evaluation", "ray_cluster", "training", "tuning"},
    # A search trains its evaluator first, and trials of several workers, as `train` does.
    "tuning.evaluator": {"config", "data", "errors", "evaluation.snapshot", "train", "training"},
    "tuning.on_workers": {"config", "data", "errors", "evaluation.runs", "train", "tuning"},
    "tune": {"cli", "config", "data", "errors", "ray_cluster", "train", "training", "tuning"},
    "bench": {
        "bench",
        "config",
        "data",
        "errors",
        "evaluation",
        "losses",
        "models",
        "ray_cluster",
        "training",
    },
    "cli": {"commands", "data", "errors", "log", "train", "tune"},
    # Inside the commands.
    "commands": {
        "bench",
        "commands.options",
        "config",
        "data",
        "doctor",
        "errors",
        "evaluation",
        "log",
        "train",
        "tune",
    },
    "commands.options": set(),
    "evaluation.export": {"config", "data", "errors", "evaluation"},
}
RAY_TRAIN_ONLY_IN = {"train", "training.context", "training.worker"}
WITHOUT = {"models": {"ray", "pyarrow"}, "losses": {"ray"}, "config": {"ray", "torch", "numpy"}}


def imports_of(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules() -> list[tuple[str, Path]]:
    return [
        (".".join(file.relative_to(PACKAGE).with_suffix("").parts), file)
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.name != "__init__.py"
    ]


def fits(name: str, prefixes: set[str]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize(("module", "file"), modules(), ids=[name for name, _ in modules()])
def test_imports_point_downwards(module: str, file: Path) -> None:
    layer = max((prefix for prefix in ALLOWED if fits(module, {prefix})), key=len)
    ours = {name.removeprefix("doodle_dist.") for name in imports_of(file) if name.startswith("doodle_dist.")}
    known = {name for name, _ in modules()}
    wrong = {name for name in ours if name in known and not fits(name, ALLOWED[layer])}
    assert not wrong, f"{module} imports {wrong}"
    others = imports_of(file)
    if module not in RAY_TRAIN_ONLY_IN:
        assert not {name for name in others if fits(name, {"ray.train"})}
    for prefix, banned in WITHOUT.items():
        if fits(module, {prefix}):
            assert not {name for name in others if fits(name, banned)}


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
