"""What a terminal of 80 columns shows of commands and presets is whole."""

import sys

import pytest

from doodle_dist import cli
from doodle_dist.config.load import preset_names, preset_text
from doodle_dist.tuning.naming import point_line


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    assert not stop.value.code
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("group", [(), ("data",), ("config",), ("runs",), ("bench",)])
def test_no_command_s_line_of_help_is_cut(
    group: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, *group, "--help")
    commands = lines[lines.index("Commands:") + 1 :]
    assert len(commands) >= 3
    assert [line for line in commands if line.endswith("...") or len(line) > 80] == []


@pytest.mark.parametrize("in_a_terminal", [True, False])
def test_presets_are_listed_whole(
    in_a_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: in_a_terminal)
    lines = shown(capsys, "config", "list")
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(preset_names())
    assert (len(lines) == len(preset_names())) is not in_a_terminal
    assert not in_a_terminal or max(map(len, lines)) <= 80
    for name in preset_names():
        assert preset_text(name).splitlines()[0].lstrip("# ") in " ".join(" ".join(lines).split())


@pytest.mark.parametrize("in_a_terminal", [True, False])
def test_a_point_of_a_search_is_told_whole(in_a_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: in_a_terminal)
    point = {f"optim.net{k}.{name}": 0.00123 for k in range(3) for name in ("lr", "weight_decay", "beta1")}
    lines = point_line(7, point, list(point)).splitlines()
    assert (len(lines) == 1) is not in_a_terminal
    assert not in_a_terminal or max(map(len, lines)) <= 80
    assert " ".join(lines).split() == ["7", *(f"{key.removeprefix('optim.')}=0.00123" for key in point)]
