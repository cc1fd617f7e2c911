"""The energy that the GPU of this process draws, by the counter of NVIDIA's driver."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

__all__ = ['SHARED_GPUS', 'EnergyMeter', 'gpu_uuid']

SHARED_GPUS = 'OPENMIXUP_SHARED_GPUS'  # set to 1 by a sweep whose runs may meet on a GPU
MILLIJOULES = 3_600_000  # of a watt hour


def gpu_uuid() -> str | None:
    """UUID of the GPU that this process trains on, as NVML knows it; None without an NVIDIA GPU.

    CUDA_VISIBLE_DEVICES renumbers the GPUs of a process, and CUDA may order them otherwise than NVML: indices do not
    tell which one it is.
    """
    if torch.version.cuda is None or not torch.cuda.is_available():
        return None
    return f'GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}'


class EnergyMeter:
    """Watt hours that the GPU of this process has drawn since the meter was made.

    NVML counts what the whole GPU draws, in millijoules since the driver was loaded (``nvmlDeviceGetTotalEnergy
    Consumption``, from the Volta generation on), so that a figure is given only as long as no other process is seen on
    the GPU. It needs the package ``nvidia-ml-py``. CPUs have no such figure: their counters (RAPL) are those of whole
    packages, which runs and people share, and are readable by root alone.

    Args:
        warn: called with one sentence when a GPU that should tell gives no figure; at most once.

    Attributes:
        known: whether there is a figure until now.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn, self.known = warn, False
        self._begin: int | None = None
        uuid = gpu_uuid()
        if uuid is None or os.environ.get(SHARED_GPUS) == '1':
            return
        try:
            import pynvml
        except ModuleNotFoundError:  # it is optional
            return
        self._nvml, self.known = pynvml, True
        try:
            pynvml.nvmlInit()
            self._gpu = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            self._give_up(f'NVML does not find the GPU {uuid} ({error})')
            return
        self._begin = self._counter()

    def watt_hours(self) -> float | None:
        """What was drawn until now; None if it cannot be told, then and from then on."""
        now = self._counter()
        if now is None or self._begin is None:
            return None
        if now < self._begin:
            self._give_up('the counter of the GPU was set back')
        return (now - self._begin) / MILLIJOULES if self.known else None

    def _counter(self) -> int | None:
        """Millijoules since the driver was loaded."""
        if not self.known:
            return None
        try:
            processes = len(self._nvml.nvmlDeviceGetComputeRunningProcesses(self._gpu))
            millijoules = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu)
        except self._nvml.NVMLError as error:
            self._give_up(f'the driver does not tell it ({error})')
            return None
        if processes > 1:
            self._give_up(f'{processes} processes share its GPU')
        return millijoules

    def _give_up(self, reason: str) -> None:
        self.known = False
        self._warn(f'the energy of this run stays unknown: {reason}')
