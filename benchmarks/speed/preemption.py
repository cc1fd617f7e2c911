"""How long a run takes to end after SIGTERM: from the signal to the end of the process, in each phase of a run.

Each trial is a process of its own that gets the signal at a random moment of its phase: while it is built (nothing is
there to save yet), in a training step, in an evaluation, while it waits for data that does not come. But for the first
phase the run must have been saved, and the exit code must be 143, as a shell counts it. The bound is a step, or a batch
of the evaluation, and the writing of the checkpoint; env_cfg.preemption_grace bounds the former.

    python benchmarks/speed/preemption.py [--trials 20] [--config CONFIG]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from openmixup.cli.train import main as train
from openmixup.datasets.memory import InMemoryDataset
from openmixup.engine.loops import TrainLoop
from openmixup.engine.runner import Runner
from openmixup.models import MixClassifier

CONFIG = Path(__file__).parents[2] / 'configs/digits/resnet8_cutmix_1xb50-30e_digits.py'


def soon(longest: float = 0.05) -> None:
    """Send SIGTERM to this process within ``longest`` seconds, while it goes on; note when."""

    def send() -> None:
        time.sleep(random.uniform(0, longest))
        Path('signalled').write_text(str(time.monotonic()))
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send, daemon=True).start()


def on_call(owner: type, method: str, number: int, action: Callable[[], None]) -> Any:
    """A patch that runs ``action`` when the method is called for the ``number``-th time."""
    plain, calls = getattr(owner, method), []

    def watched(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            action()
        return plain(*args, **kwargs)

    return mock.patch.object(owner, method, watched)


def starved() -> None:
    """No data comes."""
    soon()
    time.sleep(600)


PHASES: dict[str, Callable[[], Any]] = {
    'building': lambda: on_call(Runner, '__init__', 1, soon),
    'training': lambda: on_call(TrainLoop, 'step', random.randint(2, 40), soon),
    'evaluation': lambda: on_call(MixClassifier, 'predict', random.randint(1, 8), lambda: soon(0.005)),
    'waiting for data': lambda: on_call(InMemoryDataset, '__getitems__', random.randint(2, 40), starved),
}


@contextlib.contextmanager
def silent(log: Path) -> Iterator[None]:
    """Send what this process prints to a file."""
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    yield


def trial(phase: str, config: Path, folder: Path, seed: int) -> tuple[float, bool]:
    """Seconds from the signal to the end of the process, and whether a checkpoint was written.

    Raises:
        RuntimeError: the process ended otherwise than by the signal.
    """
    number = os.fork()
    if not number:
        code = 1
        try:
            os.chdir(folder)
            random.seed(seed)
            with silent(folder / 'log'), PHASES[phase]():
                train([str(config), '--work-dir', str(folder / 'run')])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(number, 0)
    end = time.monotonic()
    code = os.waitstatus_to_exitcode(status)
    if code not in (143, -signal.SIGTERM):
        raise RuntimeError(f'{phase}: the process ended with {code}.\n{(folder / "log").read_text()[-2000:]}')
    return end - float((folder / 'signalled').read_text()), bool(list((folder / 'run').glob('*_*.pth')))


def main() -> None:
    """Run all trials and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--trials', type=int, default=20)
    parser.add_argument('--config', type=Path, default=CONFIG)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f'{args.config.name}, {platform.processor() or platform.machine()}, torch {torch.__version__}')
    print('| signal in | trials | saved | median | longest |\n|---|---|---|---|---|')
    for phase in PHASES:
        seconds, saved = [], 0
        for seed in range(args.trials):
            with tempfile.TemporaryDirectory() as folder:
                took, written = trial(phase, args.config.resolve(), Path(folder), seed)
            seconds.append(took)
            saved += written
        if phase != 'building' and saved != args.trials:
            raise RuntimeError(f'{phase}: only {saved} of {args.trials} runs were saved.')
        print(f'| {phase} | {len(seconds)} | {saved} | {statistics.median(seconds):.2f} s | {max(seconds):.2f} s |')


if __name__ == '__main__':
    main()
