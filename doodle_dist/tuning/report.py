"""What a person gets at a search's end: a leaderboard, pictures, a page, and the best trial as a preset."""

import shutil
import textwrap
from collections.abc import Mapping

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import build, overlay, to_toml
from doodle_dist.config.search import experiment_with
from doodle_dist.data import locations, storage
from doodle_dist.progress_line import duration
from doodle_dist.tuning import plots
from doodle_dist.tuning.courses import lineage
from doodle_dist.tuning.found import (
    BEST,
    BY_AXIS,
    IMPORTANCE,
    LEADERBOARD,
    REPORT,
    SCHEDULES,
    SO_FAR,
    Found,
    Row,
    base_of,
    counted,
    failures,
    figure,
    flattered,
    found_by,
    found_json,
    leaderboard,
    retrain_command,
)
from doodle_dist.tuning.ledger import Result, SearchRecord, TrialRecord
from doodle_dist.tuning.naming import short
from doodle_dist.tuning.report_page import page_of

_FAILED_SHOWN = 5
_PLAIN_COLUMNS = 80


def print_leaderboard(record: SearchRecord, *, as_json: bool = False) -> None:
    """The best trials, the failed ones and where everything lies; as JSON, all of `Found`."""
    if as_json:
        print(found_json(found_by(record)).decode())
        return
    columns = min(max(shutil.get_terminal_size((_PLAIN_COLUMNS, 24)).columns, 60), 160)
    print("\n".join(leaderboard_lines(record, columns)))


def leaderboard_lines(record: SearchRecord, columns: int = _PLAIN_COLUMNS) -> list[str]:
    """The leaderboard as plain text, no line longer than ``columns`` but for locations and the command."""
    rows = leaderboard(record)
    lines = _ranking(record, rows, columns) if rows else ["no trial has reached an objective"]
    lines += ["", *_failed(record, columns)]
    said = f"{counted(record)}; {record.drawings_seen:,} drawings in {duration(record.elapsed_s)}"
    lines += textwrap.wrap(said, columns)
    where = locations.public(record.uri)
    lines.append(f"report      {locations.join(where, REPORT)}")
    if rows:
        lines.append(f"best        {locations.join(where, BEST)}")
        lines += ["", *textwrap.wrap(flattered(record), columns), f"  {retrain_command(record)}"]
    return lines


def _ranking(record: SearchRecord, rows: list[Row], columns: int) -> list[str]:
    lines = [f"{'':3} {'trial':>5} {'drawings':>10} {'objective':>10}  {record.objective}"]
    indent = " " * 4
    for row in rows:
        lines.append(
            f"{row.place:3} {row.trial:5} {row.drawings_seen:10,} {figure(row.objective):>10}  {row.status}"
            + (f"; fresh seeds {row.fresh}" if row.fresh else "")
        )
        settings = short(row.settings, record)
        lines += textwrap.wrap(settings, columns, initial_indent=indent, subsequent_indent=indent)
    return lines


def _failed(record: SearchRecord, columns: int) -> list[str]:
    failed = failures(record)
    if not failed:
        return []
    lines = [f"failed: {len(failed)} of {len(record.trials)} trials"]
    for failure in failed[:_FAILED_SHOWN]:
        reason = textwrap.shorten(failure.reason, columns - 11, placeholder=" …")
        lines.append(f"{failure.trial:9}  {reason}")
    if len(failed) > _FAILED_SHOWN:
        lines.append(f"{'':9}  and {len(failed) - _FAILED_SHOWN} more in {LEADERBOARD}")
    return [*lines, ""]


# --- the best trial as a preset ---------------------------------------------------------------------------


def best_experiment(record: SearchRecord) -> Experiment:
    """What the best trial ran, as an experiment without a run's name, its runs in the usual place.

    Raises ValueError where no trial has an objective.
    """
    _, result = _best(record)
    whole = experiment_with(base_of(record), result.settings)
    usual = {"run": "", "storage": Experiment.model_fields["storage"].default}
    return build(overlay(whole.model_dump(exclude_unset=True), usual))


def best_toml(record: SearchRecord) -> str:
    """`best_experiment` as TOML that says where it comes from. Raises ValueError where no trial has an objective."""
    trial, result = _best(record)
    experiment, request = best_experiment(record), record.request
    length, reached = experiment.train.drawings, figure(result.objective or 0.0)
    lines = [
        "The best trial of a search, every setting of it:",
        "",
        f"  doodle-dist train {BEST}",
        "",
        f"Search: {locations.public(record.uri)}, {request.trials} trials, {request.scheduler}, {request.searcher}, "
        f"seed {request.seed}.",
        f"Trial {trial.number} with seed {experiment.seed} reached {record.objective} {reached} "
        f"at {result.drawings_seen:,} drawings seen.",
        *_how_good(record, trial),
    ]
    if length and result.drawings_seen < length:
        lines.append(f"It was not trained to its end, {length:,} drawings, on which its schedules depend.")
    way = lineage(record, trial.number)
    if len({tuple(sorted(stretch.settings.items())) for stretch in way}) > 1:
        lines += ["Settings were changed while it trained; below are the last, which alone don't repeat it:"]
        lines += [
            f"  drawings {one.drawings_from:,} to {one.drawings_to:,}, trial {one.trial}: {short(one.settings, record)}"
            for one in way
        ]
    return to_toml(experiment, lines)


def _how_good(record: SearchRecord, best: TrialRecord) -> list[str]:
    """What the best trial's settings are worth, as far as the search knows."""
    if best.number not in record.confirmed:
        return [
            f"The best of {len(record.ranked())} is flattered by its selection: train it with other seeds "
            "(--set seed=… --run …)."
        ]
    row = next(row for row in leaderboard(record) if row.trial == best.number)
    seeds = [int(end.settings["seed"]) for end in record.confirmed[best.number]]
    return [f"With fresh seeds ({', '.join(map(str, seeds))}): {row.fresh}."]


def _best(record: SearchRecord) -> tuple[TrialRecord, Result]:
    if record.best is None:
        raise ValueError(f"search {locations.public(record.uri)}: no trial has an objective")
    return record.best


# --- the folder -------------------------------------------------------------------------------------------


def write_report(record: SearchRecord, folder_uri: str) -> list[str]:
    """Write everything into a folder, local or in an object store; the URIs of what was written.

    Always `leaderboard.json` and `report.html`; where a trial has an objective also `best.toml` and the pictures.
    """
    found, base = found_by(record), base_of(record)
    best = best_toml(record) if record.best else ""
    # What hours of trials were for comes first, and pictures after it.
    figures = {LEADERBOARD: found_json(found)} | ({BEST: best.encode()} if best else {})
    written = _written(folder_uri, figures)
    pictures = draw_pictures(record, base, found)
    return written + _written(
        folder_uri, pictures | {REPORT: page_of(record, base, found, pictures, best).encode()}
    )


def _written(folder_uri: str, files: Mapping[str, bytes]) -> list[str]:
    """The URIs of files, by their names, that were written."""
    for name, data in files.items():
        storage.write_atomic(locations.join(folder_uri, name), data)
    return [locations.join(folder_uri, name) for name in files]


def draw_pictures(record: SearchRecord, base: Experiment, found: Found) -> dict[str, bytes]:
    """The PNGs of a search by their files' names: those for which there is something to draw."""
    if record.best is None:
        return {}
    pictures = {
        SO_FAR: plots.best_so_far_picture(record),
        BY_AXIS: plots.objective_by_axis(record, base),
    }
    if found.importance:
        pictures[IMPORTANCE] = plots.importance_bars(found.importance, found.importance_drawings)
    if record.request.scheduler == "pbt":
        pictures[SCHEDULES] = plots.pbt_schedules(record, base)
    return pictures
