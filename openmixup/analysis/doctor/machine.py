"""The machine: cores and threads, memory, GPUs and what they can do."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openmixup.analysis.doctor import limits
from openmixup.analysis.doctor.report import Finding, brief, counted, size_text

__all__ = ['amp', 'cudnn', 'gpus', 'load', 'memory', 'opencv', 'shared_memory', 'threads']

SHARED = Path('/dev/shm')
DRIVER = Path('/proc/driver/nvidia/version')


def threads(processes: int) -> Iterator[Finding]:
    """Whether the processes of a run have more threads than cores; they would then wait for each other."""
    import torch

    count, own = limits.cores(), torch.get_num_threads()
    granted, setting = limits.quota(), os.environ.get('OMP_NUM_THREADS')
    total, fair = own * processes, max(1, count // processes)
    level = 'ok' if total <= count else 'warn' if total <= 2 * count else 'FAIL'
    found = f'{counted(own, "thread")} x {counted(processes, "process")} on {counted(count, "core")} '
    found += f'(OMP_NUM_THREADS={setting or "unset"}, affinity {counted(limits.affinity(), "core")}, '
    found += f'quota {"none" if granted is None else f"{granted:g} cores"})'
    remedy = f'export OMP_NUM_THREADS={fair}' if own > fair else f'start at most {count} processes on this machine'
    values = {'threads': own, 'processes': processes, 'cores': count, 'omp_num_threads': setting, 'quota': granted}
    yield Finding('threads', level, found, 'no more threads than cores', remedy, values)


def opencv() -> Iterator[Finding]:
    """The threads of OpenCV, which draws the pictures and serves transforms of users."""
    try:
        import cv2
    except ImportError as error:
        remedy = 'run `apt-get install libgl1 libglib2.0-0`, or `pip install opencv-python-headless` in its place'
        yield Finding('opencv', 'FAIL', f'it cannot be imported ({brief(error)})', 'a working cv2', remedy)
        return
    count, own = limits.cores(), cv2.getNumThreads()
    remedy = f'call cv2.setNumThreads({count}), in transforms of loader workers cv2.setNumThreads(0)'
    level = 'ok' if own <= count else 'warn'
    found, values = f'{counted(own, "thread")} on {counted(count, "core")}', {'threads': own, 'cores': count}
    yield Finding('opencv', level, found, 'no more threads than cores', remedy, values)


def load() -> Iterator[Finding]:
    """Whether other jobs use the processors now; what is timed below is then too slow."""
    average, machine = os.getloadavg()[0], os.cpu_count() or 1
    busy = average / machine
    remedy = 'wait for the other jobs or stop them; figures that are timed now are too slow'
    found = f'{average:.1f} running threads on {machine} cores in the last minute'
    values = {'load': average, 'cores': machine}
    yield Finding('load', 'ok' if busy <= 0.7 else 'warn', found, f'at most {0.7 * machine:.1f}', remedy, values)


def memory(processes: int) -> Iterator[Finding]:
    """Free memory, within the limit of a container."""
    free = limits.available_memory()
    if free is None:
        yield Finding('memory', 'ok', 'not known on this system')
        return
    share = free / processes
    level = 'ok' if share >= 2**31 else 'warn' if share >= 2**28 else 'FAIL'
    expected = 'at least 2 GiB for each process'
    remedy = 'end other programs, or raise the limit of the container'
    found = f'{size_text(free)} free for {counted(processes, "process")}'
    yield Finding('memory', level, found, expected, remedy, {'free': free, 'processes': processes})


def shared_memory() -> Iterator[Finding]:
    """The size of /dev/shm, through which loader workers hand over their batches."""
    if not SHARED.is_dir():
        yield Finding('shared memory', 'ok', f'there is no {SHARED} on this system')
        return
    free = shutil.disk_usage(SHARED).free
    level = 'ok' if free >= 2**30 else 'warn'
    remedy = 'start the container with --ipc=host or --shm-size=8g, or set num_workers=0'
    found = f'{size_text(free)} free in {SHARED}'
    yield Finding('shared memory', level, found, 'at least 1 GiB for loader workers', remedy, {'free': free})


def _driver() -> str:
    """Version of the driver of NVIDIA that the kernel has loaded; empty if it has none."""
    try:
        words = DRIVER.read_text().split()
    except OSError:
        return ''
    return next((word for word in words if word[:1].isdecimal() and '.' in word), 'of an unknown version')


def gpus() -> Iterator[Finding]:
    """One line for each GPU, or one that says why there is none."""
    import torch

    driver, build = _driver(), torch.version.cuda or torch.version.hip
    if not torch.cuda.is_available():
        hidden = os.environ.get('CUDA_VISIBLE_DEVICES')
        values = {'count': 0, 'driver': driver, 'build': build}
        if not driver:
            yield Finding('gpu', 'ok', 'none; training runs on the CPU', values=values)
            return
        remedy = f'install a driver that knows CUDA {build}' if build else 'install a build of torch for CUDA'
        remedy = remedy if hidden is None else f'unset CUDA_VISIBLE_DEVICES, which is {hidden!r}'
        level = 'FAIL' if hidden is None else 'warn'
        found = f'torch {torch.__version__} sees none, although the driver {driver} is loaded'
        yield Finding('gpu', level, found, 'the GPUs of this machine', remedy, values)
        return
    for number in range(torch.cuda.device_count()):
        yield _gpu(number, driver, build)


def _gpu(number: int, driver: str, build: str | None) -> Finding:
    import torch

    name, capability = torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number)
    free, total = torch.cuda.mem_get_info(number)
    found = f'{name}, {size_text(free)} of {size_text(total)} free, driver {driver or "unknown"}, torch for {build}'
    values = {'name': name, 'free': free, 'total': total, 'driver': driver, 'build': build, 'capability': capability}
    known = torch.cuda.get_arch_list()
    if known and torch.version.hip is None and not _runs_on(known, capability):
        remedy = f'install a build of torch for sm_{capability[0]}{capability[1]}'
        expected = f'one of the kinds {", ".join(known)} that this torch was built for'
        return Finding(f'gpu {number}', 'FAIL', found, expected, remedy, values)
    level = 'ok' if free >= 0.9 * total else 'warn'
    remedy = 'end the other processes on it, or choose another by CUDA_VISIBLE_DEVICES'
    return Finding(f'gpu {number}', level, found, 'at least 90% of its memory free', remedy, values)


def _runs_on(known: list[str], capability: tuple[int, int]) -> bool:
    """Whether code for one of ``known``, as in sm_80 or compute_90, runs on a GPU of a capability."""
    for entry in known:
        kind, _, digits = entry.partition('_')
        digits = ''.join(letter for letter in digits if letter.isdecimal())
        built = int(digits[:-1]), int(digits[-1])
        if built <= capability and (kind == 'compute' or built[0] == capability[0]):
            return True
    return False


def _tried(device: str, dtype: Any) -> float:
    """Seconds of a convolution and its gradient in float32, or under autocast to ``dtype``; the least of five."""
    import torch

    images = torch.ones(16, 32, 32, 32, device=device, requires_grad=True)
    weight = torch.ones(32, 32, 3, 3, device=device, requires_grad=True)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None):
            total = torch.nn.functional.conv2d(images, weight).sum()
        total.backward()
        total.item()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def amp() -> Iterator[Finding]:
    """Which kinds of mixed precision work, and whether bfloat16 is any faster than float32."""
    import torch

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    tried = {'bfloat16': torch.bfloat16} | ({'float16': torch.float16} if device == 'cuda' else {})
    plain, parts, values = _tried(device, None), [], {}
    for name, dtype in tried.items():
        try:
            values[name] = _tried(device, dtype) / plain
        except (RuntimeError, NotImplementedError) as error:
            remedy = 'leave --amp out' + (', or set optim_wrapper.dtype=float16' if device == 'cuda' else '')
            yield Finding('amp', 'warn', f'{name} does not work here ({brief(error)})', 'bfloat16', remedy)
            return
        parts.append(f'{name} at {values[name]:.1f} x the time of float32')
    expected = 'bfloat16, on a GPU float16 too'
    yield Finding('amp', 'ok', f'{" and ".join(parts)} on the {device.upper()}', expected, values=values)


def cudnn() -> Iterator[Finding]:
    """Whether cuDNN is there and convolves, where there is a GPU."""
    import torch

    if not torch.cuda.is_available():
        yield Finding('cudnn', 'ok', 'not needed without a GPU')
        return
    version = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    problem = '' if version else 'torch does not find it'
    try:
        _tried('cuda', None)
    except RuntimeError as error:
        problem = brief(error)
    remedy = 'install torch again, and take other copies of cuDNN out of LD_LIBRARY_PATH'
    found = f'version {version}' + (f', but {problem}' if problem else '')
    yield Finding('cudnn', 'FAIL' if problem else 'ok', found, 'a convolution on the GPU', remedy, {'version': version})
