"""Say what would go wrong with a run before it does: packages, machine, data, and a few steps of the training."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openmixup.cli import whole

__all__ = ['main']


def parser() -> argparse.ArgumentParser:
    """The arguments of ``tools/doctor.py``."""
    made = argparse.ArgumentParser(prog='doctor', description=__doc__)
    made.add_argument('config', nargs='?', help='config file, or name of a shipped one; without it only the machine')
    made.add_argument('--data', metavar='DIR', help='root folder of the data; without a config, of class folders')
    made.add_argument('--work-dir', help='where the run would write (default: as of tools/train.py)')
    made.add_argument('--policy', metavar='NAME', help='mixing policy, instead of the one of the config')
    made.add_argument('--amp', action='store_true', help='mixed precision (bfloat16), on CPU or GPU')
    made.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes of the config')
    made.add_argument('--processes', type=whole(1), help='processes of the run on this machine (default: the launcher)')
    made.add_argument('--quick', action='store_true', help='try no step and time nothing; decode fewer images')
    made.add_argument('--full', action='store_true', help='look at the header and the end of all image files')
    made.add_argument('--json', action='store_true', help='one JSON object in place of the lines')
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks; 1 if one of them fails."""
    args = parser().parse_args(argv)
    from openmixup.analysis.doctor import Effort, Finding, worst

    findings: list[Finding] = []

    def say(finding: Finding) -> None:
        findings.append(finding)
        if not args.json:
            print(finding, flush=True)

    effort = Effort(args.quick, args.full, args.processes or _launched(), 20 if args.quick else 200)
    # what a config or a library prints is kept out of the JSON
    with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
        _examine(args, effort, say)
    counts = {level: sum(finding.level == level for finding in findings) for level in ('FAIL', 'warn', 'ok')}
    if args.json:
        print(json.dumps({'level': worst(findings), 'counts': counts, 'findings': [vars(f) for f in findings]}))
    else:
        print(f'{len(findings)} checks: {counts["FAIL"]} FAIL, {counts["warn"]} warn, {counts["ok"]} ok')
    return int(counts['FAIL'] > 0)


def _launched() -> int:
    """Processes on this machine by the word of torchrun or Slurm."""
    given = os.environ.get('LOCAL_WORLD_SIZE') or os.environ.get('SLURM_NTASKS_PER_NODE') or '1'
    return int(given) if given.isdecimal() else 1


def _examine(args: argparse.Namespace, effort: Any, say: Any) -> None:
    from openmixup.analysis.doctor import attempt, examine_machine

    examine_machine(effort, say)

    def rest() -> Iterator[Any]:
        from openmixup.analysis.doctor import places, recipe

        if args.config:
            config = _config(args)
            yield _loaded(args.config)
            recipe.examine_run(config, effort, say)
            return
        if args.data:
            recipe.examine_folder(args.data, effort, say)
        if args.work_dir:
            yield from places.work_dir(Path(args.work_dir))

    if args.config or args.data or args.work_dir:
        for finding in attempt('config', rest):
            say(finding)


def _config(args: argparse.Namespace) -> Any:
    """The config with the arguments in it, as training has it."""
    from openmixup.cli.train import work_dir
    from openmixup.engine.config import load_config, validate

    config = load_config(args.config, args.cfg_options, args.policy, args.data)
    config['work_dir'] = work_dir(args, config)
    if args.amp and config.get('optim_wrapper') is not None:
        config['optim_wrapper']['type'] = 'AutocastOptimWrapper'
    validate(config)
    return config


def _loaded(name: str) -> Any:
    from openmixup.analysis.doctor import Finding
    from openmixup.engine.config import find_config

    return Finding('config', 'ok', f'{find_config(name)} loads, and each of its keys is read')
