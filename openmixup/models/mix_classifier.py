"""The supervised learner: one network, one policy, one loss."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from openmixup.errors import InputError
from openmixup.models.student import Student
from openmixup.policies import Batch, Context, MixPolicy, Mixture, Plan
from openmixup.registry import MODELS, POLICIES

__all__ = ['MixClassifier']

PROVIDES = ('pixels', 'tap')


@MODELS.register_module()
class MixClassifier(BaseModel):
    """Trains a classifier on the batches that a mixing policy makes, and predicts on plain ones.

    The policy says what the network sees and with which weights the labels of the sources count; the loss sees logits,
    labels and mixture. Nothing here knows any policy by name. The policy is called in training only.

    Args:
        backbone: config of a backbone, (N, C, H, W) to (N, num_features).
        head: config of the head; ``in_features`` is filled from the backbone.
        policy: config of the mixing policy.
        loss: config of the loss, one value per sample from (logits, labels, mixture).
        data_preprocessor: config of what turns a loaded batch into the network's input.
        teacher: ``dict(decay=0.999)`` for a copy of the network whose weights are an exponential moving average of the
            student's (``teacher = decay * teacher + (1 - decay) * student`` after each optimizer step); None: no copy.
        target: kind of the labels: 'class', 'soft' or 'multilabel'.
        channels_last: run the network in the NHWC memory format.

    Attributes:
        context: seed, step and streams of the next training step; set by the loop.
        last_plan: what the policy made of the last training batch, for hooks; the loop drops it behind them.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        policy: dict | MixPolicy = {'type': 'Vanilla'},  # noqa: B006  (never changed)
        loss: dict | nn.Module = {'type': 'SoftCrossEntropy'},  # noqa: B006
        data_preprocessor: dict | nn.Module | None = None,
        teacher: dict | None = None,
        target: str = 'class',
        channels_last: bool = False,
    ) -> None:
        if data_preprocessor is not None and not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor=data_preprocessor)
        if target not in ('class', 'soft', 'multilabel'):
            raise InputError(f"MixClassifier(target={target!r}): expected 'class', 'soft' or 'multilabel'.")
        network = MODELS.build(backbone)
        if not isinstance(head.get('num_classes'), int):
            raise InputError(
                f'the head has num_classes={head.get("num_classes")!r}: expected a number of classes; '
                'a training run fills it from the data set, elsewhere give it in the config.'
            )
        classifier = MODELS.build({'in_features': network.num_features, **head})
        self.student = Student(network, {'main': classifier}, channels_last)
        self.policy: MixPolicy = POLICIES.build(policy)
        self.criterion = MODELS.build(loss)
        self.target = target
        self.context = Context()
        self.last_plan: Plan | None = None
        missing = [need for need in self.policy.needs if need not in PROVIDES]
        if missing:
            raise InputError(
                f'{type(self.policy).__name__} needs {", ".join(missing)}, which MixClassifier does not provide '
                f'(it provides {", ".join(PROVIDES)}): choose another policy.'
            )
        self.teacher, self.teacher_decay = self._build_teacher(teacher)

    def _build_teacher(self, teacher: dict | None) -> tuple[Student | None, float]:
        if teacher is None:
            return None, 0.0
        decay = teacher.get('decay', 0.999)
        unknown = sorted(set(teacher) - {'decay'})
        if unknown:
            raise InputError(f'teacher has no argument {unknown[0]!r} (it takes decay).')
        if not isinstance(decay, int | float) or not 0 <= decay <= 1:
            raise InputError(f'teacher=dict(decay={decay!r}): expected a number from 0 to 1.')
        copied = copy.deepcopy(self.student).requires_grad_(False)
        return copied, float(decay)

    @torch.no_grad()
    def update_teacher(self) -> None:
        """One step of the moving average: weights are averaged, buffers (BatchNorm statistics) are copied."""
        assert self.teacher is not None
        there: list[Tensor] = list(self.teacher.parameters())
        here: list[Tensor] = list(self.student.parameters())
        torch._foreach_lerp_(there, here, 1 - self.teacher_decay)
        buffers = list(self.teacher.buffers())
        if buffers:
            torch._foreach_copy_(buffers, list(self.student.buffers()))

    def train(self, mode: bool = True) -> MixClassifier:
        """Set the mode of all parts; the teacher always stays in eval mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, inputs: Tensor, labels: Tensor | None = None, mode: str = 'tensor') -> Any:
        """Logits (N, C), loss terms by name, or logits by branch.

        Args:
            inputs: (N, C, H, W), normalised.
            labels: as said by ``target``; needed for ``mode='loss'``.
            mode: 'tensor', 'loss' or 'predict'.
        """
        if mode == 'loss':
            if labels is None:
                raise InputError("mode='loss' needs labels: the batch has none.")
            return self.loss(inputs, labels)
        if mode == 'predict':
            return self.predict(inputs)
        if mode == 'tensor':
            return self.student(inputs).logits
        raise InputError(f"mode={mode!r}: expected 'tensor', 'loss' or 'predict'.")

    def loss(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss terms of one training step, and the share of the mixture that the network recognised.

        Keys that contain ``loss`` are summed and differentiated; ``agreement`` is for the log.
        """
        plan = self.policy(Batch(inputs, labels, target=self.target), self.context)
        asked = [name for view in plan.views for name in view.read]
        if asked:
            raise InputError(
                f'{type(plan.chosen).__name__} wants to read {", ".join(asked)} of the forward pass, but MixClassifier '
                'returns logits only: choose another policy.'
            )
        outputs = tuple(self.student(view.inputs, tap=view.tap, head=view.head) for view in plan.views)
        plan = self.policy.finish(plan, outputs, self.context)
        sources = plan.batch.source_labels
        terms: dict[str, Tensor] = {}
        for view, output in zip(plan.views, outputs, strict=True):
            if view.share == 0:  # forward only
                continue
            term = self.criterion(output.logits, sources, view.mixture).mean()
            term = term if view.share == 1 else view.share * term
            key = f'loss_{view.head}'
            terms[key] = terms[key] + term if key in terms else term
        if self.target == 'class':
            terms['agreement'] = agreement(outputs[0].logits, sources, plan.views[0].mixture)
        self.last_plan = plan
        # the key must say "loss" to be summed, and must not be that of a view
        return terms | {f'loss_{name.removeprefix("loss_")}_term': term for name, term in plan.losses.items()}

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the loss terms, and what the log keeps of them; all are scalars already."""
        total = torch.as_tensor(sum(value for key, value in losses.items() if 'loss' in key))
        return total, {'loss': total.detach(), **{key: value.detach() for key, value in losses.items()}}

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """(N, C) logits by branch: 'student', and 'teacher' if there is one."""
        branches = {'student': self.student, 'teacher': self.teacher}
        return {name: network(inputs).logits for name, network in branches.items() if network is not None}


@torch.no_grad()
def agreement(logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
    """() mean weight of the sources whose class (S,) is the largest logit (N, C): top-1 accuracy on a mixture."""
    hit = labels[mixture.index] == logits.argmax(1, keepdim=True)
    return (hit * mixture.weight).sum(1).mean()
