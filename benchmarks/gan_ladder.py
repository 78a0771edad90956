"""The ladder: every step from the first doodle GAN to ours on the same drawings, judged by one classifier.

    python benchmarks/gan_ladder.py DATA JUDGE --drawings 50000 --seconds 240 --out benchmarks/results

DATA is a prepared dataset, JUDGE a classifier's run on it. Each preset is trained twice: for the same number of
drawings, and for the same time at the speed that the first run had. Unconditional systems are given the label
(one-hot beside the latent, projection in the critic), since all are judged on drawing what is asked for; all
else is as published. Where a run is there already, it is not trained again.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from doodle_dist.bench.machine import Machine
from doodle_dist.data import locations
from doodle_dist.data.manifest import load_manifest
from doodle_dist.data.stream_pictures import pictures
from doodle_dist.data.stream_plan import Window, plan_stream
from doodle_dist.data.stream_rows import read_window
from doodle_dist.evaluation.sample import generate
from doodle_dist.metrics.gan import conditional_accuracy, diversity_ratios, gaussian_of
from doodle_dist.metrics.moments import frechet
from doodle_dist.pictures import grid, to_images, to_pixels
from doodle_dist.run.snapshot import load_snapshot

LABELLED = ["--set", "model.generator.conditioning=one-hot", "--set", "model.critic.head=projection"]
LADDER: dict[str, list[str]] = {
    "simple-gan": LABELLED,
    "dcgan": LABELLED,
    "cdcgan": [],
    "sngan-proj-small": [],
    "doodle-gan-small": [],
}
PER_CATEGORY = 100
COLUMNS = 3  # five blocks of them are as wide as a page shows without shrinking


@dataclass(frozen=True)
class Rung:
    """A trained preset, judged on ``samples`` EMA samples. ``seconds`` are those of training alone."""

    preset: str
    budget: str
    drawings: int
    drawings_per_s: float
    seconds: float
    samples: int
    conditional_accuracy: float
    diversity_ratio: float
    frechet_distance: float


def train(preset: str, run: str, drawings: int, args: argparse.Namespace) -> Path:
    """Train a preset through Ray with two workers, or go on with the run; its folder."""
    folder = Path(args.runs) / run
    command = [
        sys.executable, "-m", "doodle_dist.cli", "train", preset, "--local", "--workers", str(args.workers),
        "--data", args.data, "--storage", str(args.runs), "--run", run,
        "--set", f"train.drawings={drawings}", "--set", "train.log_every_drawings=2500",
        "--set", "train.checkpoint_every_drawings=0", *LADDER[preset],
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return folder


def speed(folder: Path) -> float:
    """Median drawings/s of a run's log."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return float(np.median([point.value for point in events.Scalars("speed/drawings_per_s")]))


def real(uri: str, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All drawings of a split: pictures [N, C, H, W] in [-1, 1] and labels [N]."""
    plan = plan_stream(load_manifest(uri), uri, split, lanes=1, global_batch=1024)  # type: ignore[arg-type]
    tables = [read_window(plan, range(1), Window(0, k, k + 1)) for k in range(plan.order(0).steps)]
    images = [to_images(pictures(plan, table), torch.device("cpu")) for table in tables]
    labels = np.concatenate([table["label"].to_numpy() for table in tables]).astype(np.int64)
    return torch.cat(images), torch.from_numpy(labels)


class Protocol:
    """One judge and one reference, the validation split, for every rung and for the floor."""

    def __init__(self, data: str, judge: str) -> None:
        self.judge = load_snapshot(judge).classifier
        images, self.labels = real(data, "val")
        self.features, _ = self.read(images)
        self.gaussian = gaussian_of(self.features)

    @torch.no_grad()
    def read(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and logits, part by part."""
        parts = [(self.judge.features(x), self.judge(x)) for x in images.split(512)]
        return torch.cat([f for f, _ in parts]), torch.cat([z for _, z in parts])

    def figures(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float, float]:
        """(requested category read, diversity over real drawings', Fréchet distance to the reference)."""
        features, logits = self.read(images)
        ratios = diversity_ratios(features, labels, self.features, self.labels)
        return (
            conditional_accuracy(logits, labels),
            sum(ratios.values()) / len(ratios),
            frechet(gaussian_of(features), self.gaussian),
        )


def balanced(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first PER_CATEGORY drawings of every category."""
    rows = torch.cat([torch.nonzero(labels == k).flatten()[:PER_CATEGORY] for k in labels.unique()])
    return images[rows], labels[rows]


def judged(preset: str, budget: str, folder: Path, drawings: int, protocol: Protocol) -> Rung:
    """Judge a run's last snapshot."""
    snapshot = load_snapshot(str(folder), which="latest")
    labels = torch.arange(len(snapshot.categories)).repeat_interleave(PER_CATEGORY)
    rate = speed(folder)
    read, diversity, distance = protocol.figures(generate(snapshot, labels, seed=1), labels)
    return Rung(preset, budget, drawings, rate, drawings / rate, len(labels), read, diversity, distance)


def picture(rungs: dict[str, Path], names: tuple[str, ...], output: Path) -> None:
    """Sample grids side by side: a block for each preset, a row for each category, the same seed for all."""
    scale, blocks = 2, []
    for folder in rungs.values():
        snapshot = load_snapshot(str(folder), which="latest")
        labels = torch.arange(len(names)).repeat_interleave(COLUMNS)
        strip = grid(255 - to_pixels(generate(snapshot, labels, seed=0)), COLUMNS)
        blocks.append(np.kron(strip, np.ones((scale, scale), np.uint8)))
    top, left, gap = 30, 90, 12
    height, width = blocks[0].shape
    sheet = Image.new("L", (left + len(blocks) * (width + gap), top + height), 255)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for k, (preset, block) in enumerate(zip(rungs, blocks, strict=True)):
        sheet.paste(Image.fromarray(block), (left + k * (width + gap), top))
        pen.text((left + k * (width + gap) + width // 2, top // 2), preset, fill=0, font=font, anchor="mm")
    for row, name in enumerate(names):
        pen.text((6, top + (row + 0.5) * height / len(names)), name, fill=0, font=font, anchor="lm")
    sheet.save(output)


def main() -> None:
    """Train, judge, and write the table, the figures and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("judge")
    parser.add_argument("--drawings", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    args.data, args.runs = locations.absolute(args.data), locations.absolute(args.runs)
    protocol = Protocol(args.data, locations.absolute(args.judge))
    names = load_manifest(args.data).categories

    images, labels = balanced(*real(args.data, "test"))
    floor = protocol.figures(images, labels)
    rungs, equal_drawings = [], {}
    for preset in LADDER:
        folder = train(preset, f"ladder-{preset}-drawings", args.drawings, args)
        equal_drawings[preset] = folder
        rungs.append(judged(preset, "drawings", folder, args.drawings, protocol))
        print(rungs[-1], flush=True)
    for preset, rung in zip(LADDER, list(rungs), strict=True):
        drawings = max(1000, round(rung.drawings_per_s * args.seconds, -3))
        folder = train(preset, f"ladder-{preset}-time", int(drawings), args)
        rungs.append(judged(preset, "time", folder, int(drawings), protocol))
        print(rungs[-1], flush=True)

    args.out.mkdir(parents=True, exist_ok=True)
    picture(equal_drawings, names, args.out / "gan-ladder.png")
    result = {
        "floor": {"samples": len(labels), **dict(zip(("read", "diversity", "frechet"), floor, strict=True))},
        "rungs": [asdict(rung) for rung in rungs],
        "machine": Machine.here().model_dump(),
    }
    (args.out / "gan-ladder.json").write_text(json.dumps(result, indent=2) + "\n")
    print("| preset | budget | drawings | /s | read | diversity | Fréchet |\n|---|---|---|---|---|---|---|")
    for r in rungs:
        print(
            f"| {r.preset} | {r.budget} | {r.drawings:,} | {r.drawings_per_s:,.0f} | "
            f"{r.conditional_accuracy:.3f} | {r.diversity_ratio:.2f} | {r.frechet_distance:.1f} |"
        )
    print(f"| real test drawings | floor | – | – | {floor[0]:.3f} | {floor[1]:.2f} | {floor[2]:.1f} |")


if __name__ == "__main__":
    main()
