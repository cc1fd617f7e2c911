"""The supervised learner: one network, one policy, one loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from openmixup.errors import InputError, did_you_mean
from openmixup.models.attention import check_attention, describe, differentiable_attention
from openmixup.models.generator import check_generator, load_generator
from openmixup.models.probe import Probe
from openmixup.models.student import READABLE, Output, Student
from openmixup.models.teacher import Teacher
from openmixup.policies import Batch, Context, MixPolicy, Mixture, Network, Plan, View
from openmixup.policies.mixture import TARGETS
from openmixup.registry import MODELS, POLICIES, accepted_arguments

__all__ = ['MixClassifier']

PROVIDES = ('pixels', 'logits', 'features', 'attention', 'cam', 'input_grad', 'tap', 'teacher', 'bank')


@MODELS.register_module()
class MixClassifier(BaseModel):
    """Trains a classifier on the batches that a mixing policy makes, and predicts on plain ones.

    The policy says what the network sees and with which weights the labels of the sources count; the loss sees logits,
    labels and mixture. Nothing here knows any policy by name. The policy is called in training only.

    Args:
        backbone: config of a backbone, (N, C, H, W) to (N, num_features).
        head: config of the head; ``in_features`` is filled from the backbone.
        policy: config of the mixing policy. Learned parts of it are trained along.
        loss: config of the loss, one value per sample from (logits, labels, mixture).
        data_preprocessor: config of what turns a loaded batch into the network's input.
        teacher: arguments of :class:`openmixup.models.teacher.Teacher`, ``dict(decay=0.999)``, for a copy of the
            network whose weights are a moving average of the student's; None: no copy.
        target: 'class', 'soft', 'multilabel' or 'regression', whose logits are the values (``RegressionLoss``).
        channels_last: run the network in the NHWC memory format.
        compile: compile the backbone with ``torch.compile``; passes that change or read hidden tensors stay eager.

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
        compile: bool = False,
    ) -> None:
        if data_preprocessor is not None and not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor=data_preprocessor)
        if target not in TARGETS:
            raise InputError(f'MixClassifier(target={target!r}): expected one of {", ".join(TARGETS)}.')
        network = MODELS.build(backbone)
        if not isinstance(head.get('num_classes'), int):
            raise InputError(
                f'the head has num_classes={head.get("num_classes")!r}: expected a number of classes; '
                'a training run fills it from the data set, elsewhere give it in the config.'
            )
        width = network.num_features
        if head.get('in_features', width) != width:
            raise InputError(
                f'model.head.in_features={head["in_features"]!r}, but the vectors of the backbone have {width}: '
                'leave it out.'
            )
        self.policy: MixPolicy = POLICIES.build(policy)
        classifier = {'in_features': width, **head}
        heads = {name: MODELS.build(classifier) for name in ('main', *self.policy.heads)}
        self.student = Student(network, heads, channels_last)
        self.criterion = MODELS.build(loss)
        self.target = target
        self.context = Context()
        self.last_plan: Plan | None = None
        self.teacher = None if teacher is None else Teacher(self.student, **_teacher_arguments(teacher))
        self._check_needs()
        self._bind(network, head['num_classes'])
        load_generator(self.policy, self.teacher)
        # frozen networks of the policy, in a plain dict: as sub-modules they would be trained and saved
        self._guides = {name: self.build_guide(name, config) for name, config in self.policy.networks.items()}
        if compile:
            self.student.compile_backbone()

    def _check_needs(self) -> None:
        name = type(self.policy).__name__
        unknown = [need for need in self.policy.needs if need not in PROVIDES]
        if unknown:
            raise InputError(
                f'{name} needs {", ".join(unknown)}, which MixClassifier does not provide (it provides '
                f'{", ".join(PROVIDES)}): choose another policy.'
            )
        if 'teacher' in self.policy.needs and self.teacher is None:
            raise InputError(
                f'{name} needs a momentum teacher, but the model has none: add model.teacher=dict(decay=0.999).'
            )
        if 'attention' in self.policy.needs:
            check_attention(self.student.backbone, name)

    def _bind(self, backbone: Any, num_classes: int) -> None:
        """Let the policy look at the network; what has no hidden stages to show is refused only if they matter."""
        looks = any(
            type(module).bind is not MixPolicy.bind for module in self.policy.modules() if isinstance(module, MixPolicy)
        )
        if not looks:
            return
        shown: dict[str, Any] = {'stages': (), 'channels': (), 'channel_dims': ()}
        try:
            shown = {name: getattr(backbone, name) for name in (*shown, 'map_channels', 'prefix_tokens')}
        except InputError:
            if {'tap', 'features', 'teacher'} & set(self.policy.needs):
                raise
        shown |= {'target': self.target, 'name': describe(backbone), 'scattered': backbone.scattered}
        self.policy.bind(Network(num_classes, backbone.num_features, **shown))

    def build_guide(self, name: str, config: dict) -> Student:
        """A frozen network of the policy, in eval mode."""
        try:
            guide = Student(MODELS.build(config), {}).requires_grad_(False).eval()
        except InputError as error:
            raise InputError(f'the frozen network {name!r} of the policy cannot be built: {error}') from error
        if name in self.policy.attention_of:
            check_attention(guide.backbone, f'{type(self.policy).__name__} with its frozen network {name!r}')
        return guide

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MixClassifier:
        for guide in self._guides.values():
            guide._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def update_teacher(self) -> None:
        """One step of the teacher towards the student; to be called after each optimizer step."""
        assert self.teacher is not None
        self.teacher.update(self.student, self.context.progress)

    def train(self, mode: bool = True) -> MixClassifier:
        """Set the mode of all parts; the teacher always stays in eval mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(
        self,
        inputs: Tensor,
        labels: Tensor | None = None,
        bank_inputs: Tensor | None = None,
        bank_labels: Tensor | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Logits (N, C), loss terms by name, or logits by branch.

        Args:
            inputs: (N, C, H, W), normalised.
            labels: as said by ``target``; needed for ``mode='loss'``.
            bank_inputs: (M, C, H, W) images of a second loader, which a policy may take partners from.
            bank_labels: their labels.
            mode: 'tensor', 'loss' or 'predict'.
        """
        if mode == 'loss':
            if labels is None:
                raise InputError("mode='loss' needs labels: the batch has none.")
            bank = None if bank_inputs is None else Batch(bank_inputs, bank_labels, target=self.target)
            return self.loss(inputs, labels, bank)
        if mode == 'predict':
            return self.predict(inputs)
        if mode == 'tensor':
            return self.student(inputs).logits
        raise InputError(f"mode={mode!r}: expected 'tensor', 'loss' or 'predict'.")

    def plan(self, inputs: Tensor, labels: Tensor, bank: Batch | None = None) -> tuple[Plan, Context]:
        """What the policy makes of a batch, and the context that it saw."""
        if bank is None and 'bank' in self.policy.needs:
            raise InputError(
                f'{type(self.policy).__name__} takes partners from a second loader, but the batch has none: '
                'add train_dataloader.bank=dict(...).'
            )
        check_generator(self.teacher)
        preprocessor = self.data_preprocessor
        context = replace(
            self.context, probe=self.probe(), criterion=self.criterion,
            mean=tuple(getattr(preprocessor, 'mean', ())), std=tuple(getattr(preprocessor, 'std', ())),
        )  # fmt: skip
        return self.policy(Batch(inputs, labels, bank, self.target), context), context

    def probe(self) -> Probe:
        """A read-only look at the networks, for one batch."""
        networks = {'student': self.student, **self._guides}
        by_batch: tuple[str, ...] = ()
        if self.teacher is not None:
            networks['teacher'] = self.teacher.network
            by_batch = ('teacher',) if self.teacher.bn == 'batch' else ()
        return Probe(networks, self.criterion, by_batch)

    def loss(self, inputs: Tensor, labels: Tensor, bank: Batch | None = None) -> dict[str, Tensor]:
        """Loss terms of one training step, and the share of the mixture that the network recognised.

        Keys that contain ``loss`` are summed and differentiated; ``agreement`` is for the log: the first trained view
        of several sources, else the first view.
        """
        plan, context = self.plan(inputs, labels, bank)
        outputs = self.run_views(plan)
        self.last_plan = plan = self.policy.finish(plan, outputs, context)
        return self.terms(plan, outputs)

    def terms(self, plan: Plan, outputs: tuple[Output, ...]) -> dict[str, Tensor]:
        """Loss terms and agreement of a finished plan, from one output for each of its views."""
        sources = plan.batch.source_labels
        terms: dict[str, Tensor] = {}
        for view, output in zip(plan.views, outputs, strict=True):
            if view.share == 0:  # forward only
                continue
            term = self.criterion(output.logits, sources, view.mixture).mean()
            term = term if view.share == 1 else view.share * term
            key = f'loss_{view.head}'
            terms[key] = terms[key] + term if key in terms else term
        if plan.batch.target == 'class':
            terms['agreement'] = agreement(outputs[plan.mixed].logits, sources, plan.views[plan.mixed].mixture)
        # the key must say "loss" to be summed, and must not be that of a view
        return terms | {f'loss_{name.removeprefix("loss_")}_term': term for name, term in plan.losses.items()}

    def run_views(self, plan: Plan) -> tuple[Output, ...]:
        """One output for each view: a pass each, or one for all of a joined plan."""
        for view in plan.views:
            unknown = [name for name in view.read if name not in READABLE]
            if unknown:
                raise InputError(
                    f'{type(plan.chosen).__name__} wants to read {", ".join(unknown)} of the forward pass, but '
                    f'MixClassifier returns {", ".join(READABLE)}: choose another policy.'
                )
        if not plan.join or len(plan.views) < 2:
            return tuple(self._run_view(view) for view in plan.views)
        first = plan.views[0]
        if any(view.tap is not None or view.head != first.head for view in plan.views):
            raise InputError(
                f'{type(plan.policy).__name__} joins views with a change of a hidden stage or with several heads: '
                'views in one forward pass share all of it.'
            )
        read = tuple(dict.fromkeys(name for view in plan.views for name in view.read))
        with differentiable_attention(*(view.inputs for view in plan.views)):
            joined = self.student(torch.cat([view.inputs for view in plan.views]), None, first.head, read)
        return split_output(joined, [len(view.inputs) for view in plan.views])

    def _run_view(self, view: View) -> Output:
        with differentiable_attention(view.inputs):
            return self.student(view.inputs, view.tap, view.head, view.read)

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the loss terms, and what the log keeps of them; all are scalars already."""
        total = torch.as_tensor(sum(value for key, value in losses.items() if 'loss' in key))
        return total, {'loss': total.detach(), **{key: value.detach() for key, value in losses.items()}}

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """(N, C) logits by branch.

        'student' is the student's main head, 'teacher' the teacher's; further heads have their own name behind it, as
        'student/mix' and 'teacher/mix'.
        """
        networks = [self.student] if self.teacher is None else [self.student, self.teacher.network]
        logits = [values for network in networks for values in network.logits(inputs).values()]
        return dict(zip(self.branches, logits, strict=True))

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of what :meth:`predict` gives."""
        names = ('student',) if self.teacher is None else ('student', 'teacher')
        return tuple(name if head == 'main' else f'{name}/{head}' for name in names for head in self.student.heads)


def _teacher_arguments(teacher: dict) -> dict[str, Any]:
    accepted = [name for name in accepted_arguments(Teacher) or () if name != 'student']
    for name in teacher:
        if name not in accepted:
            takes = ', '.join(sorted(accepted))
            raise InputError(f'teacher has no argument {name!r}{did_you_mean(name, accepted)} (it takes {takes}).')
    return dict(teacher)


def split_output(joined: Output, sizes: list[int]) -> tuple[Output, ...]:
    """The output of a joined pass as one for each view, of ``sizes`` samples."""
    values = [getattr(joined, each.name) for each in fields(Output)]
    parts = [[None] * len(sizes) if value is None else value.split(sizes) for value in values]
    return tuple(Output(*part) for part in zip(*parts, strict=True))


@torch.no_grad()
def agreement(logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
    """() mean weight of the sources whose class (S,) is the largest logit (N, C): top-1 accuracy on a mixture."""
    hit = labels[mixture.index] == logits.argmax(1, keepdim=True)
    return (hit * mixture.weight).sum(1).mean()
