"""Planted bugs of policies that need no network."""

import random

import torch

from openmixup.policies import (
    Batch,
    CutMix,
    MaskPolicy,
    Mixture,
    Mixup,
    Plan,
    RandomChoice,
    View,
)
from openmixup.policies.masks import Boxes, cutmix_boxes
from openmixup.policies.pairing import pair_index, pair_weights
from openmixup.policies.transfer import to_device


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
