"""`doodle-dist evaluate`: a classifier run's figures on held-out drawings."""

import orjson
import torch

from doodle_dist.data import storage
from doodle_dist.data.manifest import check_files, load_manifest
from doodle_dist.data.stream import Split, plan_stream, rank_batches
from doodle_dist.evaluation.classifier_metrics import Confusion, Figures
from doodle_dist.evaluation.pictures import to_images
from doodle_dist.evaluation.snapshot import Snapshot, load_snapshot
from doodle_dist.ray_cluster import Need, check_resources, connect

_ROWS = 512


def evaluate_classifier(
    run: str, *, data: str = "", split: str = "test", which: str = "best", local: bool = False
) -> tuple[Snapshot, Figures]:
    """The figures of a run's classifier on a split, over all of its drawings.

    Raises ValueError where the run is no classifier or knows other categories than the data.
    """
    if which not in ("best", "latest"):
        raise ValueError(f"--checkpoint {which!r}: should be best or latest")
    snapshot = load_snapshot(storage.absolute(run), which=which)
    uri = storage.absolute(data) if data else snapshot.experiment.data.uri
    manifest = load_manifest(uri)
    check_files(uri, manifest)
    unknown = set(snapshot.categories) - set(manifest.categories)
    if unknown:
        raise ValueError(f"{uri} has no drawings of {', '.join(sorted(unknown)[:3])}, which the run knows")
    kind: Split = split  # type: ignore[assignment]  # plan_stream refuses what is none
    plan = plan_stream(manifest, uri, kind, categories=snapshot.categories, lanes=1, global_batch=_ROWS)
    if not plan.rows:
        raise ValueError(f"split {split} of {uri} has no drawings of the run's categories")
    need = Need(workers=0, cpus_per_worker=0, gpus_per_worker=0)
    connect(need, local=local)
    check_resources(need)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = snapshot.classifier.to(device)
    confusion = Confusion(len(snapshot.categories), device)
    with torch.no_grad():
        for batch in rank_batches(plan):
            images = to_images(batch.pixels, device)
            confusion.add(net(images), torch.from_numpy(batch.labels).to(device))
    figures = confusion.figures()
    assert figures is not None
    return snapshot, figures


def print_figures(result: tuple[Snapshot, Figures], *, as_json: bool) -> None:
    """The figures as a table, or as JSON for a program."""
    snapshot, figures = result
    per_category = dict(zip(snapshot.categories, figures.per_category.tolist(), strict=True))
    if as_json:
        answer = {
            "snapshot": snapshot.uri,
            "drawings": int(figures.matrix.sum()),
            **figures.scalars,
            "per_category": per_category,
            "confusion": figures.matrix.tolist(),
        }
        print(orjson.dumps(answer).decode())
        return
    print(f"{snapshot.uri}: {int(figures.matrix.sum()):,} drawings")
    for name, value in figures.scalars.items():
        print(f"  {name:24} {value:.4f}")
    for name, value in sorted(per_category.items(), key=lambda item: item[1]):
        print(f"    {value:.4f}  {name}")
