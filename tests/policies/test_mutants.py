"""Bugs that other libraries had, planted one by one: each must be reported by the check that is meant for it."""

import dataclasses
import functools
import random

import pytest
import torch

from openmixup.policies import (
    CMO,
    AutoMix,
    Batch,
    CutMix,
    ManifoldMix,
    MaskPolicy,
    Mixture,
    Mixup,
    Plan,
    RandomChoice,
    RecursiveMix,
    Tap,
    TransMix,
    View,
)
from openmixup.policies.masks import Boxes, cutmix_boxes
from openmixup.policies.pairing import pair_index, pair_weights
from openmixup.policies.transfer import to_device
from openmixup.testing import CHECKS, PolicyCheckError, check_policy


def changed(view, **fields):
    values = {name: getattr(view, name) for name in ('inputs', 'mixture', 'lazy_masks')}
    return View(**{**values, **fields})


class ProbabilityTwice(Mixup):
    """kornia: a share prob of the batches is chosen, and of these a share prob is mixed."""

    def __init__(self, alpha=1.0, per='batch', pairing='permutation', prob=0.5):
        super().__init__(alpha, per, pairing)
        self.prob = prob

    @property
    def rate(self):
        return self.prob

    def plan(self, batch, ctx):
        first, second = torch.rand(2, generator=ctx.rng).tolist()
        return super().plan(batch, ctx) if max(first, second) < self.prob else self.unmixed(batch)


class HiddenUnmixedRate(Mixup):
    """A tenth of the batches is left alone and nothing says so."""

    def plan(self, batch, ctx):
        alone = torch.rand(1, generator=ctx.rng).item() < 0.1
        return self.unmixed(batch) if alone else super().plan(batch, ctx)


class SwappedProbs(RandomChoice):
    """The probabilities are given to the wrong members."""

    def shares(self, epoch):
        return super().shares(epoch).flip(0)


class SharedPlacement(CutMix):
    """kornia: all boxes of a batch have one centre."""

    def mask(self, batch, partner, lam, ctx):
        height, width = batch.images.shape[-2:]
        limit = torch.tensor([height, width])
        centre = (torch.rand(1, 2, generator=ctx.rng) * limit).long()
        half = ((1 - lam).sqrt()[:, None] * limit).long() // 2
        return Boxes((centre - half).clamp(min=0), torch.minimum(centre + half, limit), (height, width))


class SharedLam(Mixup):
    """per='sample' draws one lam for the batch all the same."""

    def draw_lam(self, count, rng):
        return super().draw_lam(1, rng).expand(count)


class InnerBox(CutMix):
    """timm and mmpretrain: the box lies inside, but the draw of its corner leaves out the last place."""

    def mask(self, batch, partner, lam, ctx):
        limit = torch.tensor(batch.images.shape[-2:])
        side = (limit * (0.2 + 0.6 * torch.rand(len(lam), 2, generator=ctx.rng))).long()
        low = (torch.rand(len(lam), 2, generator=ctx.rng) * (limit - side)).long()  # + 1 is missing
        return Boxes(low, low + side, tuple(limit.tolist()))


class SwappedSides(CutMix):
    """composer: height and width are swapped, so that the right of a wide image is never reached."""

    def mask(self, batch, partner, lam, ctx):
        height, width = batch.images.shape[-2:]
        boxes = cutmix_boxes(lam, (width, height), ctx.rng)
        limit = torch.tensor([height, width])
        return Boxes(torch.minimum(boxes.low, limit), torch.minimum(boxes.high, limit), (height, width))


class InvertedLabel(CutMix):
    """kornia: the weight of the partner goes to the own label."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return changed(view, mixture=Mixture(view.mixture.index, view.mixture.weight.flip(1)))


class LamBeforeClipping(CutMix):
    """The label is the drawn lam, although the border has cut off a part of the box."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return changed(view, mixture=Mixture(view.mixture.index, pair_weights(lam, len(batch))))


class TransposedMask(CutMix):
    """The mask is that of the transposed picture."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return changed(view, lazy_masks=lambda: view.masks.transpose(2, 3).reshape(view.masks.shape))


class TwoPartners(Mixup):
    """The label is mixed with that of another image than the picture."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        other = pair_index(torch.randperm(len(batch), generator=ctx.rng))
        return changed(view, mixture=Mixture(other.to(partner.device), view.mixture.weight))


class WritesIntoInputs(Mixup):
    """timm: the batch itself is overwritten."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        batch.images.copy_(view.inputs)
        return changed(view, inputs=batch.images)


class WritesBack(Mixup):
    """Overwrites the batch for a moment: another thread, or autograd, would see it."""

    def view(self, batch, partner, lam, ctx):
        batch.images.mul_(2).div_(2)
        return super().view(batch, partner, lam, ctx)


class TorchGlobal(Mixup):
    """Draws from torch's global generator."""

    def draw_lam(self, count, rng):
        return torch.distributions.Beta(self.alpha, self.alpha).sample((count,)).double()


class PythonGlobal(Mixup):
    """Draws from python's global generator."""

    def draw_lam(self, count, rng):
        return torch.tensor([random.betavariate(self.alpha, self.alpha) for _ in range(count)], dtype=torch.float64)


class HostRead(CutMix):
    """Looks at the images, which stops the host until the device has caught up."""

    def mask(self, batch, partner, lam, ctx):
        if batch.images.amax() > 1e6:
            lam = lam * 0
        return super().mask(batch, partner, lam, ctx)


class CopiedAlone(Mixup):
    """The weights go to the device by themselves, and the host waits for it."""

    def view(self, batch, partner, lam, ctx):
        index, weight = pair_index(partner), pair_weights(lam, len(batch))
        mixture = Mixture(*to_device(batch.images.device, index), weight.to(batch.images.device))
        return View(mixture.of(batch.source_images), mixture, super().view(batch, partner, lam, ctx).lazy_masks)


class ManyKernels(Mixup):
    """One kernel a sample."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        rows = [image.float().mul(2).div(2) for image in view.inputs]
        return changed(view, inputs=torch.stack(rows).to(view.inputs.dtype))


class OneSidedBeta(Mixup):
    """lam from Beta(alpha, 1)."""

    def draw_lam(self, count, rng):
        return torch.rand(count, generator=rng, dtype=torch.float64) ** (1 / self.alpha)


class OneSidedBetaBox(CutMix):
    """The same where the weights do not show it."""

    draw_lam = OneSidedBeta.draw_lam


class MixesInEval(Mixup):
    """Forgets about eval mode."""

    def forward(self, batch, ctx):
        return self.unmixed(batch) if len(batch) == 1 else self.plan(batch, ctx)


class ChangesType(Mixup):
    """The picture of half-precision images is float32."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return changed(view, inputs=view.inputs.float())


class UnevenWeights(Mixup):
    """The weights do not sum to one, and no tag says so."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return changed(view, mixture=Mixture(view.mixture.index, view.mixture.weight * 0.9))


class LabelsUnchecked(Mixup):
    """Takes any labels."""

    def mix(self, images, labels=None, rng=None, **options):
        return super().mix(images, None, rng)


class ForgetsArgument(Mixup):
    """Stores another value than it was given."""

    def __init__(self, alpha=1.0, per='batch', pairing='permutation', share=0.5):
        super().__init__(alpha, per, pairing)
        self.share = share * 2


class Unpicklable(Mixup):
    """Holds a function that a loader worker cannot get."""

    def __init__(self, alpha=1.0, per='batch', pairing='permutation'):
        super().__init__(alpha, per, pairing)
        self.law = lambda x: x


class SideInsteadOfArea(CutMix):
    """The side of the box is 1 - lam: the root is missing."""

    def mask(self, batch, partner, lam, ctx):
        return super().mask(batch, partner, 1 - (1 - lam) ** 2, ctx)


class SwappedArea(CutMix):
    """The box has the area lam: own and partner are swapped."""

    def mask(self, batch, partner, lam, ctx):
        return super().mask(batch, partner, 1 - lam, ctx)


class PairingIgnored(Mixup):
    """Each sample meets its neighbour, whatever the pairing."""

    def view(self, batch, partner, lam, ctx):
        return super().view(batch, torch.arange(len(partner)).roll(1), lam, ctx)


class OnlyClassIndices(Mixup):
    """Targets other than class indices get the weights of the partner."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        if batch.target == 'class':
            return view
        return changed(view, mixture=Mixture(view.mixture.index, view.mixture.weight.flip(1)))


class SameStreamEachCall(Mixup):
    """Without a generator each call begins its stream anew."""

    def mix(self, images, labels=None, rng=None, **options):
        return super().mix(images, labels, rng or torch.Generator().manual_seed(3), **options)


class SameStreamEachObject(Mixup):
    """Without a generator each object has its stream, and all begin alike."""

    def mix(self, images, labels=None, rng=None, **options):
        if not hasattr(self, 'stream'):
            self.stream = torch.Generator().manual_seed(3)
        return super().mix(images, labels, rng or self.stream, **options)


class DrawnInverted(CutMix):
    """A label by the drawn lam, but that of the partner."""

    label = 'drawn'

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return changed(view, mixture=Mixture(view.mixture.index, view.mixture.weight.flip(1)))


class ClampedPicture(Mixup):
    """The picture is clamped to [0, 1], although images are normalised."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return changed(view, inputs=view.inputs.clamp(0, 1))


class LoneImageFades(Mixup):
    """The only image of a batch is blended with its mirror image."""

    def forward(self, batch, ctx):
        plan = super().forward(batch, ctx)
        if len(batch) > 1 or not self.training:
            return plan
        return Plan(batch, (changed(plan.views[0], inputs=(batch.images + batch.images.flip(3)) / 2),), self)


class ReadsMemoryInOrder(Mixup):
    """Takes the memory as it lies for that of a contiguous tensor."""

    def view(self, batch, partner, lam, ctx):
        shape = batch.images.shape
        images = batch.images.as_strided(shape, torch.empty(shape, device='meta').stride())
        return super().view(Batch(images, batch.labels, target=batch.target), partner, lam, ctx)


class TwoViews(Mixup):
    """The batch as it is and mixed, as RegMixup has it. Nothing is wrong with it."""

    def plan(self, batch, ctx):
        mixed = super().plan(batch, ctx)
        return Plan(batch, (*self.unmixed(batch).views, *mixed.views), self)


class SecondViewInverted(TwoViews):
    """The label of the second view is that of the partner."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return changed(view, mixture=Mixture(view.mixture.index, view.mixture.weight.flip(1)))


class SecondViewUneven(TwoViews):
    """The weights of the second view do not sum to one."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return changed(view, mixture=Mixture(view.mixture.index, view.mixture.weight * 0.9))


class SecondViewChangesType(TwoViews):
    """The second view of half-precision images is float32."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return changed(view, inputs=view.inputs.float())


class HalfThePicture(MaskPolicy):
    """A third party's own: takes the right half, always."""

    def mask(self, batch, partner, lam, ctx):
        height, width = batch.images.shape[-2:]
        return Boxes(torch.tensor([[0, width // 2]]), torch.tensor([[height, width]]), (height, width))


class FlippedDonor(CutMix):
    """What is pasted is upside down, which flat images do not show."""

    def donor(self, batch, partner, region, ctx):
        return super().donor(batch, partner, region, ctx).flip(2)


# Policies of networks. What they do to a network goes by ways that the probe does not offer.


def student(ctx):
    return ctx.probe._networks['student']


class Attentive(CutMix):
    """Looks at features and makes nothing of it. Nothing is wrong with it."""

    needs = ('features',)

    def view(self, batch, partner, lam, ctx):
        self.look(batch, ctx)
        return super().view(batch, partner, lam, ctx)

    def look(self, batch, ctx):
        ctx.probe.features(batch.images)


class LeavesEvalMode(Attentive):
    """The network is put in eval mode for the look and left there."""

    def look(self, batch, ctx):
        student(ctx).eval()
        super().look(batch, ctx)


class LooksInTrainingMode(Attentive):
    """The running statistics see the clean images too."""

    def look(self, batch, ctx):
        with torch.no_grad():
            student(ctx)(batch.images)


class DropsOut(LooksInTrainingMode):
    """The same: dropout draws from the global generator."""


class ClearsGradients(Attentive):
    """The older toolbox: saliency by a backward pass through the weights, whose gradients are cleared behind it."""

    def look(self, batch, ctx):
        network, images = student(ctx).eval(), batch.images.clone().requires_grad_()
        network(images).logits.sum().backward()
        network.zero_grad()
        network.train()


class LeavesHook(Attentive):
    """A hook of its own stays."""

    def look(self, batch, ctx):
        student(ctx).backbone.register_forward_hook(lambda module, args, out: None)


class FinishLeavesEvalMode(Attentive):
    """The same behind the forward passes."""

    def finish(self, plan, outputs, ctx):
        student(ctx).eval()
        return plan


class ReadsAttention(MaskPolicy):
    """The older toolbox: a number of the attention decides on the host."""

    needs = ('attention',)

    def mask(self, batch, partner, lam, ctx):
        share = ctx.probe.attention(batch.images).mean().item()
        return torch.full((1, *batch.images.shape[-2:]), share, device=batch.images.device)


class ReadsInFinish(Attentive):
    """The same behind the forward passes."""

    def finish(self, plan, outputs, ctx):
        return plan if outputs[0].logits.sum().item() < 1e9 else self.unmixed(plan.batch)


class PermutedAfterwards(Attentive):
    """The older toolbox: partners are drawn anew when the picture is made already, so the labels are of others."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        other = pair_index(partner[torch.randperm(len(batch), generator=ctx.rng)])
        return changed(view, mixture=Mixture(other.to(batch.images.device), view.mixture.weight))


class LearnedOfOthers(AutoMix):
    """The same with learned masks, whose shares follow nothing that is known beforehand."""

    def plan(self, batch, ctx):
        plan = super().plan(batch, ctx)
        clean, view = plan.views
        index = view.mixture.index
        other = torch.stack([index[:, 0], index[:, 1].roll(1)], 1)
        return dataclasses.replace(
            plan, views=(clean, dataclasses.replace(view, mixture=Mixture(other, view.mixture.weight)))
        )


class SwappedRegions(TransMix):
    """The older toolbox: the attention inside the region of one source counts for the other."""

    def complete(self, plan, outputs, ctx):
        done = super().complete(plan, outputs, ctx)
        views = []
        for before, after in zip(plan.views, done.views, strict=True):
            attended = (after.mixture.weight - before.mixture.weight).mul(2).add(before.mixture.weight).flip(1)
            weight = torch.lerp(before.mixture.weight, attended, 0.5)
            views.append(dataclasses.replace(after, mixture=Mixture(after.mixture.index, weight)))
        return dataclasses.replace(done, views=tuple(views))


class InvertedInFinish(Attentive):
    """The weight of the partner goes to the own label, behind the forward passes only."""

    def finish(self, plan, outputs, ctx):
        (view,) = plan.views
        mixture = Mixture(view.mixture.index, view.mixture.weight.flip(1))
        return dataclasses.replace(plan, views=(dataclasses.replace(view, mixture=mixture),))


class UnevenInFinish(Attentive):
    """Weights of 1.2 and -0.2."""

    label = 'semantic'

    def finish(self, plan, outputs, ctx):
        (view,) = plan.views
        weight = torch.tensor([1.2, -0.2], device=view.inputs.device).expand(len(plan.batch), 2)
        weight = weight if view.mixture.index.shape[1] == 2 else view.mixture.weight
        return dataclasses.replace(
            plan, views=(dataclasses.replace(view, mixture=Mixture(view.mixture.index, weight)),)
        )


class WeightsWithGradient(Attentive):
    """The prediction that sets the weights is not detached, so the network may learn to be right by weights."""

    label = 'semantic'

    def finish(self, plan, outputs, ctx):
        (view,) = plan.views
        shift = outputs[0].logits.softmax(1).amax(1, keepdim=True) * 0.1
        first, second = view.mixture.weight.split(1, 1)
        mixture = Mixture(view.mixture.index, torch.cat([first * (1 - shift), second + first * shift], 1))
        return dataclasses.replace(plan, views=(dataclasses.replace(view, mixture=mixture),))


class LosesView(Attentive):
    """finish() has another number of views."""

    def finish(self, plan, outputs, ctx):
        return dataclasses.replace(plan, views=plan.views * 2)


class FromTheBatch(CMO):
    """The labels are those of the batch, not of the second loader that the picture was made of."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return changed(view, mixture=Mixture(view.mixture.index % len(batch), view.mixture.weight))


class TapOfOthers(ManifoldMix):
    """The hidden stage is mixed with another sample than the label."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        index = pair_index(partner.roll(1)).to(batch.images.device)
        return dataclasses.replace(view, mixture=Mixture(index, view.mixture.weight))


class TapInPlace(ManifoldMix):
    """The hidden stage is overwritten, which autograd may need as it was."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        if view.tap is None:
            return view
        tap = Tap(view.tap.stage, lambda hidden: hidden.mul_(0.5))
        return dataclasses.replace(view, tap=tap)


class TapInFloat(ManifoldMix):
    """The hidden stage of half precision becomes float32."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        if view.tap is None:
            return view
        function = view.tap.function
        return dataclasses.replace(view, tap=Tap(view.tap.stage, lambda hidden: function(hidden.float())))


class AutocastPicture(Attentive):
    """Under autocast the product that makes the picture is in half precision."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        same = torch.eye(view.inputs.shape[3], device=view.inputs.device, dtype=view.inputs.dtype)
        return changed(view, inputs=view.inputs @ same)


class KernelsPerSample(Attentive):
    """A kernel for the features of each sample."""

    def look(self, batch, ctx):
        for features in ctx.probe.features(batch.images):
            features.mul(2).add(1)


class MixesWithoutNetwork(Attentive):
    """mix() goes on where it should say that a network is needed."""

    def mix(self, images, labels=None, rng=None, **options):
        return CutMix().train().mix(images, labels, rng, **options)


class KeepsGraph(Attentive):
    """Remembers a tensor with its graph, of which no copy can be made."""

    def finish(self, plan, outputs, ctx):
        self.last = outputs[0].logits
        return plan


class Generator(Attentive):
    """A learned blend, trained by a frozen copy of the student. Nothing is wrong with it."""

    label = 'drawn'
    needs = ('features', 'teacher')
    operators = 40

    def __init__(self, alpha=1.0, per='batch', pairing='permutation'):
        super().__init__(alpha, per, pairing)
        self.block = None

    def bind(self, network):
        if self.block is None or self.block.in_features != network.channels[-1]:
            self.block = torch.nn.Linear(network.channels[-1], 1)

    def view(self, batch, partner, lam, ctx):
        index, weight = to_device(batch.images.device, pair_index(partner), pair_weights(lam, len(batch)))
        own = self.share(batch, ctx)
        return View(self.picture(batch, own.detach(), index), Mixture(index, weight))

    def share(self, batch, ctx):
        return self.block(ctx.probe.features(batch.images).mean((2, 3))).sigmoid()[:, :, None, None]

    def picture(self, batch, own, index):
        own = own.to(batch.images.dtype)
        return torch.lerp(batch.images.index_select(0, index[:, 1]), batch.images, own)

    def plan(self, batch, ctx):
        plan = super().plan(batch, ctx)
        (view,) = plan.views
        mixed = self.picture(batch, self.share(batch, ctx), view.mixture.index)
        loss = ctx.criterion(self.judged(mixed, ctx), batch.labels, view.mixture).mean()
        return dataclasses.replace(plan, losses={'generator': loss})

    def judged(self, mixed, ctx):
        return ctx.probe.logits(mixed, of='teacher')


class GeneratorTrainsStudent(Generator):
    """The loss of the generator goes through the student, whose weights learn from it."""

    def judged(self, mixed, ctx):
        return student(ctx)(mixed).logits


class TeacherGetsGradient(Generator):
    """The weights of the teacher are not frozen when the generator learns from it."""

    def judged(self, mixed, ctx):
        teacher = ctx.probe._networks['teacher']
        return teacher.requires_grad_(True)(mixed).logits


class StudentTrainsGenerator(Generator):
    """The picture that the student learns from is not detached."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return changed(view, inputs=self.picture(batch, self.share(batch, ctx), view.mixture.index))


class NeverTrained(Generator):
    """The features of the block are there, but no loss."""

    def plan(self, batch, ctx):
        return dataclasses.replace(super().plan(batch, ctx), losses={})


class LossWithoutGradient(Generator):
    """The loss is detached, so the block learns nothing."""

    def plan(self, batch, ctx):
        plan = super().plan(batch, ctx)
        return dataclasses.replace(plan, losses={name: term.detach() for name, term in plan.losses.items()})


class BuiltAnew(Generator):
    """Bound a second time it loses what it learned."""

    def bind(self, network):
        self.block = torch.nn.Linear(network.channels[-1], 1)


class NotInState(Generator):
    """The learned part is not in state_dict."""

    def state_dict(self, *args, **options):
        return {}


class Counts(Mixup):
    """Lam depends on the number of calls, which no checkpoint holds."""

    def __init__(self, alpha=1.0, per='batch', pairing='permutation'):
        super().__init__(alpha, per, pairing)
        self.calls = 0

    def draw_lam(self, count, rng):
        self.calls += 1
        return super().draw_lam(count, rng) / self.calls


class ExemptFromNothing(Mixup):
    """The name of a check that is there no more."""

    exempt = {'masks_equal_the_pictures': 'it is a test'}


class ForgetsHistory(RecursiveMix):
    """The last batch is not in rank_state."""

    def rank_state(self):
        return {}


MUTANTS = {
    ProbabilityTwice: 'mixes_at_its_rate',
    HiddenUnmixedRate: 'mixes_at_its_rate',
    functools.partial(SwappedProbs, probs=(0.2, 0.8)): 'members_are_chosen_by_their_probs',
    functools.partial(SharedPlacement, per='sample'): 'per_means_what_it_says',
    functools.partial(SharedLam, per='sample'): 'per_means_what_it_says',
    InnerBox: 'every_pixel_has_its_turn',
    SwappedSides: 'every_pixel_has_its_turn',
    HalfThePicture: 'every_pixel_has_its_turn',
    InvertedLabel: 'label_equals_pixels',
    LamBeforeClipping: 'label_equals_pixels',
    TwoPartners: 'label_equals_pixels',
    TransposedMask: 'masks_equal_the_picture',
    WritesIntoInputs: 'inputs_are_not_touched',
    WritesBack: 'inputs_are_not_touched',
    TorchGlobal: 'draws_come_from_the_generator',
    PythonGlobal: 'draws_come_from_the_generator',
    HostRead: 'nothing_is_read_from_the_device',
    CopiedAlone: 'host_values_travel_together',
    ManyKernels: 'few_operators_are_launched',
    OneSidedBeta: 'lam_follows_its_law',
    OneSidedBetaBox: 'lam_follows_its_law',
    MixesInEval: 'eval_mode_never_mixes',
    ChangesType: 'dtype_is_kept',
    UnevenWeights: 'weights_are_sound',
    LabelsUnchecked: 'wrong_inputs_are_refused',
    ForgetsArgument: 'arguments_are_stored',
    Unpicklable: 'copies_are_equal',
    SideInsteadOfArea: 'weights_follow_lam',
    SwappedArea: 'weights_follow_lam',
    PairingIgnored: 'partners_follow_the_pairing',
    OnlyClassIndices: 'all_target_kinds_mix_alike',
    SameStreamEachCall: 'calls_without_a_generator_differ',
    SameStreamEachObject: 'calls_without_a_generator_differ',
    DrawnInverted: 'label_equals_pixels',
    ClampedPicture: 'identical_images_stay_identical',
    LoneImageFades: 'one_image_is_left_alone',
    ReadsMemoryInOrder: 'memory_layout_does_not_matter',
    SecondViewInverted: 'label_equals_pixels',
    SecondViewUneven: 'weights_are_sound',
    SecondViewChangesType: 'dtype_is_kept',
    FlippedDonor: 'pixels_stay_in_place',
    LeavesEvalMode: 'a_look_leaves_no_trace',
    LooksInTrainingMode: 'a_look_leaves_no_trace',
    DropsOut: 'draws_come_from_the_generator',
    ClearsGradients: 'a_look_leaves_no_trace',
    LeavesHook: 'a_look_leaves_no_trace',
    FinishLeavesEvalMode: 'a_look_leaves_no_trace',
    ReadsAttention: 'nothing_is_read_from_the_device',
    ReadsInFinish: 'nothing_is_read_from_the_device',
    PermutedAfterwards: 'label_equals_pixels',
    LearnedOfOthers: 'label_equals_pixels',
    SwappedRegions: 'label_equals_pixels',
    InvertedInFinish: 'label_equals_pixels',
    UnevenInFinish: 'finish_is_sound',
    WeightsWithGradient: 'finish_is_sound',
    LosesView: 'finish_is_sound',
    FromTheBatch: 'label_equals_pixels',
    TapOfOthers: 'label_equals_pixels',
    TapInPlace: 'inputs_are_not_touched',
    TapInFloat: 'dtype_is_kept',
    AutocastPicture: 'dtype_is_kept',
    KernelsPerSample: 'few_operators_are_launched',
    MixesWithoutNetwork: 'wrong_inputs_are_refused',
    KeepsGraph: 'copies_are_equal',
    GeneratorTrainsStudent: 'gradients_go_where_they_should',
    TeacherGetsGradient: 'gradients_go_where_they_should',
    StudentTrainsGenerator: 'gradients_go_where_they_should',
    NeverTrained: 'gradients_go_where_they_should',
    LossWithoutGradient: 'gradients_go_where_they_should',
    BuiltAnew: 'binding_twice_keeps',
    NotInState: 'state_can_be_loaded',
    Counts: 'history_can_be_saved',
    ForgetsHistory: 'history_can_be_saved',
    ExemptFromNothing: 'it_is_documented',
}


def name_of(mutant):
    return getattr(mutant, 'func', mutant).__name__


@pytest.mark.parametrize('mutant', MUTANTS, ids=name_of)
def test_planted_bug_is_found(mutant):
    (result,) = check_policy(mutant(), only=[MUTANTS[mutant]])
    assert not result.ok
    assert 'it stopped with' not in result.message  # found by what it shows, not by accident


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_the_placement_check_sees_the_box_bug_in_both_modes(per):
    assert check_policy(SharedPlacement(per=per), only=['per_means_what_it_says'])[0].ok == (per == 'batch')


@pytest.mark.parametrize('check', CHECKS)
@pytest.mark.parametrize('policy', [TwoViews, Attentive, Generator])
def test_a_sound_policy_raises_no_false_alarm(policy, check):
    CHECKS[check](policy())


@pytest.mark.slow
@pytest.mark.parametrize('mutant', MUTANTS, ids=name_of)
def test_planted_bug_is_found_among_all_checks(mutant):
    with pytest.raises(PolicyCheckError, match=MUTANTS[mutant]):
        check_policy(mutant(), raise_on_failure=True)


def test_each_check_of_behaviour_has_a_mutant():
    without = {
        'arguments_have_defaults', 'repr_can_be_built_again',
    }  # fmt: skip
    assert set(CHECKS) - set(MUTANTS.values()) <= without
