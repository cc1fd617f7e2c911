"""The only way in which a policy may look at a network: nothing that it does leaves a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from openmixup.errors import InputError
from openmixup.models.backbones.base import channel_dim
from openmixup.models.student import Output, Student
from openmixup.policies.mixture import Mixture

__all__ = ['Probe', 'frozen']


class _Reached(Exception):
    """Ends a pass at the stage that was asked for."""


@contextmanager
def frozen(network: nn.Module, batch_statistics: bool = False, weights: bool = True) -> Iterator[None]:
    """Let passes through ``network`` change nothing of it: no running statistics, no dropout, no gradient of weights.

    Each module gets back the mode that it had, also where a part of the network was in another mode than the rest.

    Args:
        network: the network.
        batch_statistics: BatchNorm normalises by the batch's own statistics instead of the running ones.
        weights: leave the weights out of the graph too.
    """
    modules = [module for module in network.modules() if module.training]
    norms = [module for module in network.modules() if isinstance(module, _NormBase) and module.track_running_stats]
    modes = [norm.training for norm in norms]
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad] if weights else []
    try:
        for module in modules:
            module.training = False
        if batch_statistics:
            for norm in norms:
                norm.training, norm.track_running_stats = True, False
        for parameter in learned:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
        if batch_statistics:
            for norm, mode in zip(norms, modes, strict=True):
                norm.training, norm.track_running_stats = mode, True
        for module in modules:
            module.training = True


class Probe:
    """Features, attention, class activation maps, input gradients and logits of the networks of a learner.

    Lazy, and each answer is computed once for a batch: a probe is made for one training step. Weights, buffers,
    gradients and training modes stay as they are. ``of`` names the network: 'student', 'teacher' (the momentum
    teacher) or one of the frozen networks that the policy asked for by name. The student and frozen networks run in
    eval mode, the teacher as ``batch_statistics`` says.

    Args:
        networks: by name.
        criterion: (logits, labels, mixture) to one loss per sample, (N,).
        batch_statistics: names of the networks whose BatchNorm normalises by the batch's own statistics.
    """

    def __init__(
        self,
        networks: Mapping[str, Student],
        criterion: Callable[[Tensor, Tensor, Mixture], Tensor],
        batch_statistics: tuple[str, ...] = (),
    ) -> None:
        self._networks, self._criterion, self._by_batch = networks, criterion, batch_statistics
        self._answers: dict[tuple[Any, ...], Any] = {}
        self._kept: list[Tensor] = []  # so that an id names one tensor only

    def features(self, images: Tensor, stage: int = -1, of: str = 'student') -> Tensor:
        """(N, C, h, w) output of a hidden stage, without gradient; the pass ends there.

        Args:
            images: (N, C, H, W).
            stage: index into the backbone's stages.
            of: name of the network.
        """
        return self._once(('features', stage, of), self._features, images, stage=stage, of=of)

    def features_and_logits(
        self, images: Tensor, stage: int = -1, head: str = 'main', of: str = 'student'
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`features`, and the (N, num_classes) logits of ``head``, both from one whole pass without gradient.

        Args:
            images: (N, C, H, W).
            stage: index into the backbone's stages.
            head: name of the head.
            of: name of a network with heads.
        """
        question = ('features_and_logits', stage, head, of)
        return self._once(question, self._features_and_logits, images, stage=stage, head=head, of=of)

    def attention(self, images: Tensor, of: str = 'student') -> Tensor:
        """(N, heads, h, w) attention of the class token to the patches in the last block, without gradient."""
        return self._once(('attention', of), self._attention, images, of=of)

    def cam(self, images: Tensor, labels: Tensor, of: str = 'student') -> Tensor:
        """(N, h, w) class activation map: the last map weighted by the 'main' head's row of each label, no gradient.

        What lies between the map and the head is passed over: the pooling, and a norm behind it where the network has
        one (ConvNeXt, PoolFormer, a ViT that averages its patches), by which the head sees other features.

        Args:
            images: (N, C, H, W).
            labels: (N,) class indices.
            of: name of a network with heads.

        Raises:
            InputError: the head has not one linear layer, or this takes another number of channels than the map has.
        """
        return self._once(('cam', of, id(labels)), self._cam, images, labels=labels, of=of)

    def input_grad(self, images: Tensor, labels: Tensor, of: str = 'student') -> Tensor:
        """(N, C, H, W) gradient of the summed loss of the plain labels by the pixels; no weight gets a gradient.

        Args:
            images: (N, C, H, W).
            labels: (N,) or (N, C), as the learner's loss takes them.
            of: name of a network with heads.
        """
        return self._once(('input_grad', of, id(labels)), self._input_grad, images, labels=labels, of=of)

    def merged_attention(self, images: Tensor, merge: float, block: int = -1, of: str = 'student') -> Tensor:
        """(N, h, w) attention of the class token in a pass that merges tokens which are alike, without gradient.

        Args:
            images: (N, C, H, W).
            merge: share of the patches that are merged away, in [0, 1).
            block: whose attention; -1 is the last.
            of: name of the network.
        """
        question = ('merged_attention', merge, block, of)
        return self._once(question, self._merged_attention, images, merge=merge, block=block, of=of)

    def look(self, images: Tensor, read: tuple[str, ...], of: str = 'student') -> Output:
        """The logits of the 'main' head and what :class:`Output` has besides, from one pass without gradient.

        Args:
            images: (N, C, H, W).
            read: what to return besides: 'attention', 'features', 'received', 'rollout'.
            of: name of a network with heads.
        """
        return self._once(('look', read, of), self._look, images, read=read, of=of)

    def logits(self, images: Tensor, head: str = 'main', of: str = 'student') -> Tensor:
        """(N, num_classes), differentiable by the images; the weights are constants."""
        network = self._network(of)
        with torch.set_grad_enabled(images.requires_grad), frozen(network, of in self._by_batch):
            vectors = network.backbone(network.laid_out(images))
            return network.heads[head](vectors)

    def _network(self, name: str) -> Student:
        if name not in self._networks:
            raise InputError(f'there is no network {name!r} to look at: known are {", ".join(self._networks)}.')
        return self._networks[name]

    def _once(self, question: tuple[Any, ...], answer: Callable[..., Any], images: Tensor, **options: Any) -> Any:
        key = (*question, id(images))
        if key not in self._answers:
            self._kept += [images, *(value for value in options.values() if isinstance(value, Tensor))]
            self._answers[key] = answer(images, **options)
        return self._answers[key]

    @torch.no_grad()
    def _features(self, images: Tensor, stage: int, of: str) -> Tensor:
        network = self._network(of)
        backbone = network.backbone
        found: list[Tensor] = []

        def stop(module: nn.Module, args: Any, output: Tensor) -> None:
            found.append(output)
            raise _Reached

        handle = backbone.get_submodule(backbone.stages[stage]).register_forward_hook(stop)
        try:
            with frozen(network, of in self._by_batch, weights=False):
                backbone.features(network.laid_out(images))
        except _Reached:
            return _map(backbone, stage, found[0], images)
        finally:
            handle.remove()
        raise InputError(f'stage {backbone.stages[stage]} of {type(backbone).__name__} did not run.')

    @torch.no_grad()
    def _features_and_logits(self, images: Tensor, stage: int, head: str, of: str) -> tuple[Tensor, Tensor]:
        network = self._network(of)
        backbone = network.backbone
        found: list[Tensor] = []

        def keep(module: nn.Module, args: Any, output: Tensor) -> None:
            found.append(output)

        handle = backbone.get_submodule(backbone.stages[stage]).register_forward_hook(keep)
        try:
            with frozen(network, of in self._by_batch, weights=False):
                logits = network.heads[head](backbone.pool(backbone.features(network.laid_out(images))))
        finally:
            handle.remove()
        return _map(backbone, stage, found[0], images), logits

    @torch.no_grad()
    def _attention(self, images: Tensor, of: str) -> Tensor:
        network = self._network(of)
        with frozen(network, of in self._by_batch, weights=False):
            return network.attention(images)

    @torch.no_grad()
    def _merged_attention(self, images: Tensor, merge: float, block: int, of: str) -> Tensor:
        network = self._network(of)
        with frozen(network, of in self._by_batch, weights=False):
            return network.merged_attention(images, merge, block)

    @torch.no_grad()
    def _look(self, images: Tensor, read: tuple[str, ...], of: str) -> Output:
        network = self._network(of)
        with frozen(network, of in self._by_batch, weights=False):
            return network(images, read=read)

    @torch.no_grad()
    def _cam(self, images: Tensor, labels: Tensor, of: str) -> Tensor:
        network = self._network(of)
        linear = _linear_of(network)
        with frozen(network, of in self._by_batch, weights=False):
            features = network.last_map(network.backbone.features(network.laid_out(images)), images.shape[-2:])
        if features.shape[1] != linear.in_features:
            raise InputError(
                f'a class activation map needs a linear head on the pooled last map, but the backbone gives a map of '
                f'{features.shape[1]} channels and vectors of {linear.in_features}: use another backbone.'
            )
        return torch.einsum('nchw,nc->nhw', features.float(), linear.weight.float()[labels])

    def _input_grad(self, images: Tensor, labels: Tensor, of: str) -> Tensor:
        network = self._network(of)
        with torch.enable_grad():
            pixels = images.detach().requires_grad_(True)
            with frozen(network, of in self._by_batch):
                logits = network.heads['main'](network.backbone(network.laid_out(pixels)))
            own = torch.arange(len(images), device=images.device)[:, None]
            plain = Mixture(own, torch.ones_like(own, dtype=torch.float32))
            if logits.dtype != torch.float16:
                (gradient,) = torch.autograd.grad(self._criterion(logits, labels, plain).sum(), pixels)
                return gradient.detach()
            # What a confident network gets from its loss is soon below the least float16. So each sample goes back with
            # about one, and is scaled down in the end; all alike if samples see each other in BatchNorm.
            told = logits.detach().float().requires_grad_(True)
            (start,) = torch.autograd.grad(self._criterion(told, labels, plain).sum(), told)
            power = start.abs().amax(None if of in self._by_batch else 1, keepdim=True).frexp().exponent.clamp(min=-100)
            (gradient,) = torch.autograd.grad(logits, pixels, start.ldexp(-power).to(logits.dtype))
        return gradient.ldexp(power.view(-1, 1, 1, 1)).detach()


def _map(backbone: Any, stage: int, output: Tensor, images: Tensor) -> Tensor:
    """(N, C, h, w) of what a stage gave for ``images``."""
    width = (backbone.expected_channels or (0,) * len(backbone.stages))[stage]
    return backbone.to_map(output, channel_dim(output.shape, width, backbone.channels_behind), images.shape[-2:])


def _linear_of(network: Student) -> nn.Linear:
    layers = [module for module in network.heads['main'].modules() if isinstance(module, nn.Linear)]
    if len(layers) != 1:
        raise InputError('a class activation map needs a head of one linear layer: use LinearHead.')
    return layers[0]
