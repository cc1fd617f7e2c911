import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from openmixup.errors import InputError
from openmixup.models import CifarResNet, LeNet5, LinearHead, TimmBackbone, TorchvisionBackbone, WideResNet
from openmixup.models.probe import Probe
from openmixup.models.student import Student
from openmixup.registry import MODELS

VIT = {'img_size': 32, 'patch_size': 8, 'depth': 2, 'embed_dim': 24, 'num_heads': 2}
# name: (config, side of the pictures, number of stages)
SMALL = {
    'resnet18-cifar': ({'type': 'TimmBackbone', 'model': 'resnet18', 'stem': 'cifar'}, 32, 4),
    'resnet10t-gray': ({'type': 'TimmBackbone', 'model': 'resnet10t', 'in_channels': 1}, 32, 4),
    'densenet-cifar': (
        {
            'type': 'TimmBackbone', 'model': 'densenet121', 'stem': 'cifar',
            'options': {'growth_rate': 4, 'block_config': (1, 1, 1, 1)},
        },
        32, 4,
    ),
    'convnext-cifar': (
        {
            'type': 'TimmBackbone', 'model': 'convnext_atto', 'stem': 'cifar', 'drop_path': 0.1,
            'options': {'depths': (1, 1, 1, 1), 'dims': (8, 16, 24, 32)},
        },
        32, 4,
    ),
    'mobilenetv3': ({'type': 'TimmBackbone', 'model': 'mobilenetv3_small_050'}, 32, 4),
    'vit': ({'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': VIT}, 32, 2),
    'vit-mean': (
        {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': VIT, 'global_pool': 'avg'}, 32, 2,
    ),
    'deit': ({'type': 'TimmBackbone', 'model': 'deit_tiny_distilled_patch16_224', 'options': VIT}, 32, 2),
    'swin': (
        {
            'type': 'TimmBackbone', 'model': 'swin_tiny_patch4_window7_224', 'drop_path': 0.1,
            'options': {
                'img_size': 32, 'patch_size': 2, 'window_size': 4, 'embed_dim': 12, 'depths': (1, 1, 1, 1),
                'num_heads': (1, 1, 2, 2),
            },
        },
        32, 4,
    ),
    'resnet10t-catavgmax': ({'type': 'TimmBackbone', 'model': 'resnet10t', 'global_pool': 'catavgmax'}, 32, 4),
    'torchvision-resnet18': ({'type': 'TorchvisionBackbone', 'model': 'resnet18', 'stem': 'cifar'}, 32, 4),
    'torchvision-mobilenet': (
        {'type': 'TorchvisionBackbone', 'model': 'mobilenet_v3_small', 'in_channels': 1}, 32, 5,
    ),
    'torchvision-shufflenet': ({'type': 'TorchvisionBackbone', 'model': 'shufflenet_v2_x0_5'}, 64, 3),
    'wrn': ({'type': 'WideResNet', 'depth': 10, 'widen_factor': 1, 'negative_slope': 0.1, 'dropout': 0.1}, 32, 3),
    'cifar-resnet': ({'type': 'CifarResNet', 'depth': 14, 'width': 4, 'in_channels': 1}, 32, 3),
    'lenet32': ({'type': 'LeNet5'}, 32, 2),
    'lenet28': ({'type': 'LeNet5', 'in_channels': 3, 'image_size': 28}, 28, 2),
}  # fmt: skip


def build(name):
    config, side, stages = copy.deepcopy(SMALL[name])
    torch.manual_seed(0)
    backbone = MODELS.build(config)
    channels = config.get('in_channels', 1 if config['type'] == 'LeNet5' else 3)
    return backbone, torch.randn(2, channels, side, side), stages


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize('name', SMALL)
def test_contract(name):
    backbone, images, stages = build(name)
    backbone.eval()
    with torch.no_grad():
        vectors = backbone(images)
        assert vectors.shape == (2, backbone.num_features)
        assert torch.equal(vectors, backbone.pool(backbone.features(images)))
        if hasattr(backbone, 'net'):
            torch.testing.assert_close(vectors, backbone.net(images))
    assert isinstance(backbone.num_features, int)
    assert len(backbone.stages) == stages


@pytest.mark.parametrize('name', SMALL)
def test_channels_of_the_stages_are_told_before_any_pass(name):
    backbone, images, stages = build(name)
    told, dims = backbone.channels, backbone.channel_dims
    assert len(told) == len(dims) == stages
    maps = []
    for stage, dim in zip(backbone.stages, dims, strict=True):
        backbone.get_submodule(stage).register_forward_hook(
            lambda module, i, out, dim=dim: maps.append(backbone.to_map(out, dim, images.shape[-2:]))
        )
    last = backbone.eval().features(images)
    assert backbone.map_channels in (last.shape[1], last.shape[-1])
    assert tuple(m.shape[1] for m in maps) == told
    assert all(m.ndim == 4 for m in maps)


def first_stage(backbone, side):
    """The map of a probe of stage 0, and what the stage gave."""
    seen = []
    backbone.get_submodule(backbone.stages[0]).register_forward_hook(lambda module, i, out: seen.append(out))
    probe = Probe({'student': Student(backbone, {})}, lambda *loss: torch.zeros(1))
    return probe.features(torch.randn(1, 3, side, side), stage=0), seen[-1]


def test_a_map_with_as_many_channels_as_rows_and_columns_keeps_its_channels_behind():
    """Swin-T at 384 pixels has such a stage, 96x96x96."""
    options = {'patch_size': 4, 'window_size': 4, 'embed_dim': 24, 'depths': (1, 1), 'num_heads': (1, 2)}
    model = 'swin_tiny_patch4_window7_224'
    backbone = MODELS.build({'type': 'TimmBackbone', 'model': model, 'options': {'img_size': 96, **options}})
    assert backbone.shapes()[0][1:] == (24, 24, 24)
    assert backbone.channel_dims == (-1, -1)
    maps, seen = first_stage(backbone, 96)
    assert torch.equal(maps, seen.permute(0, 3, 1, 2))


def test_torchvisions_swin_has_its_channels_behind_at_any_size():
    maps, seen = first_stage(MODELS.build({'type': 'TorchvisionBackbone', 'model': 'swin_t'}), 384)
    assert maps.shape == (1, 96, 96, 96)
    assert torch.equal(maps, seen.permute(0, 3, 1, 2))


@pytest.mark.parametrize('pools', [2, 3])
def test_tokens_of_hiera_are_brought_from_its_mask_units_to_rows(pools):
    """What changes one mask unit, a square of 32 pixels, changes its cells most, in each stage."""
    options = {'img_size': (96, 64), 'embed_dim': 8, 'stages': (1, 1, 1, 1), 'q_pool': pools}
    torch.manual_seed(0)
    backbone = MODELS.build({'type': 'TimmBackbone', 'model': 'hiera_tiny_224', 'options': options}).eval()
    student = Student(backbone, {'main': nn.Identity()})
    probe, images = Probe({'student': student}, lambda *loss: torch.zeros(1)), torch.zeros(2, 3, 96, 64)
    images[1, :, 68:92, 4:28] = 1
    maps = [probe.features(images, stage=stage) for stage in range(4)]
    assert [tuple(each.shape[2:]) for each in maps] == [(24, 16), (12, 8), (6, 4), (3, 2) if pools == 3 else (6, 4)]
    for each in (*maps, student(images, read=('features',)).features):
        change = (each[1] - each[0]).detach().square().sum(0)
        rows, columns = change.shape
        most = change.flatten().topk(max(rows * columns // 12, 1)).indices  # half of the unit
        assert int((most // columns).min()) >= rows * 2 // 3
        assert int((most % columns).max()) < columns // 2


@pytest.mark.parametrize('name', SMALL)
def test_every_stage_runs_in_order_and_can_be_replaced(name):
    backbone, images, _ = build(name)
    backbone.eval()
    ran = []
    for stage in backbone.stages:
        backbone.get_submodule(stage).register_forward_hook(
            lambda module, i, out, stage=stage: ran.append((stage, out))
        )
    with torch.no_grad():
        plain = backbone(images)
        assert tuple(stage for stage, _ in ran) == backbone.stages
        assert all(isinstance(out, torch.Tensor) and len(out) == 2 for _, out in ran)
        backbone.get_submodule(backbone.stages[0]).register_forward_hook(lambda module, i, out: out.flip(0))
        torch.testing.assert_close(backbone(images), plain.flip(0))


@pytest.mark.parametrize('name', SMALL)
def test_backward_reaches_every_parameter(name):
    backbone, images, _ = build(name)
    images = images.repeat(4, 1, 1, 1) + torch.randn(8, 1, 1, 1)
    backbone.eval()  # dropout and drop path could hide a parameter by chance
    backbone(images).square().sum().backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []
    backbone.train()(images).sum().backward()


@pytest.mark.parametrize(
    ('make', 'classes', 'millions', 'digits'),
    [
        (lambda: TimmBackbone('resnet18', stem='cifar'), 100, 11.22, 2),
        (lambda: TimmBackbone('resnet34', stem='cifar'), 100, 21.33, 2),
        (lambda: TimmBackbone('resnet50', stem='cifar'), 100, 23.7, 1),
        (lambda: TorchvisionBackbone('resnet18', stem='cifar'), 100, 11.22, 2),
        (lambda: TimmBackbone('resnet18'), 1000, 11.69, 2),
        (lambda: TimmBackbone('resnet50'), 1000, 25.56, 2),
        (lambda: TimmBackbone('deit_small_patch16_224'), 1000, 22.05, 2),
        (lambda: TimmBackbone('swin_tiny_patch4_window7_224'), 1000, 28.29, 2),
        (lambda: TimmBackbone('convnext_tiny'), 1000, 28.59, 2),
        (lambda: TimmBackbone('mobilenetv3_large_100'), 1000, 5.48, 2),
        (lambda: TorchvisionBackbone('vit_b_16'), 1000, 86.57, 2),
        (lambda: TorchvisionBackbone('vgg11'), 1000, 132.86, 2),
        (lambda: TorchvisionBackbone('efficientnet_b0'), 1000, 5.29, 2),
        (lambda: WideResNet(28, 10), 10, 36.5, 1),
        (lambda: WideResNet(28, 2), 10, 1.47, 2),
        (lambda: WideResNet(28, 8), 10, 23.4, 1),
        (lambda: WideResNet(40, 4), 10, 8.9, 1),
        (lambda: CifarResNet(20), 10, 0.27, 2),
        (lambda: CifarResNet(56), 10, 0.86, 2),
        (lambda: LeNet5(), 10, 0.061706, 6),
    ],
)
def test_published_parameter_counts(make, classes, millions, digits):
    with torch.device('meta'):
        backbone = make()
        total = count(backbone) + count(LinearHead(backbone.num_features, classes))
    assert round(total / 1e6, digits) == millions


@pytest.mark.parametrize(
    ('make', 'shapes'),
    [
        (lambda: TimmBackbone('resnet18', stem='cifar'), [(64, 32), (128, 16), (256, 8), (512, 4)]),
        (lambda: TorchvisionBackbone('resnet18', stem='cifar'), [(64, 32), (128, 16), (256, 8), (512, 4)]),
        (lambda: WideResNet(28, 8), [(128, 32), (256, 16), (512, 8)]),
        (lambda: CifarResNet(20), [(16, 32), (32, 16), (64, 8)]),
        (lambda: LeNet5(in_channels=3), [(6, 14), (16, 5)]),
    ],
)
def test_published_shapes_of_the_stages(make, shapes):
    with torch.device('meta'):
        backbone, seen = make(), []
        for stage in backbone.stages[-len(shapes) :]:
            backbone.get_submodule(stage).register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[1:])))
        features = backbone.features(torch.empty(2, 3, 32, 32))
    assert seen == [(width, side, side) for width, side in shapes]
    assert features.shape[1:] == seen[-1]


@pytest.mark.parametrize(
    'model', ['resnext50_32x4d', 'seresnet18', 'seresnet50', 'resnet50d', 'densenet121', 'convnext_tiny']
)
def test_cifar_stem_of_other_families(model):
    with torch.device('meta'):
        backbone = TimmBackbone(model, stem='cifar')
        conv = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
        assert conv.kernel_size == (3, 3)
        assert conv.stride == (1, 1)
        assert backbone.features(torch.empty(2, 3, 32, 32)).shape[2:] == (4, 4)


def test_cifar_stem_is_initialised_by_fan_out():
    torch.manual_seed(0)
    conv = TimmBackbone('resnet18', stem='cifar').net.conv1
    assert conv.bias is None
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


@pytest.mark.parametrize(
    ('model', 'side', 'stages'),
    [('vit_b_16', 32, 12), ('swin_t', 64, 4), ('vgg11_bn', 64, 6),
     ('convnext_tiny', 64, 4), ('densenet121', 64, 4), ('regnet_y_400mf', 64, 4),
     ('mnasnet0_5', 64, 5), ('mobilenet_v2', 64, 5), ('efficientnet_b0', 64, 5), ('shufflenet_v2_x0_5', 64, 3),
     ('squeezenet1_1', 64, 4), ('googlenet', 64, 3), ('inception_v3', 96, 3), ('maxvit_t', 224, 4)],
)  # fmt: skip
@pytest.mark.slow
def test_torchvision_families_compute_what_torchvision_does(model, side, stages):
    torch.manual_seed(0)
    options = {'image_size': side} if model.startswith('vit') else {}
    backbone = TorchvisionBackbone(model, options=options).eval()
    ran = []
    for stage in backbone.stages:
        backbone.get_submodule(stage).register_forward_hook(lambda module, i, out, stage=stage: ran.append(stage))
    with torch.no_grad():
        vectors = backbone(images := torch.randn(2, 3, side, side))
        assert tuple(ran) == backbone.stages
        assert len(ran) == stages
        assert vectors.shape == (2, backbone.num_features)
        torch.testing.assert_close(vectors, backbone.net(images))


@pytest.mark.parametrize(('model', 'stages'), [('tresnet_m', 4), ('twins_svt_small', 4)])
def test_stages_are_found_where_timm_does_not_name_them_or_the_first_convolution_is_not_on_the_images(model, stages):
    with torch.device('meta'):
        shapes = TimmBackbone(model).shapes()
    assert len(shapes) == stages
    assert all(shape[0] == 2 for shape in shapes)


def test_a_network_whose_stages_give_several_tensors_says_so():
    with torch.device('meta'):
        backbone = TimmBackbone('tnt_s_legacy_patch16_224')
    with pytest.raises(InputError, match='not one tensor but several'):
        _ = backbone.channels


@pytest.mark.slow
@pytest.mark.parametrize(
    'model',
    ['vgg11', 'efficientnet_b0', 'regnetx_002', 'resnetv2_50', 'mobilevit_xxs', 'res2net50d', 'efficientvit_b0',
     'mixer_s32_224', 'coatnet_nano_cc_224', 'pvt_v2_b0', 'cait_xxs24_224', 'beit_base_patch16_224', 'poolformer_s12',
     'repvgg_a0', 'ghostnet_050', 'hrnet_w18', 'levit_128s'],
)  # fmt: skip
def test_width_of_other_timm_families(model):
    with torch.device('meta'):
        backbone = TimmBackbone(model).eval()
        vectors = backbone(torch.empty(2, *backbone.net.pretrained_cfg['input_size']))
    assert vectors.shape == (2, backbone.num_features)
    for stage in backbone.stages:
        backbone.get_submodule(stage)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'type': 'TimmBackbone', 'model': 'resnet118'}, "not a timm model; did you mean 'resnet1"),
        ({'type': 'TimmBackbone', 'model': 'hf-hub:someone/resnet18'}, 'is not a timm model'),
        ({'type': 'TimmBackbone', 'model': 'resnet18.nothing'}, 'resnet18.nothing'),
        ({'type': 'TimmBackbone', 'model': 'torchvision/resnet18'}, "TorchvisionBackbone with model='resnet18'"),
        ({'type': 'TimmBackbone', 'model': 'resnet18', 'options': {'imgsize': 3}}, "no option 'imgsize'"),
        ({'type': 'TimmBackbone', 'model': 'densenet121', 'drop_path': 0.1}, "no argument 'drop_path'"),
        ({'type': 'TimmBackbone', 'model': 'resnet18', 'drop_path': 1.0}, 'drop_path=1.0'),
        ({'type': 'TimmBackbone', 'model': 'resnet18', 'options': {'num_classes': 3}}, 'num_classes of the head'),
        ({'type': 'TimmBackbone', 'model': 'resnet18', 'options': {'checkpoint_path': 'x'}}, 'use pretrained instead'),
        ({'type': 'TimmBackbone', 'model': 'resnet18', 'global_pool': ''}, "global_pool=''"),
        ({'type': 'TimmBackbone', 'model': 'resnet18', 'stem': 'cifra'}, "stem='cifra' is neither"),
        ({'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'stem': 'cifar'}, 'ResNet family'),
        ({'type': 'TimmBackbone', 'model': 'convnext_atto_ols', 'stem': 'cifar'}, 'patch stem'),
        ({'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': {'num_heads': 5}}, 'could not build'),
        ({'type': 'TorchvisionBackbone', 'model': 'resnet19'}, "did you mean 'resnet1"),
        ({'type': 'TorchvisionBackbone', 'model': 'resnet18', 'options': {'depth': 3}}, "'depth'"),
        ({'type': 'TorchvisionBackbone', 'model': 'resnet18', 'options': {'weights': 'x'}}, 'leave it out'),
        ({'type': 'WideResNet', 'depth': 27}, '6n [+] 4'),
        ({'type': 'WideResNet', 'widen_factor': 0}, 'widen_factor=0'),
        ({'type': 'WideResNet', 'dropout': 1}, 'dropout=1'),
        ({'type': 'CifarResNet', 'depth': 18}, '6n [+] 2'),
        ({'type': 'CifarResNet', 'width': 0}, 'width=0'),
        ({'type': 'LeNet5', 'image_size': 8}, 'image_size=8 is too small'),
    ],
)
def test_refuses(config, message):
    with pytest.raises(InputError, match=message) as error:
        MODELS.build(config)
    assert '\n' not in str(error.value)


def test_lenet_refuses_pictures_of_another_size():
    with pytest.raises(InputError, match='image_size=32 but got pictures of 28x28'):
        LeNet5()(torch.zeros(1, 1, 28, 28))


def test_importing_the_models_is_cheap():
    code = "import openmixup.models, sys; assert not {'timm', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True)
