"""Figures of a classifier on held-out drawings, from counts that add up over workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Figures:
    """``scalars``: top1, top3, map3, balanced and its standard error, loss. ``per_category``: recall [K],
    NaN where a category has no drawings. ``matrix``: int64 [K, K], row the true label, column the read one."""

    scalars: dict[str, float]
    per_category: NDArray[np.float64]
    matrix: NDArray[np.int64]


class Confusion:
    """Counts over batches: the confusion matrix, and what ranks 1 to 3 need."""

    def __init__(self, categories: int, device: torch.device) -> None:
        self.categories = categories
        self.matrix = torch.zeros(categories, categories, dtype=torch.float64, device=device)
        # Sums of: right within the first three; average precision of the first three; negative log-likelihood.
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: logits [B, K], labels int64 [B]."""
        logits = logits.float()
        top = logits.topk(min(3, self.categories), dim=1).indices
        hits = (top == labels[:, None]).double()  # [B, 3], at most one 1 in a row
        places = torch.arange(1, hits.shape[1] + 1, device=hits.device)
        # One answer is right, so average precision is the inverse of its place (Kaggle's MAP@3).
        log_likelihood = logits.log_softmax(1).gather(1, labels[:, None]).sum().double()
        self.sums += torch.stack([hits.sum(), (hits / places).sum(), -log_likelihood])
        index = labels * self.categories + top[:, 0]
        counts = torch.bincount(index, minlength=self.categories**2)
        self.matrix += counts.view_as(self.matrix)

    def reduced(self, add_up: Callable[[Tensor], Tensor]) -> "Confusion":
        """The counts of all workers, given what adds a tensor up over them."""
        total = Confusion(self.categories, self.matrix.device)
        total.matrix, total.sums = add_up(self.matrix), add_up(self.sums)
        return total

    def figures(self) -> Figures | None:
        """The figures, None where nothing was counted."""
        matrix = self.matrix.cpu().numpy().astype(np.int64)
        rows = matrix.sum(axis=1)
        total = int(rows.sum())
        if not total:
            return None
        recall = np.divide(
            np.diag(matrix), rows, out=np.full(self.categories, np.nan), where=rows > 0, dtype=np.float64
        )
        top3, map3, loss = (self.sums / total).tolist()
        present = ~np.isnan(recall)
        # Recalls of categories are independent binomials, so the variance of their mean is the mean's.
        variance = recall[present] * (1 - recall[present]) / rows[present]
        scalars = {
            "top1": float(np.trace(matrix) / total),
            "top3": top3,
            "map3": map3,
            "balanced": float(recall[present].mean()),
            "balanced_standard_error": float(np.sqrt(variance.sum()) / present.sum()),
            "loss": loss,
        }
        return Figures(scalars, recall, matrix)


def confusion_picture(
    matrix: NDArray[np.int64], categories: Sequence[str], named_up_to: int = 40
) -> NDArray[np.uint8]:
    """The matrix as an RGB picture [H, W, 3]: each row divided by its sum, names where there is room."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    few = len(categories) <= named_up_to
    size = 2.5 + 0.28 * len(categories) if few else 9.0
    figure = Figure(figsize=(size, size), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("read as")
    axes.set_ylabel("category")
    if few:
        axes.set_xticks(range(len(categories)), categories, rotation=90)
        axes.set_yticks(range(len(categories)), categories)
        for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
            share = shares[row, column]
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6, color=colour)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
