"""`doodle-dist doctor`: what is wrong with a cluster for a run, what that means, and how to mend it."""

import os
import re
import shlex
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import ray
from ray.exceptions import RayError

from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import planned, to_toml
from doodle_dist.data import locations
from doodle_dist.doctor.check_room import check_window
from doodle_dist.doctor.checks import check
from doodle_dist.doctor.collect import collect
from doodle_dist.doctor.facts import ClusterFacts, DataFacts
from doodle_dist.doctor.findings import Finding, as_json, as_text, would_fail
from doodle_dist.errors import WorkFailedError, one_line
from doodle_dist.ray_cluster import connect, need_of

_JOB_S = 600.0
_SHIPPED = "preset.toml"


def examine(
    experiment: Experiment, *, local: bool, wait_s: float, debug: bool = False
) -> tuple[list[Finding], ClusterFacts | None]:
    """The findings about the cluster of RAY_ADDRESS or of this machine, and the facts; None where none answers."""
    need = need_of(experiment)
    data = experiment.data.uri
    try:
        connect(need, local=local, debug=debug)
    except (ValueError, RuntimeError, OSError, RayError) as error:
        window = check_window(experiment, DataFacts()) if experiment.data.read != "worker" else ()
        return [_no_cluster(error), *window], None
    facts = collect(
        need,
        storage_uri=locations.absolute(experiment.storage),
        data_uri=locations.absolute(data) if data else "",
        wait_s=wait_s,
    )
    return check(facts, experiment), facts


def _no_cluster(error: Exception) -> Finding:
    said = one_line(error)
    if "ersion mismatch" in said:
        return Finding(
            "error",
            "versions",
            said,
            "Ray joins only a cluster of its own version, and of its Python's",
            "install the cluster's versions here, or submit a job: RAY_ADDRESS=http://head:8265",
        )
    if re.search("token|authenticat", said, re.IGNORECASE):
        return Finding(
            "error",
            "token",
            said.partition(". ")[0],
            "the cluster lets nobody in without its token",
            "RAY_AUTH_MODE=token here too, and the head's token in RAY_AUTH_TOKEN, in the file of RAY_AUTH_TOKEN_PATH "
            "or in ~/.ray/auth_token",
        )
    return Finding(
        "error",
        "cluster",
        said,
        "there is nothing to train on",
        "start it (`ray start --head`), correct RAY_ADDRESS or --address, or give --local",
    )


def job_arguments(
    preset: str, overrides: list[str], options: Mapping[str, Any], experiment: Experiment
) -> tuple[list[str], str]:
    """What a job on the cluster is asked, of the ``experiment`` that was asked for here: its arguments, and the text
    of the preset that it brings along, where that is a file of this machine.

    A job has the cluster's environment and not this one's: what DOODLE_DATA and DOODLE_STORAGE name here is handed
    over.
    """
    if preset.endswith(".toml"):
        return [_SHIPPED], to_toml(experiment)
    named = {
        "data.uri": experiment.data.uri,
        "storage": os.environ.get("DOODLE_STORAGE") and experiment.storage,
    }
    told = {key: value for key, value in named.items() if value} | dict(options)
    arguments = [preset]
    for setting in [*overrides, *(f"{key}={orjson.dumps(value).decode()}" for key, value in told.items())]:
        arguments += ["--set", setting]
    return arguments, ""


def examine_by_job(
    address: str, arguments: list[str], preset_text: str = "", wait_s: float = 0.0
) -> dict[str, Any]:
    """Run the doctor on the cluster behind a dashboard (http://head:8265), as a job; its JSON answer.

    It waits for an autoscaler for ``wait_s``. The job finds ``preset_text``, where there is one, in a file
    ``_SHIPPED`` of its working directory. Raises ValueError where the dashboard can't be asked, WorkFailedError
    where the job gives no answer.
    """
    from ray.job_submission import JobStatus, JobSubmissionClient

    entrypoint = shlex.join(
        ["python", "-m", "doodle_dist.doctor", "--json", "--wait", str(wait_s), *arguments]
    )
    try:
        client = JobSubmissionClient(address)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / _SHIPPED).write_text(preset_text, encoding="utf-8")
            brings = {"working_dir": folder} if preset_text else {}
            job = client.submit_job(entrypoint=entrypoint, runtime_env=brings)
    except (ConnectionError, RuntimeError, RayError) as error:
        said = one_line(error).partition(". ")[0]
        raise ValueError(
            f"{address} takes no job: {said}; are RAY_AUTH_MODE and the token the same as the head's?"
        ) from None
    deadline = time.monotonic() + _JOB_S + wait_s
    while not (status := client.get_job_status(job)).is_terminal():
        if time.monotonic() > deadline:
            client.stop_job(job)
            raise WorkFailedError(f"the job {job} at {address} gave no answer in {_JOB_S + wait_s:.0f} s")
        time.sleep(0.5)
    logs = client.get_job_logs(job).splitlines()
    for line in reversed(logs):
        if line.startswith('{"would_fail"'):
            answer: dict[str, Any] = orjson.loads(line)
            return answer
    last = logs[-1] if logs else "it said nothing"
    ended = "ended" if status == JobStatus.SUCCEEDED else "failed"
    raise WorkFailedError(f"the job {job} at {address} {ended} without an answer: {last}")


def doctor(
    preset: str,
    overrides: list[str],
    options: Mapping[str, Any],
    *,
    address: str = "",
    local: bool = False,
    wait_s: float = 0.0,
    as_json_too: bool = False,
    debug: bool = False,
) -> bool:
    """Examine, print, and say whether training could start. ``options`` are `train`'s, as dotted keys."""
    experiment = planned(preset, overrides, options)
    address = address or os.environ.get("RAY_ADDRESS", "")
    if address.startswith(("http://", "https://")) and not local:
        arguments, text = job_arguments(preset, overrides, options, experiment)
        answer = examine_by_job(address, arguments, text, wait_s)
        findings = [Finding(**finding) for finding in answer["findings"]]
        print(orjson.dumps(answer).decode() if as_json_too else as_text(findings))
        return not answer["would_fail"]
    if address:
        os.environ["RAY_ADDRESS"] = address
    try:
        findings, facts = examine(experiment, local=local, wait_s=wait_s, debug=debug)
    finally:
        ray.shutdown()
    print(as_json(findings, facts) if as_json_too else as_text(findings))
    return not would_fail(findings)
