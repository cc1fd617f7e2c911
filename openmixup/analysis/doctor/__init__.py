"""What would go wrong with a run before it does: the checks behind ``tools/doctor.py``."""

from __future__ import annotations

from openmixup.analysis.doctor import machine, packages
from openmixup.analysis.doctor.report import Effort, Finding, Say, attempt, worst

__all__ = ['Effort', 'Finding', 'attempt', 'examine_machine', 'worst']


def examine_machine(effort: Effort, say: Say) -> None:
    """Look at the installed packages and at the machine.

    Args:
        effort: for how many processes.
        say: gets each finding.
    """
    processes = effort.processes
    checks = [
        ('python', packages.python, 'FAIL'), ('packages', packages.versions, 'FAIL'),
        ('torchvision', packages.pair, 'FAIL'), ('openmixup', packages.one_package, 'warn'),
        ('threads', lambda: machine.threads(processes), 'warn'), ('opencv', machine.opencv, 'warn'),
        ('load', machine.load, 'warn'), ('memory', lambda: machine.memory(processes), 'warn'),
        ('shared memory', machine.shared_memory, 'warn'), ('gpu', machine.gpus, 'FAIL'),
        ('amp', machine.amp, 'warn'), ('cudnn', machine.cudnn, 'warn'),
    ]  # fmt: skip
    for name, check, level in checks:
        for finding in attempt(name, check, level=level):
            say(finding)
