"""Any timm model as a backbone."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from openmixup.errors import InputError, did_you_mean
from openmixup.models.backbones.base import Backbone
from openmixup.models.backbones.cifar_stem import apply_stem
from openmixup.models.backbones.pretrained import check_cached, load_pretrained, only_weights
from openmixup.registry import MODELS

__all__ = ['TimmBackbone']

# timm's own names of what the constructor sets; under options they would contradict it (or read a file unsafely).
_RESERVED = {
    'num_classes': 'the num_classes of the head',
    'in_chans': 'in_channels',
    'drop_path_rate': 'drop_path',
    'global_pool': 'global_pool',
    'pretrained': 'pretrained',
    'checkpoint_path': 'pretrained',
    'pretrained_cfg': 'pretrained',
    'pretrained_cfg_overlay': 'pretrained',
    'cache_dir': None,
    'features_only': None,
    'scriptable': None,
}
_STEM = re.compile(r'|act1|bn1|conv_stem|stem(\..*)?|features\.(norm0|conv1_1)')


@MODELS.register_module()
class TimmBackbone(Backbone):
    """A network of timm (Wightman, https://github.com/huggingface/pytorch-image-models) without its classifier.

    The bare timm network is the sub-module ``net``. Its feature maps are as the family gives them: (N, C, H, W) for
    most, (N, H, W, C) for Swin, (N, tokens, C) for ViT.

    Args:
        model: a timm name such as ``'resnet18'``, ``'vit_tiny_patch16_224'`` or ``'resnet50.a1_in1k'``.
        pretrained: the path of a local .safetensors or .pth file; its classifier is left out. True lets timm download
            its own weights.
        stem: ``'cifar'`` keeps the resolution of small pictures: ResNet family, DenseNet, ConvNeXt.
        in_channels: channels of the pictures.
        drop_path: rate of stochastic depth, in [0, 1), for the models that have it.
        global_pool: ``'avg'``, ``'max'``, ``'token'``, ... as timm has them; None is the model's own.
        options: further arguments of the timm model, such as ``dict(img_size=32, patch_size=4)``.

    Attributes:
        stages: the modules of timm's ``feature_info`` without the stem: ``layer1`` to ``layer4`` of a ResNet, the
            blocks of a ViT. Empty for the few models that name none.

    Shape:
        Images (N, in_channels, H, W); vectors (N, num_features).

    Raises:
        InputError: unknown model, option, stem or weights.
    """

    net: Any  # of a class that only timm knows

    def __init__(
        self,
        model: str,
        pretrained: str | Path | bool | None = None,
        stem: str = 'default',
        in_channels: int = 3,
        drop_path: float = 0.0,
        global_pool: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options = dict(options or {})
        _check(model, options, drop_path, global_pool)
        if pretrained is True and stem != 'default':
            raise InputError(
                f'pretrained=True has the weights of the default stem, not of stem={stem!r}; '
                'give a file that was saved with this stem or leave the stem out.'
            )
        arguments = {'in_chans': in_channels, **options}
        if drop_path:
            arguments['drop_path_rate'] = drop_path
        if global_pool is not None:
            arguments['global_pool'] = global_pool
        self.net = _create(model, pretrained is True, arguments)
        apply_stem(self.net, stem, model)
        if pretrained is not None and not isinstance(pretrained, bool):
            module = sys.modules[type(self.net).__module__]
            classifier = self.net.pretrained_cfg.get('classifier') or ()
            load_pretrained(
                self.net,
                pretrained,
                classifier=(classifier,) if isinstance(classifier, str) else classifier,
                convert=getattr(module, 'checkpoint_filter_fn', None),
            )
        # Some families (MobileNetV3, EfficientViT, VGG) widen the vector behind the last feature map.
        self.num_features = int(getattr(self.net, 'head_hidden_size', None) or self.net.num_features)
        found = _stages(self.net)
        self.stages = tuple(f'net.{name}' for name in found)
        self.expected_channels = tuple(found.values())
        self.prefix_tokens = int(getattr(self.net, 'num_prefix_tokens', None) or 0)
        self.class_token = any('cls_token' in name for name, _ in self.net.named_parameters())
        size = getattr(getattr(self.net, 'patch_embed', None), 'img_size', None)
        self.image_size = None if size is None else (int(size[0]), int(size[1]))
        self.input_channels = in_channels
        self.channels_behind = str(getattr(self.net, 'output_fmt', '')) == 'NHWC'
        self.scattered = _scattered(self.net)
        height, width = self.net.pretrained_cfg['input_size'][1:]
        self.usual_size = (int(height), int(width))

    def features(self, images: Tensor) -> Tensor:
        """The last feature map, in the layout of the family."""
        return self.net.forward_features(images)

    def pool(self, features: Tensor) -> Tensor:
        """Vectors (N, num_features): all that lies between the last feature map and the classifier."""
        return self.net.forward_head(features, pre_logits=True)

    def to_map(self, output: Tensor, channel_dim: int, image_size: Sequence[int]) -> Tensor:
        """As of every backbone; tokens of Hiera, which lie mask unit by mask unit, are brought to rows."""
        schedule = getattr(getattr(self.net, 'reroll', None), 'schedule', {})  # by block: what is to do, and its grid
        count = output.shape[1] if output.ndim == 3 else 0
        block = next((block for block, (_, grid) in schedule.items() if math.prod(grid) == count), None)
        if block is None:
            return super().to_map(output, channel_dim, image_size)
        return self.net.reroll(output, block).movedim(-1, 1)


def _check(model: str, options: dict[str, Any], drop_path: float, global_pool: str | None) -> None:
    import timm

    if not isinstance(model, str) or not timm.is_model(model) or ':' in model:
        if str(model).startswith('torchvision/'):
            name = str(model).removeprefix('torchvision/')
            raise InputError(f'model={model!r} is not of timm; use TorchvisionBackbone with model={name!r}.')
        hint = did_you_mean(model, timm.list_models())
        raise InputError(f'model={model!r} is not a timm model{hint} (timm.list_models() has all names).')
    for name in options:
        if name in _RESERVED:
            instead = f'; use {_RESERVED[name]} instead' if _RESERVED[name] else '; leave it out'
            raise InputError(f'option {name!r} of TimmBackbone cannot be set under options{instead}.')
    if not 0 <= drop_path < 1:
        raise InputError(f'drop_path={drop_path} of TimmBackbone is not in [0, 1).')
    if global_pool == '':
        raise InputError("global_pool='' of TimmBackbone gives no vectors; use None for the model's own pooling.")


def _create(model: str, download: bool, arguments: dict[str, Any]) -> nn.Module:
    import timm

    # Arguments are checked by a build without weights, so that what fails afterwards is the download.
    try:
        net = timm.create_model(model, num_classes=0, **arguments)
    except Exception as error:  # timm checks by TypeError, assert, ValueError and RuntimeError alike
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown:
            name = {'drop_path_rate': 'drop_path'}.get(unknown[1], unknown[1])
            place = 'argument' if name in ('drop_path', 'global_pool') else 'option'
            raise InputError(f'the timm model {model!r} has no {place} {name!r}; leave it out.') from error
        raise InputError(
            f'timm could not build model={model!r} with {arguments}: {type(error).__name__} {error}; '
            'check the model name and its options.'
        ) from error
    if not download:
        return net
    check_cached(net.pretrained_cfg.get('url') or '')
    timm.models.set_pretrained_check_hash(True)  # of files outside of its hub
    try:
        with only_weights():
            return timm.create_model(model, num_classes=0, pretrained=True, **arguments)
    except Exception as error:  # whatever the hub client, the network or the cache raise
        raise InputError(
            f'pretrained=True could not get the weights of {model!r} ({type(error).__name__}); '
            'fetch the file elsewhere and give its path as pretrained.'
        ) from error


def _scattered(net: nn.Module) -> str:
    """Why the tokens of a training pass are not those of all patches, row by row; empty: they are."""
    dropped = getattr(getattr(net, 'patch_drop', None), 'prob', None) or getattr(net, 'patch_drop_rate', None)
    if dropped:
        return f'patch_drop_rate={dropped} drops some in training: leave it out'
    if hasattr(net, 'reroll'):
        return f'{type(net).__name__} keeps its tokens in another order than rows: choose another network or policy'
    return ''


def _stages(net: nn.Module) -> dict[str, int]:
    """Module names of timm's feature_info and their channels.

    Left out are the stem, and what does not exist or is never called by itself (a few families). If nothing is left,
    the last module of each stage or block, whose channels are not told (0).
    """
    modules = dict(net.named_modules())
    infos = {info.get('module'): info['num_chs'] for info in getattr(net, 'feature_info', None) or ()}
    found = {
        name: channels for name, channels in infos.items()
        if name in modules and not _STEM.fullmatch(name) and not isinstance(modules[name], nn.ModuleList)
    }  # fmt: skip
    return found or dict.fromkeys(_last_of_each(modules), 0)


def _last_of_each(modules: dict[str, nn.Module]) -> list[str]:
    parent = next((name for name in ('stages', 'blocks') if name in modules), None)
    children = [] if parent is None else [f'{parent}.{name}' for name, _ in modules[parent].named_children()]
    ends = {name: len(child) - 1 for name in children if isinstance(child := modules[name], nn.ModuleList)}
    return [f'{name}.{ends[name]}' if name in ends else name for name in children]
