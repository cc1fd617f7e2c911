"""What a run says on the screen; its log file stays complete."""

from __future__ import annotations

import logging
import os

__all__ = ['shorten']


class _OwnLines(logging.Filter):
    """Keeps mmengine's remarks about itself off the screen, but for its warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or f'{os.sep}mmengine{os.sep}' not in record.pathname


def shorten(logger: logging.Logger) -> None:
    """Let the screen show bare messages, and none of mmengine about itself."""
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(logging.Formatter('%(message)s'))
            handler.addFilter(_OwnLines())
