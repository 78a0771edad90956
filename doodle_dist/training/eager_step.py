"""Steps of torch's optimisers without torch.compile, whose import takes two seconds of a core in every process.

torch.optim imports `torch._dynamo` for whoever makes an optimiser or takes a step, so that a compiler that meets them
leaves them alone. Nothing here is compiled. Where torch names things otherwise one day it imports it again, and nothing
else changes.
"""

import inspect
from collections.abc import Callable
from functools import partial

import torch

# Each is wrapped by torch._disable_dynamo, which looks for this mark before it imports what makes one.
_MARK = "__dynamo_disable"
_WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def leave_compiler_out() -> None:
    """Mark the optimisers' methods as those that no compiler need be told of; a second time changes nothing."""
    for name in _WRAPPED:
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None and not hasattr(method, _MARK):
            setattr(method, _MARK, method)


def eager_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """The optimiser's ``step``, with its hooks and its name in profiles; to be called under ``torch.no_grad``."""
    plain = inspect.unwrap(type(optimizer).step)
    return partial(torch.optim.Optimizer.profile_hook_step(plain), optimizer)
