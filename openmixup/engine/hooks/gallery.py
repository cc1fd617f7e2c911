"""A picture of what the network sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from openmixup.engine.distributed import learner_of
from openmixup.errors import InputError
from openmixup.registry import HOOKS

__all__ = ['MixGalleryHook']


@HOOKS.register_module()
class MixGalleryHook(Hook):
    """Draws the first mixed batch of a run: sources, mask, mixture, lam and label weights.

    The picture goes to ``mix_gallery.png`` in the work directory and to the visualizer (TensorBoard). Images that are
    neither grey nor of three colours are not drawn, which the log says.

    Args:
        rows: samples in the picture.
    """

    def __init__(self, rows: int = 6) -> None:
        self.rows = rows
        self._drawn = False

    def before_train(self, runner: Any) -> None:
        """A continued run has its picture already."""
        self._drawn = runner.train_loop.iter > 0

    @staticmethod
    def _is_mixed(runner: Any) -> bool:
        plan = learner_of(runner).last_plan
        return plan.views[plan.mixed].mixture.index.shape[1] > 1

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Draw the first batch, and once more the first that is mixed, if that is another one."""
        mixed = self._is_mixed(runner)
        if runner.rank != 0 or self._drawn or not (mixed or batch_idx == 0):
            return
        self._drawn = mixed
        from openmixup.analysis.gallery import mix_gallery, write_png

        learner = learner_of(runner)
        plan = learner.last_plan
        preprocessor = learner.data_preprocessor
        try:
            picture = mix_gallery(
                plan.batch.source_images, plan.views[plan.mixed], plan.batch.source_labels,
                preprocessor.mean, preprocessor.std,
                class_names=runner.classes or None, rows=self.rows,
            )  # fmt: skip
        except InputError as error:  # such as images of two channels
            self._drawn = True
            runner.logger.info(f'mix_gallery.png is left out: {error}')
            return
        write_png(Path(runner.work_dir, 'mix_gallery.png'), picture)
        runner.visualizer.add_image('mix_gallery', picture, step=0)
