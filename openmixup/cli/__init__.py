"""The commands behind ``tools/*.py`` and ``openmixup NAME``. Nothing heavy is imported before arguments are parsed."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from openmixup.errors import InputError, did_you_mean

__all__ = ['find_modules_here', 'main', 'run', 'whole']


def find_modules_here() -> None:
    """Let modules of the user in the working directory be imported: those of custom_imports or MODULE:CLASS."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def whole(least: int) -> Callable[[str], int]:
    """The argparse type of a whole number of at least ``least``."""

    def read(text: str) -> int:
        if not text.strip().removeprefix('-').isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number of at least {least}.')
        return int(text)

    return read


def run(name: str, argv: Sequence[str] | None = None) -> None:
    """Run one command; a mistake of the user ends it with one sentence and exit code 2."""
    command = importlib.import_module(f'openmixup.cli.{name}')
    find_modules_here()
    # Waiting threads that spin instead of sleeping slow a run down tenfold when another job uses the same cores. OpenMP
    # reads this when torch is imported, which no command has done yet.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    failed = False
    try:
        code = command.main(argv)
    except SystemExit as told:  # a run that was told to end, for one
        code = told.code
    except InputError as error:
        print(f'{name}: {error}', file=sys.stderr)
        code, failed = 2, True
    except KeyboardInterrupt:
        code, failed = 130, True
    engine = sys.modules.get('openmixup.engine.distributed')
    if engine is not None:
        engine.leave_processes(failed)  # here, where nothing refers to the run any more
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> None:
    """``openmixup NAME ARGUMENTS``: the tools of an installed package."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    names = sorted(path.stem for path in Path(__file__).parent.glob('[!_]*.py'))
    if not arguments or arguments[0] in ('-h', '--help'):
        print(f'usage: openmixup {{{",".join(names)}}} ...')
        sys.exit(0 if arguments else 2)
    arguments[0] = arguments[0].replace('-', '_')
    if arguments[0] not in names:
        hint = did_you_mean(arguments[0], names)
        print(f'openmixup: no command {arguments[0]!r}{hint} (known: {", ".join(names)})', file=sys.stderr)
        sys.exit(2)
    sys.argv[0] = f'openmixup {arguments[0]}'
    run(arguments[0], arguments[1:])
