"""torch's optimisers and DistributedDataParallel without torch.compile, whose import takes a process two core seconds.

Both import `torch._dynamo` to tell it, or to ask it, whether a compiler that meets them is to leave them alone. Nothing
here is compiled. Where torch names things otherwise one day it imports it again, and nothing else changes.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

# Each is wrapped by torch._disable_dynamo, which looks for this mark before it imports what makes one.
_MARK = "__dynamo_disable"
_WRAPPED = (
    (torch.optim.Optimizer, ("add_param_group", "zero_grad", "state_dict", "load_state_dict")),
    (DistributedDataParallel, ("_inside_ddp_forward",)),
)


def leave_compiler_out() -> None:
    """Mark the methods that no compiler need be told of; a second time changes nothing."""
    for owner, names in _WRAPPED:
        for name in names:
            method = getattr(owner, name, None)
            plain = inspect.unwrap(method) if method else None
            if plain is not method and not hasattr(plain, _MARK):
                setattr(plain, _MARK, plain)


def eager_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """The optimiser's ``step``, with its hooks and its name in profiles; to be called under ``torch.no_grad``."""
    plain = inspect.unwrap(type(optimizer).step)
    return partial(torch.optim.Optimizer.profile_hook_step(plain), optimizer)


def data_parallel(module: nn.Module, device: torch.device) -> DistributedDataParallel:
    """The module, its gradients averaged over all ranks.

    Buffers need no broadcast: batch statistics are those of the global batch, the same on all ranks.
    """
    leave_compiler_out()
    with _compiler_asked_in_vain():
        return DistributedDataParallel(
            module, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
        )


class _Nothing:
    """Equal to nothing that it is compared with, whichever way it is asked."""

    def __getattr__(self, name: str) -> "_Nothing":
        return self

    def __call__(self) -> "_Nothing":
        return self


@contextmanager
def _compiler_asked_in_vain() -> Iterator[None]:
    """Meanwhile `torch._dynamo` isn't imported by who asks it how gradients are reduced: not by a compiler's code."""
    if "torch._dynamo" in sys.modules:
        yield
        return
    of_torch, nothing = vars(torch), _Nothing()
    of_torch["_dynamo"] = nothing
    try:
        yield
    finally:
        if of_torch.get("_dynamo") is nothing:
            del of_torch["_dynamo"]
