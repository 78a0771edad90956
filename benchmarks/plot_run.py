"""Draw a GAN run's judged curves against drawings seen: python benchmarks/plot_run.py RUN OUT.png"""

import sys

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {
    "judge/conditional_accuracy": "requested category read",
    "judge/diversity_ratio": "diversity, generated over real",
    "judge/diversity_ratio_lowest": "the same, lowest category",
}


def main(run: str, output: str) -> None:
    """Read the run's event files and write the picture."""
    events = EventAccumulator(f"{run}/tensorboard", size_guidance={"scalars": 0})
    events.Reload()
    figure = Figure(figsize=(7, 3.2), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for tag, name in TAGS.items():
        points = events.Scalars(tag)
        left.plot([p.step / 1000 for p in points], [p.value for p in points], marker=".", label=name)
    left.axhline(0.7, color="grey", linewidth=0.8, linestyle="--")
    left.set(ylim=(0, 1.05), xlabel="thousand drawings seen")
    left.legend(fontsize=7, loc="lower right")
    points = events.Scalars("judge/frechet_distance")
    right.plot([p.step / 1000 for p in points], [p.value for p in points], marker=".", color="black")
    right.set(yscale="log", xlabel="thousand drawings seen", title="Fréchet distance, judge's features")
    right.title.set_fontsize(9)
    canvas.print_png(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
