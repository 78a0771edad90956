"""What a search leaves behind: its ranking, its page, and a preset that is the best trial's experiment."""

import io
import itertools
import re
import shlex
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import orjson
import pytest
from PIL import Image

from doodle_dist.config.load import load_experiment, load_run
from doodle_dist.config.search import experiment_with
from doodle_dist.data import locations, storage
from doodle_dist.tuning.found import found_by, retrain_command
from doodle_dist.tuning.ledger import SearchRecord
from doodle_dist.tuning.report import (
    best_experiment,
    best_toml,
    leaderboard,
    leaderboard_lines,
    print_leaderboard,
    write_report,
)
from tests.tuning.records import asha, base_of, pbt

pytestmark = pytest.mark.slow  # together: a report with all its plots is made for nearly every one


def without_results(record: SearchRecord) -> SearchRecord:
    for trial in record.trials.values():
        trial.results = []
    return record


def test_the_trial_that_got_further_stands_before_one_with_a_better_figure_early() -> None:
    record = asha()
    early = next(trial for trial in record.trials.values() if trial.drawings_seen == 1_250)
    early.results[-1] = replace(early.results[-1], objective=0.001)
    rows = leaderboard(record, top=0)
    assert [row.place for row in rows] == list(range(1, 61))
    assert [row.drawings_seen for row in rows] == sorted((row.drawings_seen for row in rows), reverse=True)
    for one, after in itertools.pairwise(rows):
        assert one.drawings_seen > after.drawings_seen or one.objective <= after.objective
    assert rows[0].drawings_seen == 20_000
    assert next(row for row in rows if row.drawings_seen == 1_250).trial == early.number
    assert leaderboard(record, top=3) == rows[:3]


def test_best_toml_is_the_best_trial_s_experiment(tmp_path: Path) -> None:
    record = asha()
    assert record.best is not None
    trial, _ = record.best
    file = tmp_path / "best.toml"
    file.write_text(best_toml(record))
    ran = experiment_with(base_of(record), trial.settings)
    loaded = load_experiment(str(file))
    assert loaded == ran.model_copy(update={"preset": str(file), "run": "", "storage": "runs"})
    assert loaded.model_copy(update={"preset": "doodle-gan-small"}) == best_experiment(record)
    assert loaded.train.drawings == record.request.config.drawings
    assert loaded.gan.adversarial.r2_gamma_start == loaded.gan.adversarial.r1_gamma_start
    assert load_run(str(file), ["seed=7"], {}).run == "best"
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert any(f"Trial {trial.number} with seed 0" in line and "20,000 drawings" in line for line in header)


def test_best_toml_of_a_population_has_its_last_settings_and_says_so(tmp_path: Path) -> None:
    record = pbt()
    assert record.best is not None
    file = tmp_path / "best.toml"
    file.write_text(best_toml(record))
    last = record.best[1].settings
    assert (
        load_experiment(str(file)).optim.generator == experiment_with(base_of(record), last).optim.generator
    )
    assert "alone don't repeat it" in file.read_text()
    assert "alone don't repeat it" not in best_toml(asha())


def test_a_name_can_write_nothing_into_the_preset(tmp_path: Path) -> None:
    record = asha(16, uri='/runs/a\nseed = 99\n# "\x00')
    file = tmp_path / "best.toml"
    file.write_text(best_toml(record))
    assert load_experiment(str(file)).seed == 0


def test_a_trial_that_was_cut_short_is_told_from_a_whole_one() -> None:
    record = asha()
    for trial in record.trials.values():
        trial.results = trial.results[:1]
    assert "was not trained to its end, 20,000 drawings" in best_toml(record)
    assert "was not trained to its end" not in best_toml(asha())


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@dataclass(frozen=True)
class Written:
    """A search, its report's folder, and what `write_report` says it wrote."""

    record: SearchRecord
    folder: Path
    uris: list[str]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    """The reports of one search of each kind: their pictures take seconds."""
    reports = {}
    for name, record in (("asha", asha()), ("pbt", pbt())):
        folder = tmp_path_factory.mktemp(name)
        reports[name] = Written(record, folder, write_report(record, str(folder)))
    return reports


@pytest.mark.parametrize(("name", "third"), [("asha", "importance.png"), ("pbt", "pbt-schedules.png")])
def test_a_report_is_whole_and_needs_no_network(written: dict[str, Written], name: str, third: str) -> None:
    record, folder = written[name].record, written[name].folder
    pictures = {"objective-by-axis.png", "best-so-far.png", third}
    names = {path.name for path in folder.iterdir()}
    assert names == pictures | {"best.toml", "leaderboard.json", "report.html"}
    assert {locations.basename(uri) for uri in written[name].uris} == names
    for picture in pictures:
        Image.open(folder / picture).verify()
    page = Page((folder / "report.html").read_text())
    assert page.count("img") == len(pictures)
    assert all(
        (tags["src"] or "").startswith("data:image/png;base64,") for tag, tags in page.tags if tag == "img"
    )
    assert all(tags.get("alt") for tag, tags in page.tags if tag == "img")
    assert page.count("table") == page.count("caption") > 2
    assert page.count("script") == 0
    assert not re.search(r"(src|href)=\"(https?:)?//", (folder / "report.html").read_text())
    assert "flattered by its selection" in page.text
    assert retrain_command(record) in page.text
    assert best_toml(record) in page.text


def test_what_comes_from_data_is_never_markup(tmp_path: Path) -> None:
    record = asha(uri="/runs/<script>alert(1)</script>")
    for trial in record.trials.values():
        trial.reason = '<img src=x onerror=alert(1)>" & </td>' if trial.status == "failed" else ""
        trial.settings = dict(trial.settings)
    write_report(record, str(tmp_path))
    page = Page((tmp_path / "report.html").read_text())
    assert page.count("script") == 0
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert page.count("img") == 3
    assert '<img src=x onerror=alert(1)>" & </td>' in page.text


def test_a_search_without_a_result_still_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, record in (("failed", without_results(asha())), ("none", asha(0))):
        write_report(record, str(tmp_path / name))
        assert {path.name for path in (tmp_path / name).iterdir()} == {"leaderboard.json", "report.html"}
        page = Page((tmp_path / name / "report.html").read_text())
        assert "No trial has reached an objective" in page.text
        print_leaderboard(record)
        assert "no trial has reached an objective" in capsys.readouterr().out
        with pytest.raises(ValueError, match="no trial has an objective"):
            best_toml(record)
    assert "the critic's loss is nan" in (tmp_path / "failed" / "report.html").read_text().replace(
        "&#x27;", "'"
    )


def test_the_json_is_all_that_was_found(
    written: dict[str, Written], capsys: pytest.CaptureFixture[str]
) -> None:
    record = written["asha"].record
    print_leaderboard(record, as_json=True)
    printed = orjson.loads(capsys.readouterr().out)
    assert printed == orjson.loads((written["asha"].folder / "leaderboard.json").read_bytes())
    assert len(printed["leaderboard"]) == 60
    assert [one["trial"] for one in printed["failed"]] == [15, 31, 47, 63]
    assert sum(printed["importance"].values()) == pytest.approx(1)
    assert printed["trials"] == {"stopped": 57, "failed": 4, "finished": 3}
    assert printed["drawings_seen"] == record.drawings_seen
    population = found_by(pbt())
    assert population.copies == 14
    assert population.lineage[0].drawings_from == 0


def test_the_leaderboard_fits_a_terminal_of_80_columns() -> None:
    for record in (asha(), pbt(), without_results(asha())):
        lines = leaderboard_lines(record, 80)
        exempt = ("report ", "best ", "  for seed")
        assert all(len(line) <= 80 for line in lines if not line.startswith(exempt))
    lines = leaderboard_lines(asha())
    assert sum("the critic's loss is nan" in line for line in lines) == 4


def test_the_command_trains_with_seeds_that_the_search_has_not_used() -> None:
    record = asha(16, uri="/runs/my search")
    words = shlex.split(retrain_command(record))
    assert "/runs/my search/best.toml" in words
    assert words[3:6] == ["1", "2", "3;"]
    assert "--run search-best-$seed;" in retrain_command(asha(16, uri="s3://bucket/runs/search"))
    assert "--run pbt-best-$seed;" in retrain_command(asha(16, uri="s3://bucket/runs/pbt")), (
        "not the same runs"
    )
    record.trials[0].settings = record.trials[0].settings | {"seed": 41}
    assert "in 42 43 44;" in retrain_command(record)


def test_a_report_goes_into_an_object_store(s3_bucket: str) -> None:
    record = asha(16)
    write_report(record, locations.join(s3_bucket, "search"))
    data = storage.read_bytes(locations.join(s3_bucket, "search", "objective-by-axis.png"))
    Image.open(io.BytesIO(data)).verify()
    assert b"<!doctype html>" in storage.read_bytes(locations.join(s3_bucket, "search", "report.html"))
