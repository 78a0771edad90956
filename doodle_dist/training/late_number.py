"""Reading a device's numbers without making it wait."""

import torch
from torch import Tensor


class LateNumber:
    """A scalar on its way from its device. ``read`` waits for it, and not for what the device was given since."""

    def __init__(self, value: Tensor) -> None:
        # Copied at once: what it is read from may be written over by the next step.
        self._host = torch.empty((), dtype=value.dtype, pin_memory=value.is_cuda)
        self._host.copy_(value.detach(), non_blocking=True)
        self._arrived: torch.cuda.Event | None = None
        if value.is_cuda:
            # Blocking: who waits leaves its core to the threads that make the next batches.
            self._arrived = torch.cuda.Event(blocking=True)
            self._arrived.record(torch.cuda.current_stream(value.device))

    def read(self) -> float:
        if self._arrived:
            self._arrived.synchronize()
        return float(self._host)
