"""Heads: formulas by hand, shapes, and what of them learns."""

import torch
from torch import nn

from doodle_dist.models.heads import AuxiliaryHead, LinearHead, ProjectionHead, build_head

FEATURES = torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.5, 0.0, 3.0, 1.0]])
LABELS = torch.tensor([1, 0])


def _by_hand(head: nn.Module) -> None:
    assert isinstance(head, ProjectionHead)
    with torch.no_grad():
        head.verdict.weight.copy_(torch.tensor([[1.0, 0.0, 2.0, 0.0]]))
        head.verdict.bias.fill_(0.25)
        head.embedding.weight.copy_(torch.tensor([[0.0, 5.0, 1.0, 1.0], [2.0, 1.0, 7.0, -2.0]]))


def test_projection_by_hand() -> None:
    """w·f + b is 1.25 and 6.75; e(y)·f is 2 + 2 + 2 = 6 and 3 + 1 = 4, over sqrt(4)."""
    head = build_head("projection", 4, 2, bias=True)
    _by_hand(head)
    logits, classes = head(FEATURES, LABELS)
    torch.testing.assert_close(logits, torch.tensor([1.25 + 3, 6.75 + 2]))
    assert classes is None
    unit = build_head("projection", 4, 2, bias=True, unit=True)
    _by_hand(unit)
    torch.testing.assert_close(unit(FEATURES, LABELS)[0], torch.tensor([1.25 + 6, 6.75 + 4]))


def test_auxiliary_gives_a_logit_for_each_category() -> None:
    torch.manual_seed(0)
    head = build_head("auxiliary", 4, 5, bias=True)
    assert isinstance(head, AuxiliaryHead)
    logits, classes = head(FEATURES, LABELS)
    assert logits.shape == (2,)
    assert classes.shape == (2, 5)
    torch.testing.assert_close(classes, FEATURES @ head.classes.weight.T + head.classes.bias)
    classes.sum().backward()
    assert head.verdict.weight.grad is None
    assert head.classes.weight.grad is not None


def test_linear_is_blind_to_the_label_and_may_have_no_bias() -> None:
    head = build_head("linear", 4, 2, bias=False)
    assert isinstance(head, LinearHead)
    assert sum(p.numel() for p in head.parameters()) == 4
    logits, classes = head(FEATURES, LABELS)
    torch.testing.assert_close(logits, FEATURES @ head.verdict.weight[0])
    assert classes is None
