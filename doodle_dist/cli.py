"""The command line: its commands lie in commands/, whose heavy imports (ray, torch) happen only inside them."""

import logging
import os
import sys
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from doodle_dist import __version__
from doodle_dist.commands import bench, config, data, doctor, looking, runs, training, using
from doodle_dist.commands.options import Settings

app = typer.Typer(
    name="doodle-dist",
    help="Train doodle generators and classifiers on Quick, Draw!, from a laptop to a Ray cluster.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_INTERRUPTED = 130  # what Typer, without a word, makes of Ctrl-C

for part in (training, using, looking, doctor):
    app.add_typer(part.app)
for name, group in (("data", data), ("config", config), ("bench", bench), ("runs", runs)):
    app.add_typer(group.app, name=name)


def _say_version(is_asked: bool) -> None:
    if is_asked:
        print(f"doodle-dist {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks and Ray's own log")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_say_version, help="print the version, and end"),
    ] = False,
) -> None:
    Settings.debug = debug
    if os.environ.get("DOODLE_LOG"):
        from doodle_dist import log

        if log.wants_json():
            log.use_json()


def main(arguments: list[str] | None = None) -> None:
    """`doodle-dist`: exit code 0 done, 1 the work failed, 2 the request was wrong."""
    arguments = sys.argv[1:] if arguments is None else arguments
    is_debug = "--debug" in arguments
    if is_debug:  # wherever it stands: `python -m doodle_dist.train` has no place before its command
        arguments = ["--debug", *(word for word in arguments if word != "--debug")]
    try:
        code = app(args=arguments, prog_name="doodle-dist", standalone_mode=False) or 0
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):  # nothing was asked for: the help, which is no error's line
            print(message, file=sys.stderr)
            sys.exit(2)
        _fail(message, 2)
    except Exception as error:
        if is_debug:
            raise
        _fail(*_explain(error))
    if code == _INTERRUPTED:
        _fail("stopped; run the same command to go on", code)
    sys.exit(code)


def _explain(error: Exception) -> tuple[str, int]:
    """One line and an exit code for what went wrong. What nobody foresaw keeps its type's name."""
    from doodle_dist.data.storage_errors import StorageError
    from doodle_dist.errors import WorkFailedError, one_line, root_cause

    if "ray" in sys.modules and isinstance(error, sys.modules["ray"].exceptions.RayError):
        return one_line(root_cause(error)), 1  # one of a task's, under way, whatever it is there
    if isinstance(error, WorkFailedError):
        return one_line(error), 1
    if isinstance(error, (ValueError, StorageError)):
        return one_line(error), 2
    if isinstance(error, OSError) and error.filename:
        wrong_place = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
        return f"{error.filename}: {error.strerror}", 2 if isinstance(error, wrong_place) else 1
    return f"{type(error).__name__}: {one_line(error)} (--debug shows where)", 1


def _fail(message: str, code: int) -> NoReturn:
    from doodle_dist import log

    if log.is_json():
        log.tell(message, {"exit_code": code}, logging.ERROR)
        sys.exit(code)
    print(f"doodle-dist: {message}", file=sys.stderr)
    sys.exit(code)


def train_main() -> None:
    """`python -m doodle_dist.train`: the same function as `doodle-dist train`."""
    main(["train", *sys.argv[1:]])


def tune_main() -> None:
    """`python -m doodle_dist.tune`: the same function as `doodle-dist tune`."""
    main(["tune", *sys.argv[1:]])


if __name__ == "__main__":
    main()
