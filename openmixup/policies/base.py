"""The interface of all policies and the template bases of the families."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.context import Context, Network, library_stream
from openmixup.policies.masks import Boxes, Outer, blended, own_masks
from openmixup.policies.mixture import Batch, Mixture, Plan, View, target_kind
from openmixup.policies.pairing import PAIRINGS, pair_index, pair_weights, partners
from openmixup.policies.transfer import to_device

__all__ = ['MaskPolicy', 'MixPolicy', 'PairPolicy']


class MixPolicy(nn.Module):
    """A mixing method: decides what the network sees and of which sources each sample is made.

    A subclass writes :meth:`plan`. Constructor arguments are stored unchanged under their own names. A policy never
    changes its inputs, never touches a global random state and never reads a value from the device.

    Class tags:
        needs: what it asks of the learner: pixels, logits, features, attention, cam, input_grad, tap, teacher, bank.
            'logits' is for a policy whose labels are only right after :meth:`finish`, which :meth:`mix` never calls.
        label: what the weights equal: 'pixels' the measured share of each source, 'drawn' the drawn lam, 'semantic' a
            rule of the paper.
        normalised: False if the weights of a sample need not sum to one.
        heads: classifier heads that it wants beside 'main'.
        operators: most operators that one plan launches on the device of the images.
        losses_train: what the terms in the losses of its plans train: 'policy', its learned parts only, or 'network';
            None: 'policy' if there are learned parts.
        paper: link to the source.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    label: ClassVar[str] = 'pixels'
    normalised: ClassVar[bool] = True
    heads: ClassVar[tuple[str, ...]] = ()
    operators: ClassVar[int] = 12
    losses_train: ClassVar[str | None] = None
    paper: ClassVar[str] = ''

    def __init__(self) -> None:
        super().__init__()

    @property
    def rate(self) -> float:
        """Probability that a batch is mixed at all."""
        return 1.0

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """Configs of frozen networks that it looks at, by the name that it gives the probe; the learner builds them."""
        return {}

    @property
    def attention_of(self) -> tuple[str, ...]:
        """Names of those of :attr:`networks` whose attention it reads; a network that has none to read is refused."""
        return ()

    @property
    def frozen_from(self) -> str | None:
        """A file whose learned parts and momentum teacher the learner takes, to be kept as they are; None: trained."""
        return None

    @property
    def sometimes_unused(self) -> bool:
        """Whether some steps leave learned parts without a gradient, which distributed training must know."""
        return False

    def bind(self, network: Network) -> None:
        """Check the network and build learned parts for it; called when the model is built.

        Called again with an equal network, what was built is kept.

        Raises:
            InputError: the network lacks what the policy needs.
        """

    def rank_state(self) -> dict[str, Tensor]:
        """History of this process, which a checkpoint keeps for each process; it is no buffer, which ranks share."""
        return {}

    def load_rank_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`rank_state` gave."""

    def forward(self, batch: Batch, ctx: Context) -> Plan:
        """The plan of one step. In eval mode and for a batch of one, or none, nothing is mixed."""
        if not self.training or (len(batch) < 2 and batch.bank is None):
            return self.unmixed(batch)
        return self.plan(batch, ctx)

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Mix ``batch``; to be written by each policy."""
        raise NotImplementedError(f'{type(self).__name__} must write plan(batch, ctx)')

    def finish(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:  # noqa: ARG002
        """After the forward passes of all views: new weights or additional losses."""
        return plan

    def around(self, inner: Plan) -> Plan:
        """``inner``, the plan of another policy, as a plan of this one."""
        return replace(inner, policy=self, inner=inner)

    def unmixed(self, batch: Batch) -> Plan:
        """The batch as it is; the view shares its memory."""
        index = torch.arange(len(batch), device=batch.images.device)[:, None]
        weight = torch.ones(len(batch), 1, device=batch.images.device)
        size = batch.images.shape[-2:]
        view = View(batch.images, Mixture(index, weight), lambda: weight[..., None, None].expand(-1, -1, *size))
        return Plan(batch, (view,), self)

    def mix(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        rng: torch.Generator | None = None,
        *,
        target: str | None = None,
        epoch: int = 0,
    ) -> View:
        """The library door: mix a batch in anyone's loop, without a network.

        Args:
            images: (N, C, H, W) floating point, on any device. Not changed.
            labels: (N,) class indices, (N, C) float soft or multi-hot targets, or floats with ``target='regression'``.
            rng: CPU generator to draw from and advance. None: a stream that all policies of the process share, keyed by
                ``torch.initial_seed()``, the rank and the loader worker; no global random state is advanced.
            target: kind of the labels; None: told by their type.
            epoch: epochs completed, for compositions that change over time.

        Returns:
            The mixed view: ``view.inputs``, ``view.mixture.soft(labels, num_classes)``, ``view.mixture.index``,
            ``view.mixture.weight``, ``view.masks``.

        Raises:
            InputError: images, labels or rng of another form, or a policy that needs a network.
        """
        asked = [need for need in self.needs if need != 'pixels']
        if asked:
            raise InputError(
                f'{type(self).__name__} needs {", ".join(asked)} of a network, so mix(images, labels) cannot run it: '
                'use it as policy of a MixClassifier.'
            )
        if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
            found = (
                f'{images.dtype} of shape {tuple(images.shape)}' if isinstance(images, Tensor) else repr(type(images))
            )
            raise InputError(f'images are {found}: expected a floating point tensor (N, C, H, W), normalised.')
        kind = 'class' if labels is None else target_kind(labels, images.shape[0], target)
        ctx = Context(epoch=epoch, generator=library_stream(rng))
        views = self(Batch(images, labels, target=kind), ctx).views
        if len(views) != 1:
            raise InputError(
                f'{type(self).__name__} makes {len(views)} views of a batch, but mix() returns one: '
                'use it as policy of a MixClassifier.'
            )
        return views[0]

    def arguments(self) -> dict[str, Any]:
        """Constructor arguments by name, as stored."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __repr__(self) -> str:
        arguments = ', '.join(f'{name}={value!r}' for name, value in self.arguments().items())
        return f'{type(self).__name__}({arguments})'


class PairPolicy(MixPolicy):
    """Two images a sample: draws partners and lam; a subclass writes :meth:`view`.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0.
        per: 'batch' for one lam (and box, mask) a batch, the habit of the papers; 'sample' for one each.
        pairing: 'permutation', 'derangement' (no sample meets itself) or 'flip' (reverse order).
    """

    def __init__(self, alpha: float = 1.0, per: str = 'batch', pairing: str = 'permutation') -> None:
        super().__init__()
        name = type(self).__name__
        if not is_number(alpha) or not 0.01 <= alpha < 1e4:
            raise InputError(
                f'{name}(alpha={alpha!r}): expected a number from 0.01 to 10000, as of Beta(alpha, alpha).'
            )
        if per not in ('batch', 'sample'):
            raise InputError(f"{name}(per={per!r}): expected 'batch' (one lam a batch) or 'sample' (one lam each).")
        if pairing not in tuple(PAIRINGS):
            raise InputError(f'{name}(pairing={pairing!r}): expected one of {", ".join(PAIRINGS)}.')
        self.alpha, self.per, self.pairing = alpha, per, pairing

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Draw partners and lam on the CPU, then blend."""
        partner = partners(self.pairing, len(batch), ctx.rng)
        lam = self.draw_lam(len(batch) if self.per == 'sample' else 1, ctx.rng)
        return Plan(batch, (self.view(batch, partner, lam, ctx),), self)

    @property
    def lam_beta(self) -> tuple[float, float] | None:
        """Parameters of the Beta law of :meth:`draw_lam`, which one that draws by another overrides; None: no lam."""
        return self.alpha, self.alpha

    def draw_lam(self, count: int, rng: torch.Generator) -> Tensor:
        """(count,) float64 on the CPU, share of the own image, from Beta(alpha, alpha)."""
        if self.alpha == 1:  # uniform, and drawn in a third of the time
            return torch.rand(count, generator=rng, dtype=torch.float64)
        # torch.distributions.Beta draws the same way but from the global generator only.
        both = torch._sample_dirichlet(torch.full((count, 2), float(self.alpha), dtype=torch.float64), generator=rng)
        return both[:, 0]

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """The mixed view; to be written by each family.

        Args:
            batch: the sources.
            partner: (N,) int64 on the CPU.
            lam: (1,) or (N,) float64 on the CPU, drawn weight of the own image.
            ctx: random streams and access to the network.
        """
        raise NotImplementedError(f'{type(self).__name__} must write view(batch, partner, lam, ctx)')


class MaskPolicy(PairPolicy):
    """A mask says where the own image stays; a subclass writes :meth:`mask`, and :meth:`donor` if it pastes more.

    The weights are the measured shares of the mask (``label = 'pixels'``) or the drawn lam (``'drawn'``).
    """

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Boxes | Outer | Tensor:
        """Boxes to take from the partner, or the share of the own image in [0, 1]: (1 or N, H, W) or its two sides.

        A tensor lies on the images' device, or on the CPU. Arguments as in :meth:`PairPolicy.view`.
        """
        raise NotImplementedError(f'{type(self).__name__} must write mask(batch, partner, lam, ctx)')

    def donor(self, batch: Batch, partner: Tensor, region: Boxes | Tensor, ctx: Context) -> Tensor:
        """(N, C, H, W) whole images to take pixels from, a new tensor that may be overwritten.

        Args:
            batch: the sources.
            partner: (N,) int64 on the images' device, into the sources.
            region: what :meth:`mask` gave; of sides the mask (1 or N, H, W).
            ctx: random streams and access to the network.
        """
        return batch.source_images.index_select(0, partner)

    def patch(self, batch: Batch, partner: Tensor, box: Boxes, ctx: Context) -> Tensor:
        """(N, C, h, w) what the only box gets of the donors; for a subclass that need not make whole ones for it."""
        down, across = box.slices()
        return self.donor(batch, partner, box, ctx)[:, :, down, across]

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """Paste boxes or blend by a mask."""
        images, size = batch.images, len(batch)
        region = self.mask(batch, partner, lam, ctx)
        index = pair_index(partner)
        if isinstance(region, Tensor):
            weight = pair_weights(region.detach().float().mean((1, 2)) if self.label == 'pixels' else lam, size)
            index, weight, region = to_device(images.device, index, weight, region)
            own = region.to(images.dtype)[:, None]
        else:
            shares = region.share() if len(region) == 1 else region.kept()
            weight = pair_weights(shares if self.label == 'pixels' else lam, size)
            if isinstance(region, Boxes) and len(region) == 1:  # one slice for the batch costs less than a mask
                index, weight = to_device(images.device, index, weight)
                mixed, boxes = self._paste(batch, region, index[:, 1], ctx), region
                return View(mixed, Mixture(index, weight), lambda: own_masks(1 - boxes.dense(images), size))
            index, weight, *parts = to_device(images.device, index, weight, *region.parts())
            own = torch.addcmul(*parts).to(images.dtype)
            region = region if isinstance(region, Boxes) else own.squeeze(1)
        donors = self.donor(batch, index[:, 1], region, ctx)
        mixed = blended(images, donors, own)
        return View(mixed, Mixture(index, weight), lambda: own_masks(own, size))

    def _paste(self, batch: Batch, boxes: Boxes, partner: Tensor, ctx: Context) -> Tensor:
        """A copy of the batch with the same box of each donor in it."""
        images = batch.images
        down, across = boxes.slices()
        mixed, kind = images.clone(), type(self)
        gathers = kind.donor is MaskPolicy.donor and kind.patch is MaskPolicy.patch
        if gathers and batch.bank is None and not images.requires_grad:
            # only the pixels of the box are gathered, straight to their place
            torch.index_select(images[:, :, down, across], 0, partner, out=mixed[:, :, down, across])
        else:
            mixed[:, :, down, across] = self.patch(batch, partner, boxes, ctx)
        return mixed
