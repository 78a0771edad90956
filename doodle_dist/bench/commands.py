"""Commands that benchmarks run, each in a process of its own."""

import subprocess

from doodle_dist.errors import WorkFailedError


def output_of(command: list[str]) -> str:
    """What a command printed. Raises WorkFailedError, with the last that it said, where it failed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise WorkFailedError(f"{said[-1]} (of {' '.join(command[1:])})")
    return done.stdout
