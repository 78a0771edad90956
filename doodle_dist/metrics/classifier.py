"""Figures of a classifier on held-out drawings, from counts that add up over workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Figures:
    """``scalars``: top1, top3, map3, balanced and its standard error, macro_f1, loss. ``per_category``: recall [K],
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
        # Of equal ones the first, as everyone else reads them; topk has another order.
        index = labels * self.categories + logits.argmax(1)
        counts = torch.bincount(index, minlength=self.categories**2)
        self.matrix += counts.view_as(self.matrix)

    def reduced(self, add_up: Callable[[Tensor], Tensor]) -> "Confusion":
        """The counts of all workers, given what adds a tensor up over them."""
        total = Confusion(self.categories, self.matrix.device)
        total.matrix, total.sums = add_up(self.matrix), add_up(self.sums)
        return total

    def merge(self, other: "Confusion") -> None:
        """Add another part's counts to these."""
        self.matrix += other.matrix
        self.sums += other.sums

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
            "macro_f1": float(np.nanmean(category_scores(matrix).f1)),
            "loss": loss,
        }
        return Figures(scalars, recall, matrix)


@dataclass(frozen=True)
class CategoryScores:
    """By category [K], NaN where undefined: without drawings, without any read as it, without either."""

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    f1: NDArray[np.float64]


def category_scores(matrix: NDArray[np.int64]) -> CategoryScores:
    """Recall, precision and their harmonic mean from a confusion matrix [K, K], rows the true labels."""
    right, true, read = np.diag(matrix).astype(float), matrix.sum(axis=1), matrix.sum(axis=0)

    def share(of: NDArray[np.int64], times: int = 1) -> NDArray[np.float64]:
        shares = np.full(len(right), np.nan)
        np.divide(times * right, of, out=shares, where=of > 0)
        return shares

    return CategoryScores(share(true), share(read), share(true + read, 2))


def most_confused(matrix: NDArray[np.int64], count: int) -> list[tuple[int, int]]:
    """The (true, read) pairs of labels with the largest share of the true category's drawings, at most so many."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0.0)
    order = np.argsort(-shares, axis=None, kind="stable")[:count]
    pairs = [divmod(int(place), len(matrix)) for place in order]
    return [(true, read) for true, read in pairs if shares[true, read] > 0]


class Calibration:
    """Counts by confidence, the highest probability: in each of equal ranges the drawings, their confidence and
    how many were read right (Guo et al. 2017, section 2)."""

    BINS = 15

    def __init__(self) -> None:
        self.counts = torch.zeros(self.BINS, 3, dtype=torch.float64)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: logits [B, K], labels int64 [B]."""
        confidence, read = logits.double().softmax(1).max(1)
        rows = torch.stack([torch.ones_like(confidence), confidence, (read == labels).double()], dim=1)
        bins = (confidence * self.BINS).ceil().long().clamp(1, self.BINS) - 1  # ranges are open below
        self.counts.index_add_(0, bins.cpu(), rows.cpu())

    def merge(self, other: "Calibration") -> None:
        """Add another part's counts to these."""
        self.counts += other.counts

    def bins(self) -> list[tuple[int, float, float]]:
        """(drawings, mean confidence, share read right) of every range that has drawings."""
        return [(int(n), c / n, right / n) for n, c, right in self.counts.tolist() if n]

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017, eq. 3): |confidence - accuracy|, averaged over drawings."""
        return float((self.counts[:, 1] - self.counts[:, 2]).abs().sum() / self.counts[:, 0].sum())


def reliability_picture(bins: Sequence[tuple[int, float, float]], error: float) -> NDArray[np.uint8]:
    """Accuracy against confidence, with the share of drawings below, as an RGB picture [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 5.5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    drawings, confidence, accuracy = np.array(bins).T
    above.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    above.plot(confidence, accuracy, marker="o")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="read right", title=f"expected calibration error {error:.4f}")
    below.bar(confidence, drawings / drawings.sum(), width=0.8 / Calibration.BINS)
    below.set(xlabel="confidence", ylabel="share of drawings")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


_NAMED_CATEGORIES = 40


def confusion_picture(matrix: NDArray[np.int64], categories: Sequence[str]) -> NDArray[np.uint8]:
    """The matrix as an RGB picture [H, W, 3]: each row divided by its sum, names where there is room."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    few = len(categories) <= _NAMED_CATEGORIES
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
