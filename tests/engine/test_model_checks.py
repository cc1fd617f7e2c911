"""What must fit between the images and the network, before the first step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from openmixup.engine.model_checks import check_images
from openmixup.errors import InputError
from openmixup.models.backbones import Backbone
from openmixup.registry import MODELS


def learner(backbone: Any, channels: int = 1, **preprocessor: Any) -> Any:
    scale = {'mean': (0.5,) * channels, 'std': (0.2,) * channels}
    return MODELS.build({
        'type': 'MixClassifier', 'backbone': backbone, 'head': {'type': 'LinearHead', 'num_classes': 3, 'dropout': 0.5},
        'data_preprocessor': {'type': 'BatchPreprocessor', **scale, **preprocessor},
    })  # fmt: skip


class Restless(Backbone):
    """Draws, also in eval mode, and normalises by its batch."""

    num_features, stages = 4, ()

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.conv(images))
        return features * torch.rand(()) if features.sum().item() < 1e9 else features

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean((2, 3))


VIT = {
    'type': 'TimmBackbone', 'model': 'test_vit', 'in_channels': 1, 'options': {'dynamic_img_size': False},
}  # fmt: skip
RESNET = {'type': 'CifarResNet', 'in_channels': 1}
PAD = {'train': [{'type': 'Pad', 'padding': 4}], 'test': [{'type': 'Pad', 'padding': 4}]}


@pytest.mark.parametrize(('backbone', 'shape', 'match'), [
    ({'type': 'CifarResNet', 'in_channels': 3}, (1, 8, 8), 'built for in_channels=3, but the val images have 1: set '
     r'model\.backbone\.in_channels=1'),
    (VIT, (1, 32, 32), 'TimmBackbone is made for images of 160x160, but the val images reach it as 32x32: .*img_size'),
    ({'type': 'LeNet5'}, (1, 28, 28), 'built for image_size=32 but got pictures of 28x28'),
    ({'type': 'TorchvisionBackbone', 'model': 'alexnet', 'in_channels': 1}, (1, 16, 16),
     r'TorchvisionBackbone cannot take the val images, which reach it as \(1, 16, 16\) \(.*too small'),
])  # fmt: skip
def test_images_that_do_not_fit_are_said(backbone, shape, match):
    with pytest.raises(InputError, match=match) as error:
        check_images(learner(backbone), {'val': shape})
    assert '\n' not in str(error.value)


def test_the_network_sees_what_the_preprocessor_gives_in_each_part():
    lenet = {'type': 'LeNet5', 'image_size': 16}
    check_images(learner(lenet, **PAD), {'train': (1, 8, 8), 'val': (1, 8, 8)})
    with pytest.raises(InputError, match='got pictures of 8x8'):
        check_images(learner(lenet, train=PAD['train']), {'train': (1, 8, 8), 'val': (1, 8, 8)})
    with pytest.raises(InputError, match='images have 3 channels, but the data_preprocessor has mean for 1'):
        check_images(learner(RESNET), {'train': (3, 8, 8)})


def test_a_head_of_another_width_is_refused_when_the_model_is_built():
    head = {'type': 'LinearHead', 'num_classes': 3, 'in_features': 10}
    with pytest.raises(InputError, match=r'model\.head\.in_features=10, .* 64: leave it out'):
        MODELS.build({'type': 'MixClassifier', 'backbone': RESNET, 'head': head})
    MODELS.build({'type': 'MixClassifier', 'backbone': RESNET, 'head': {**head, 'in_features': 64}})


def test_the_check_leaves_no_trace():
    network = learner(Restless(), train=[{'type': 'RandomCrop', 'size': 8, 'padding': 1}])
    network.student.backbone.norm.eval()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    random, preprocessor = torch.get_rng_state(), dict(vars(network.data_preprocessor))
    check_images(network, {'train': (1, 8, 8), 'val': (1, 9, 9)})
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert vars(network.data_preprocessor) == preprocessor


def test_a_backbone_of_others_may_need_another_device():
    class Elsewhere(Restless):
        def features(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError('no kernel for this device')

    check_images(learner(Elsewhere()), {'val': (1, 8, 8)})
    with pytest.raises(InputError, match='Elsewhere was built for in_channels=1'):
        check_images(learner(Elsewhere(), channels=3), {'val': (3, 8, 8)})


def test_a_learner_or_preprocessor_of_another_kind_is_left_alone():
    check_images(nn.Linear(2, 2), {'val': (1, 8, 8)})
    network = learner(RESNET)
    network.data_preprocessor = nn.Identity()
    check_images(network, {'val': (3, 8, 8)})


@pytest.mark.parametrize(
    ('option', 'match'),
    [
        ('model.backbone.in_channels=3', 'built for in_channels=3, but the train images have 1'),
        ('model.head.in_features=7', 'in_features=7, but the vectors of the backbone have 16'),
    ],
)
def test_a_run_says_it_before_its_first_step(train, tmp_path, monkeypatch, option, match):
    from openmixup.engine.runner import Runner

    monkeypatch.setattr(Runner, 'build_train_loop', lambda self, loop: pytest.fail('too late'))
    with pytest.raises(InputError, match=match):
        train('run', option)
