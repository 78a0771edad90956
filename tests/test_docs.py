"""The pages under docs/ that come from the code are what the code says, and links in any page lead somewhere."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]
)


@pytest.fixture(scope="module")
def make_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_says(make_reference: ModuleType) -> None:
    assert make_reference.stale() == [], "run: python docs/make_reference.py"


def test_the_reference_has_every_command_and_key(make_reference: ModuleType) -> None:
    commands, settings = make_reference.commands(), make_reference.config()
    assert "## doodle-dist data prepare" in commands
    assert "| `--set` KEY=VALUE |" in commands
    assert "| `gan.noise.sigma_start` | number, ≥ 0, ≤ 10 | 0.0 |" in settings


def test_a_page_that_is_not_current_is_named(
    make_reference: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, make in make_reference.PAGES.items():
        (tmp_path / name).write_text(make())
    monkeypatch.setattr(make_reference, "FOLDER", tmp_path)
    assert make_reference.stale() == []
    (tmp_path / "settings.md").write_text("of last week")
    (tmp_path / "presets.md").unlink()
    assert make_reference.stale() == ["settings.md", "presets.md"]


def anchors(page: Path) -> set[str]:
    """What headings can be linked by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        if "://" not in target:
            there = page.parent / target if target else page
            assert there.exists(), f"{page.relative_to(ROOT)} links to {target}"
            assert not anchor or anchor in anchors(there), (
                f"{page.relative_to(ROOT)} links to {target}#{anchor}"
            )


def test_pictures_are_used_and_say_what_they_show() -> None:
    shown = {
        (page.parent / target).resolve(): name
        for page in PAGES
        for name, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text())
    }
    assert set(shown) == {file.resolve() for file in (ROOT / "docs" / "images").iterdir()}
    assert all(len(name) > 10 for name in shown.values())
