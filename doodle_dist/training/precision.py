"""In which precision a task's nets are run forwards."""

import torch


class Precision:
    """A run's setting ``precision`` on a device. ``dtype``: what autocast casts to; None is full precision.

    fp32 is that on GPUs too, whose convolutions torch has keep 10 bits of a mantissa otherwise (TF32): in the whole
    process, since backward passes ask for it by themselves.
    """

    def __init__(self, setting: str, device: torch.device) -> None:
        self.device, self.dtype = device, autocast_dtype(setting, device)
        if device.type == "cuda":  # set either way: a trial's process may have had another setting before
            torch.backends.cudnn.allow_tf32 = setting != "fp32"

    def autocast(self, wanted: bool = True) -> torch.autocast:
        """The context of a forward pass, in full precision too where it is not ``wanted``."""
        return torch.autocast(self.device.type, self.dtype, enabled=wanted and self.dtype is not None)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 where asked for, or where 'auto' finds a device that is made for it; None is full precision."""
    if precision == "bf16" or (precision == "auto" and _multiplies_bfloat16(device)):
        return torch.bfloat16
    return None


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has units for products of bfloat16 matrices: GPUs from Ampere on, CPUs with AMX.

    Other CPUs, AVX512-BF16 among them, were not measured, and gain little from its dot products if anything.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16", False))
