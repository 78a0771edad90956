"""`doodle-dist augment`: do generated drawings help a classifier that has few real ones?

For K real drawings per category, K from a handful to all: a classifier trained on them alone, with classic
augmentation (the preset's [model.augment]: moved, turned and scaled pictures, which suits strokes and bitmaps
alike), with the drawings of a GAN that was trained on those K and no other, and with both. Every GAN and every
classifier is a Ray task of its own; a classifier that needs a GAN's drawings waits for it. A task that fails
is told, and the others are done. A finished cell is kept in the folder, so the same command goes on.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import ray
from ray.exceptions import RayError

from doodle_dist import log
from doodle_dist.config.experiment import Experiment
from doodle_dist.config.load import flattened
from doodle_dist.data import locations, storage
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.schema import MANIFEST
from doodle_dist.data.stream_plan import stream_categories
from doodle_dist.errors import one_line, root_cause
from doodle_dist.evaluation.augment_drawings import Drawings, read_held_out, read_pool, subset
from doodle_dist.evaluation.augment_folder import Folder
from doodle_dist.evaluation.augment_report import markdown, picture
from doodle_dist.evaluation.augment_request import Job, Request, check_numbers, plan_jobs
from doodle_dist.evaluation.augment_results import (
    Cell,
    Failure,
    Findings,
    GanCell,
    compare,
    sentence,
    summarise,
)
from doodle_dist.evaluation.augment_training import Made, Score, train_classifier, train_gan
from doodle_dist.models.registry import build_generator
from doodle_dist.progress_line import duration
from doodle_dist.ray_cluster import Need, check_resources, connect, say_of_idle_gpus

_POLL_S = 1.0


@dataclass
class _World:
    """What all tasks share."""

    request: Request
    categories: tuple[str, ...]
    pool: Drawings
    test: Drawings
    folder: Folder
    capped: bool
    settings: dict[str, object]
    gans: dict[Job, GanCell] = field(default_factory=dict)
    cells: dict[Job, Cell] = field(default_factory=dict)
    failed: dict[Job, str] = field(default_factory=dict)


def run_experiment(request: Request) -> Findings:
    """Do what is not done yet, and write augment.json, augment.md and augment.png. See the module.

    Raises ValueError for a request that the data can't meet, and StorageError.
    """
    world = _prepared(request)
    jobs = plan_jobs(request.ks, request.seeds)
    for job in jobs:
        if job.arm is None:
            if gan := world.folder.gan(job.k, job.seed):
                world.gans[job] = gan
        elif cell := world.folder.classifier(job.k, job.seed, job.arm):
            world.cells[job] = cell
    todo = [job for job in jobs if job not in world.gans and job not in world.cells]
    if todo:
        need = Need(1, request.cpus, request.gpus, data_cpus=0)
        connect(need, local=request.local, debug=request.debug)
        check_resources(need, request.wait_s)
        if not request.gpus and not request.quiet:
            say_of_idle_gpus("--gpus gives each task one, or a share")
        _run_tasks(world, todo, _Progress(len(jobs), len(jobs) - len(todo), request.quiet))
    found = _findings(world)
    storage.write_atomic(
        locations.join(request.out, "augment.json"), found.model_dump_json(indent=1).encode()
    )
    storage.write_atomic(locations.join(request.out, "augment.md"), markdown(found).encode())
    storage.write_atomic(locations.join(request.out, "augment.png"), picture(found))
    return found


def _prepared(request: Request) -> _World:
    check_numbers(request)
    uri = request.gan.data.uri
    manifest = load_manifest(uri)
    categories = stream_categories(manifest, request.gan.data.categories)
    _refuse_unconditional(request.gan, categories, manifest.side, manifest.channels)
    pool, test = read_pool(uri, categories, request.at_most), read_held_out(uri, categories)
    counts = dict(zip(categories, pool.counts(len(categories)), strict=True))
    fewest = min(counts, key=lambda name: counts[name])
    for k in request.ks:
        if k is not None and k > counts[fewest]:
            raise ValueError(
                f"--k {k}: {fewest} has {counts[fewest]:,} training drawings here (at most {request.at_most:,} "
                "of a category are used: --at-most); should be fewer, or all"
            )
    assert not np.isin(test.key_ids, pool.key_ids).any(), "a test drawing is among the training drawings"
    of_all = dict(zip(manifest.categories, manifest.splits["train"].counts, strict=True))
    settings: dict[str, object] = {
        "gan": request.gan.preset,
        "classifier": request.classifier.preset,
        "manifest_sha256": storage.sha256_of(locations.join(uri, MANIFEST)),
        "categories": list(categories),
        "generated_per_category": request.per_category,
        "share": request.share,
        "at_most": request.at_most,
    }
    settings |= _flat("gan", request.gan) | _flat("classifier", request.classifier)
    folder = Folder(request.out)
    folder.settle(settings)
    capped = any(of_all[name] > request.at_most for name in categories)
    return _World(request, categories, pool, test, folder, capped, settings)


def _refuse_unconditional(gan: Experiment, categories: tuple[str, ...], side: int, channels: int) -> None:
    """Drawings of no known category teach a classifier nothing."""
    assert gan.model.generator is not None
    net = build_generator(gan.model.generator, num_categories=len(categories), side=side, channels=channels)
    if len(categories) > 1 and not net.sees_label():
        raise ValueError(
            f"PRESET {gan.preset}: its generator can't be asked for a category; set "
            "model.generator.conditioning (one-hot or embedding) and model.critic.head=projection"
        )


# What says where and how wide a run is, and not what it comes to.
_BESIDE_THE_POINT = {"preset", "scaling", "storage", "run", "data", "seed"}


def _flat(name: str, experiment: Experiment) -> dict[str, object]:
    """{"gan.train.drawings": 20000, …}"""
    return flattened(experiment.model_dump(mode="json", exclude=_BESIDE_THE_POINT), f"{name}.")


# --- the tasks ------------------------------------------------------------------------------------------


def _gan_task(request: Request, categories: tuple[str, ...], job: Job, pool: Drawings) -> Made:
    real = pool.rows(subset(pool.labels, job.k, job.seed))
    return train_gan(request.gan, real, categories, per_category=request.per_category, seed=job.seed)


def _classifier_task(
    request: Request,
    categories: tuple[str, ...],
    job: Job,
    pool: Drawings,
    test: Drawings,
    made: "Made | Drawings | None",
) -> Score:
    real = pool.rows(subset(pool.labels, job.k, job.seed))
    generated = made.drawings if isinstance(made, Made) else made
    return train_classifier(
        request.classifier,
        real,
        generated,
        test,
        categories,
        augmented=job.arm in ("classic", "both"),
        share=request.share,
        seed=job.seed,
    )


def _run_tasks(world: _World, todo: Sequence[Job], progress: "_Progress") -> None:
    """Run every task, at most ``concurrent`` at once, keeping what each finds as it comes.

    A dead worker's task is tried again by Ray (three times); an error in a task, such as a GAN that diverges,
    would come again and is noted, for its classifiers as well.
    """
    request = world.request
    resources = {"num_cpus": request.cpus, "num_gpus": request.gpus}
    # Not by `options`: with them a process that holds one GPU may be used again for a task of another.
    train_a_gan = ray.remote(**resources)(_gan_task)
    train_a_classifier = ray.remote(**resources)(_classifier_task)
    shared = ray.put(request), ray.put(world.categories)
    pool, test = ray.put(world.pool), ray.put(world.test)
    made: dict[tuple[int | None, int], ray.ObjectRef] = {}
    waiting, running = deque(todo), dict[ray.ObjectRef, Job]()
    while waiting or running:
        while waiting and not (request.concurrent and len(running) >= request.concurrent):
            job = waiting.popleft()
            where = (job.k, job.seed)
            if job.arm is None:
                ref = made[where] = train_a_gan.remote(*shared, job, pool)
            else:
                if job.needs_gan and where not in made:
                    made[where] = ray.put(world.folder.generated(*where))
                ref = train_a_classifier.remote(
                    *shared, job, pool, test, made[where] if job.needs_gan else None
                )
                if not any((later.k, later.seed) == where for later in waiting):
                    made.pop(where, None)  # a GAN's drawings are held for as long as a task needs them
            running[ref] = job
        finished, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_S)
        for ref in finished:
            job = running.pop(ref)
            try:
                _keep(world, job, ray.get(ref))
            except RayError as error:
                world.failed[job] = one_line(root_cause(error))
            progress.finished(job, world)


def _keep(world: _World, job: Job, result: Made | Score) -> None:
    drawings = len(subset(world.pool.labels, job.k, job.seed))
    if isinstance(result, Made):
        gan = GanCell(
            k=job.k,
            seed=job.seed,
            drawings=drawings,
            seen=result.seen,
            per_category=world.request.per_category,
            seconds=result.seconds,
        )
        world.folder.keep_gan(gan, result.drawings, world.categories)
        world.gans[job] = gan
        return
    assert job.arm is not None
    cell = Cell(
        k=job.k,
        seed=job.seed,
        arm=job.arm,
        drawings=drawings,
        seen=result.seen,
        seen_generated=result.seen_generated,
        accuracy=result.accuracy,
        macro_f1=result.macro_f1,
        seconds=result.seconds,
    )
    world.folder.keep_classifier(cell)
    world.cells[job] = cell


class _Progress:
    """A line on stderr for every finished task: what it found, tasks done, and the time left."""

    def __init__(self, total: int, done: int, quiet: bool) -> None:
        self.total, self.done, self.before = total, done, done
        self.quiet = quiet
        self.began = time.monotonic()
        if done:
            self._say(f"{done} of {total} tasks were done before")

    def finished(self, job: Job, world: _World) -> None:
        self.done += 1
        what = f"failed: {world.failed[job]}" if job in world.failed else ""
        if job in world.cells:
            what = f"accuracy {world.cells[job].accuracy:.4f}"
        elif job in world.gans:
            what = f"drew {world.gans[job].per_category:,} of each category"
        # Kinds of tasks take different times but come in turn, so their mean serves.
        left = (time.monotonic() - self.began) / (self.done - self.before) * (self.total - self.done)
        self._say(f"{self.done}/{self.total} tasks  ETA {duration(left)}  {job.name}  {what}")

    def _say(self, text: str) -> None:
        if not self.quiet:
            log.say(text)


# --- what was found -------------------------------------------------------------------------------------


def _findings(world: _World) -> Findings:
    request, cells = world.request, list(world.cells.values())
    comparisons = compare(cells, request.ks)
    counts = np.bincount(world.pool.labels, minlength=len(world.categories))
    return Findings(
        gan=request.gan.preset,
        classifier=request.classifier.preset,
        data=locations.public(request.gan.data.uri),
        categories=world.categories,
        test_drawings=len(world.test),
        seeds=request.seeds,
        ks=request.ks,
        per_category=tuple((k, k) if k else (int(counts.min()), int(counts.max())) for k in request.ks),
        at_most=request.at_most,
        capped=world.capped,
        share=request.share,
        settings=world.settings,
        gans=tuple(world.gans.values()),
        cells=tuple(cells),
        summaries=summarise(cells, request.ks),
        comparisons=comparisons,
        sentence=sentence(comparisons),
        failed=tuple(Failure(cell=job.name, reason=reason) for job, reason in world.failed.items()),
    )


def print_findings(found: Findings, out: str, *, as_json: bool) -> None:
    """The tables and the sentence for a person, augment.json for a program."""
    if as_json:
        print(found.model_dump_json())
        return
    print(markdown(found))
    for name in ("augment.json", "augment.md", "augment.png"):
        print(locations.join(locations.absolute(out), name))
