"""From a checked config to a runner, with the user's mistakes told in one sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from openmixup.errors import InputError

__all__ = ['build_runner']


def build_runner(config: Any) -> Any:
    """The runner of ``config``; everything that can be known before the first step is checked here."""
    from openmixup.engine.runner import Runner

    work_dir = Path(config['work_dir'])
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        probe = work_dir / f'.writable.{os.getpid()}'  # processes may come here together
        probe.write_text('')
        probe.unlink()
    except OSError as error:
        raise InputError(
            f'work dir {work_dir} cannot be written ({error.strerror}): choose another --work-dir.'
        ) from error
    return Runner.from_cfg(config)
