"""Hooks: what happens beside the training step."""

from openmixup.engine.hooks.checkpoint import CheckpointHook
from openmixup.engine.hooks.energy import EnergyHook
from openmixup.engine.hooks.gallery import MixGalleryHook
from openmixup.engine.hooks.log import LogHook
from openmixup.engine.hooks.non_finite import NonFiniteHook
from openmixup.engine.hooks.summary import SummaryHook
from openmixup.engine.hooks.teacher import TeacherHook

__all__ = [
    'CheckpointHook',
    'EnergyHook',
    'LogHook',
    'MixGalleryHook',
    'NonFiniteHook',
    'SummaryHook',
    'TeacherHook',
]
