"""Planted bugs of policies that look at a network or learn."""

import dataclasses

import torch

from openmixup.policies import (
    CMO,
    AutoMix,
    CutMix,
    ManifoldMix,
    MaskPolicy,
    Mixture,
    Mixup,
    RecursiveMix,
    Tap,
    TransMix,
    View,
)
from openmixup.policies.pairing import pair_index, pair_weights
from openmixup.policies.transfer import to_device
from tests.policies.mutants.of_pixels import changed


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
