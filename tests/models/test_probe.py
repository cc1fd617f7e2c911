"""The probe: its answers, and that it leaves no trace."""

import hashlib

import pytest
import timm
import torch
from torch import nn

from openmixup.errors import InputError
from openmixup.models import MixClassifier, SoftCrossEntropy, Student, TimmBackbone, TorchvisionBackbone
from openmixup.models.attention import attention_module, check_attention
from openmixup.models.probe import Probe, frozen
from openmixup.policies import Mixture

VIT = {'img_size': 32, 'patch_size': 8, 'depth': 2}
RESNET = {'type': 'TimmBackbone', 'model': 'resnet10t', 'stem': 'cifar'}
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 4])


def learner(backbone, **arguments):
    torch.manual_seed(0)
    return MixClassifier(backbone, {'type': 'LinearHead', 'num_classes': 5}, **arguments).train()


def vit(model='vit_tiny_patch16_224', **options):
    return {'type': 'TimmBackbone', 'model': model, 'options': {**VIT, **options}}


def digest(module):
    """A hash of all that a look must leave alone."""
    parts = [f'{name} {m.training} {getattr(m, "track_running_stats", "")}' for name, m in module.named_modules()]
    parts += [f'{name} {p.requires_grad}' for name, p in module.named_parameters()]
    values = [*module.state_dict().values(), *(p.grad for p in module.parameters() if p.grad is not None)]
    return hashlib.sha256(repr(parts).encode() + b''.join(v.numpy().tobytes() for v in values)).hexdigest()


LOOKS = {
    'features': lambda probe, of: probe.features(IMAGES, 1, of),
    'features_and_logits': lambda probe, of: probe.features_and_logits(IMAGES, 1, of=of),
    'attention': lambda probe, of: probe.attention(IMAGES, of),
    'look': lambda probe, of: probe.look(IMAGES, ('received', 'rollout', 'features'), of),
    'merged_attention': lambda probe, of: probe.merged_attention(IMAGES, 0.5, -1, of),
    'cam': lambda probe, of: probe.cam(IMAGES, LABELS, of),
    'input_grad': lambda probe, of: probe.input_grad(IMAGES, LABELS, of),
    'logits': lambda probe, of: probe.logits(IMAGES.clone().requires_grad_(), of=of).sum().backward(),
}


@pytest.mark.parametrize('bn', ['running', 'batch'])
@pytest.mark.parametrize('of', ['student', 'teacher'])
@pytest.mark.parametrize('look', LOOKS)
def test_a_look_leaves_no_trace(look, of, bn):
    """Weights, statistics, gradients half accumulated, and the mode of each module, with some BatchNorms frozen."""
    model = learner(vit() if look in ('attention', 'look', 'merged_attention') else RESNET, teacher={'bn': bn})
    norms = [m for m in model.student.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms[::2]:
        norm.eval()
    model(IMAGES, LABELS, mode='loss')['loss_main'].backward()
    before = digest(model)
    LOOKS[look](model.probe(), of)
    assert digest(model) == before


@pytest.mark.parametrize('look', ['features', 'input_grad'])
def test_the_mode_comes_back_after_an_error(look, monkeypatch):
    model = learner(RESNET)
    before = digest(model)
    monkeypatch.setattr(model.student.backbone.net.layer1, 'forward', lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        LOOKS[look](model.probe(), 'student')
    monkeypatch.undo()
    assert digest(model) == before
    assert not any(m._forward_hooks for m in model.modules())


def test_features_are_those_of_the_stage_and_later_ones_do_not_run():
    model = learner(RESNET).eval()
    seen = {}
    net = model.student.backbone.net
    net.layer3.register_forward_hook(lambda m, i, out: seen.update(third=out))
    model.student(IMAGES)
    ran = []
    net.layer4.register_forward_hook(lambda m, i, out: ran.append(out))
    torch.testing.assert_close(model.probe().features(IMAGES, 2), seen['third'])
    assert not ran


SWIN = {
    'img_size': 32, 'patch_size': 2, 'window_size': 4, 'embed_dim': 12, 'depths': (1, 1, 1, 1),
    'num_heads': (1, 1, 2, 2),
}  # fmt: skip


@pytest.mark.parametrize(
    'config', [vit(), {'type': 'TimmBackbone', 'model': 'swin_tiny_patch4_window7_224', 'options': SWIN}]
)
def test_features_have_their_channels_in_front(config):
    model = learner(config).eval()
    backbone = model.student.backbone
    last = model.probe().features(IMAGES, -1)
    (expected,) = backbone.net.forward_intermediates(IMAGES, indices=1, norm=False, intermediates_only=True)
    torch.testing.assert_close(last, expected)
    assert last.shape[:2] == (4, backbone.channels[-1])


@pytest.mark.parametrize('bn', ['running', 'batch'])
@pytest.mark.parametrize(('config', 'stage'), [(RESNET, 2), (RESNET, -1), (vit(), 0)])
def test_features_and_logits_come_from_one_pass(config, stage, bn):
    model = learner(config, teacher={'bn': bn})
    teacher, passes = model.teacher.network, []
    torch.nn.init.normal_(teacher.heads['main'].fc.weight)
    teacher.backbone.get_submodule(teacher.backbone.stages[0]).register_forward_hook(lambda m, i, out: passes.append(1))
    probe = model.probe()
    features, logits = probe.features_and_logits(IMAGES, stage, of='teacher')
    assert len(passes) == 1
    assert not features.requires_grad
    assert not logits.requires_grad
    torch.testing.assert_close(features, probe.features(IMAGES, stage, of='teacher'))
    torch.testing.assert_close(logits, probe.logits(IMAGES, of='teacher'))
    assert probe.features_and_logits(IMAGES, stage, of='teacher')[0] is features


def test_an_answer_is_computed_once_for_a_batch():
    model = learner(RESNET)
    calls = []
    model.student.backbone.net.layer1.register_forward_hook(lambda m, i, out: calls.append(1))
    probe = model.probe()
    first = probe.features(IMAGES, 1)
    assert probe.features(IMAGES, 1) is first
    assert len(calls) == 1
    probe.features(IMAGES.clone(), 1)  # equal values, but another batch
    assert len(calls) == 2


def test_the_input_gradient_is_that_of_the_plain_loss_in_eval_mode():
    model = learner(RESNET)
    pixels = IMAGES.clone().requires_grad_()
    model.eval()
    nn.functional.cross_entropy(model(pixels), LABELS, reduction='sum').backward()
    model.train()
    torch.testing.assert_close(model.probe().input_grad(IMAGES, LABELS), pixels.grad)


def test_logits_pass_gradient_to_the_images_and_to_nothing_else():
    model = learner(RESNET, teacher={'decay': 0.9})
    for of in ('student', 'teacher'):
        pixels = IMAGES.clone().requires_grad_()
        model.probe().logits(pixels, of=of).square().sum().backward()
        assert pixels.grad is not None
        assert pixels.grad.abs().sum() > 0
        assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.probe().logits(IMAGES).requires_grad


def test_the_teacher_normalises_as_it_was_told():
    by_batch, by_average = (learner(RESNET, teacher={'bn': bn}) for bn in ('batch', 'running'))
    first, second = (model.probe().features(IMAGES, 1, 'teacher') for model in (by_batch, by_average))
    assert not torch.allclose(first, second)
    training = by_batch.teacher.network
    training.train()
    torch.testing.assert_close(first, by_batch.probe().features(IMAGES.clone(), 1, 'teacher'))
    seen = []
    training.backbone.net.layer2.register_forward_hook(lambda m, i, out: seen.append(out))
    training(IMAGES)
    torch.testing.assert_close(first, seen[0])


def test_a_class_activation_map_averages_to_the_logit():
    model = learner(RESNET).eval()
    cam = model.probe().cam(IMAGES, LABELS)
    bias = model.student.heads['main'].fc.bias[LABELS]
    torch.testing.assert_close(cam.mean((1, 2)) + bias, model(IMAGES).gather(1, LABELS[:, None])[:, 0])


def test_a_class_activation_map_needs_a_linear_head_on_the_map():
    model = learner({'type': 'TimmBackbone', 'model': 'mobilenetv3_small_050'})
    with pytest.raises(InputError, match='class activation map needs a linear head'):
        model.probe().cam(IMAGES, LABELS)


ATTENTIVE = {
    'vit': vit(),
    'vit-mean': {**vit(class_token=True), 'global_pool': 'avg'},
    'deit': vit('deit_tiny_patch16_224'),
    'distilled': vit('deit_tiny_distilled_patch16_224'),
    'registers': vit('vit_small_patch14_reg4_dinov2', embed_dim=64, num_heads=4),
    'qk-norm': vit(qk_norm=True),
}


@pytest.mark.parametrize('name', ATTENTIVE)
def test_attention_is_that_of_the_unfused_network(name):
    """The row of the class token, of an equal network that computes all of its attention."""
    model = learner(ATTENTIVE[name]).eval()
    network = model.student
    assert attention_module(network.backbone).fused_attn, 'the fused attention is on'
    got = model.probe().attention(IMAGES)
    last = attention_module(network.backbone)
    maps = []
    last.fused_attn = False
    last.attn_drop.register_forward_hook(lambda m, i, out: maps.append(out))
    network(IMAGES)
    prefix = network.backbone.net.num_prefix_tokens
    assert prefix == {'distilled': 2, 'registers': 5}.get(name, 1)
    expected = maps[0][:, :, 0, prefix:].unflatten(2, (4, 4))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    assert not got.requires_grad


def test_attention_can_be_asked_of_a_network_without_heads():
    backbone = learner(vit()).student.backbone
    probe = Probe({'guide': Student(backbone, {}), 'student': learner(vit()).student}, SoftCrossEntropy())
    torch.testing.assert_close(probe.attention(IMAGES, of='guide'), probe.attention(IMAGES.clone()))


def test_attention_of_torchvision_is_that_of_its_module():
    backbone = TorchvisionBackbone('vit_b_16', options={'image_size': 32})
    network = Student(backbone, {'main': nn.Linear(768, 5)}).eval()
    seen = []
    last = backbone.net.encoder.layers[-1].self_attention
    last.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    output = network(IMAGES, read=('attention',))
    _, weights = last(*[seen[0]] * 3, need_weights=True, average_attn_weights=False)
    torch.testing.assert_close(output.attention, weights[:, :, 0, 1:].unflatten(2, (2, 2)), rtol=1e-4, atol=1e-6)


def test_attention_and_features_come_from_the_training_pass_itself():
    model = learner(vit())
    runs = []
    model.student.backbone.net.blocks[0].register_forward_hook(lambda m, i, out: runs.append(1))
    output = model.student(IMAGES, read=('attention', 'features'))
    assert len(runs) == 1
    assert output.attention.shape == (4, 3, 4, 4)
    assert output.features.shape == (4, 192, 4, 4)
    assert output.features.requires_grad
    torch.testing.assert_close(output.logits, model.student(IMAGES).logits)
    assert not attention_module(model.student.backbone).qkv._forward_hooks, 'the hook is gone'


@pytest.mark.parametrize('model', ['resnet10t', 'mixer_s32_224', 'beit_base_patch16_224', 'eva02_tiny_patch14_224'])
def test_other_networks_have_no_attention_to_read(model):
    with torch.device('meta'):
        assert attention_module(TimmBackbone(model)) is None
    assert timm.is_model(model)


@pytest.mark.parametrize('model', ['vit_wee_patch16_reg1_gap_256', 'vit_little_patch16_reg4_gap_256'])
def test_registers_are_no_class_token(model):
    with torch.device('meta'):
        backbone = TimmBackbone(model)
    assert backbone.prefix_tokens == {'wee': 1, 'little': 4}[model.split('_')[1]]
    assert attention_module(backbone) is None
    with pytest.raises(InputError, match='use a ViT or DeiT with a class token'):
        check_attention(backbone, 'TransMix')


@pytest.mark.parametrize('policy', ['MergeMix', 'TransMix'])
def test_blocks_of_several_attentions_side_by_side_have_none_to_read(policy):
    with pytest.raises(InputError, match=f'{policy} needs the attention .* in a form that can be read'):
        learner(vit('vit_small_patch16_18x2_224', embed_dim=24, num_heads=2), policy={'type': policy})


def test_a_class_token_is_found_wherever_timm_keeps_it():
    with torch.device('meta'):
        for model in ('deit_tiny_distilled_patch16_224', 'naflexvit_base_patch16_radio_v3'):
            assert attention_module(TimmBackbone(model)) is not None


def test_under_autocast_the_attention_is_a_softmax_in_float32():
    model = learner(vit()).eval()
    with torch.autocast('cpu', torch.bfloat16):
        row = model.probe().attention(IMAGES)
    assert row.dtype == torch.float32
    plain = model.probe().attention(IMAGES)
    torch.testing.assert_close(row, plain, rtol=0.05, atol=0.01)


def test_an_unknown_network_is_named():
    probe = Probe({'student': learner(RESNET).student}, SoftCrossEntropy())
    with pytest.raises(InputError, match="no network 'teacher' to look at: known are student"):
        probe.features(IMAGES, of='teacher')


def test_a_frozen_criterion_gets_the_plain_mixture():
    found = []

    def criterion(logits, labels, mixture: Mixture):
        found.append(mixture)
        return logits.sum(1)

    Probe({'student': learner(RESNET).student}, criterion).input_grad(IMAGES, LABELS)
    assert found[0].index.tolist() == [[0], [1], [2], [3]]
    assert found[0].weight.tolist() == [[1.0]] * 4


def unfused(network, images):
    """The attention of each block, (N, heads, tokens, tokens), of a network that computes all of it."""
    maps = []
    for block in network.backbone.net.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, i, out: maps.append(out))
    network(images)
    return maps


@pytest.mark.parametrize('name', ATTENTIVE)
def test_received_attention_and_rollout_are_those_of_the_unfused_network(name):
    """Of all patches to each patch in the last block; R <- (A R + R) / 2 over the blocks, row of the class token."""
    model = learner(ATTENTIVE[name]).eval()
    seen = model.probe().look(IMAGES, ('rollout', 'received', 'attention', 'features'))
    prefix = model.student.backbone.prefix_tokens
    torch.testing.assert_close(seen.logits, model(IMAGES))
    assert not seen.logits.requires_grad
    assert seen.features.shape[2:] == (4, 4)
    torch.testing.assert_close(seen.attention, model.probe().attention(IMAGES))
    maps = unfused(model.student, IMAGES)
    assert len(maps) == 2
    expected = maps[-1][:, :, prefix:, prefix:].mean(2).unflatten(2, (4, 4))
    torch.testing.assert_close(seen.received, expected, rtol=1e-4, atol=1e-6)
    whole = torch.eye(16 + prefix).expand(4, -1, -1)
    for each in maps:
        whole = (each.mean(1) @ whole + whole) / 2
    torch.testing.assert_close(seen.rollout, whole[:, 0, prefix:].unflatten(1, (4, 4)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(seen.rollout.sum((1, 2)), 1 - whole[:, 0, :prefix].sum(1))


def test_received_attention_and_rollout_of_torchvision():
    backbone = TorchvisionBackbone('vit_b_16', options={'image_size': 32})
    network = Student(backbone, {'main': nn.Linear(768, 5)}).eval()
    seen, blocks = [], [layer.self_attention for layer in backbone.net.encoder.layers]
    for block in blocks:
        block.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    output = network(IMAGES, read=('rollout', 'received'))
    weights = [block(*[x] * 3, need_weights=True)[1] for block, x in list(zip(blocks, seen, strict=True))]
    whole = torch.eye(5).expand(4, -1, -1)
    for each in weights:
        whole = (each @ whole + whole) / 2
    torch.testing.assert_close(output.rollout.flatten(1), whole[:, 0, 1:], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(output.received.mean(1).flatten(1), weights[-1][:, 1:, 1:].mean(1))


def test_what_is_read_of_attention_carries_no_gradient_and_lets_that_of_the_pass_through():
    model = learner(vit())
    output = model.student(IMAGES, read=('rollout', 'received', 'features'))
    assert not output.rollout.requires_grad
    assert not output.received.requires_grad
    assert output.features.requires_grad
    torch.testing.assert_close(output.logits, model.student(IMAGES).logits)
    output.logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.student.backbone.net.blocks.parameters())


def test_a_network_without_a_class_token_is_refused_by_each_reader():
    for name in ('attention', 'received', 'rollout'):
        with pytest.raises(InputError, match='has no class-token attention'):
            learner(RESNET).probe().look(IMAGES, (name,))


def test_a_look_is_taken_once_for_a_batch_and_by_what_is_read():
    model = learner(vit())
    calls, probe = [], model.probe()
    model.student.backbone.net.blocks[0].register_forward_hook(lambda m, i, out: calls.append(1))
    first = probe.look(IMAGES, ('received',))
    assert probe.look(IMAGES, ('received',)) is first
    assert len(calls) == 1
    assert first.rollout is None
    assert probe.look(IMAGES, ('rollout',)).rollout is not None


@pytest.mark.parametrize('bn', ['running', 'batch'])
def test_the_gradient_of_a_confident_network_survives_half_precision(bn):
    """The loss of these images is about 1e-6, which is 0 in float16 a few layers further down."""
    model = learner(RESNET, teacher={'bn': bn})
    network = model.teacher.network
    with torch.no_grad(), frozen(network, bn == 'batch'):
        logits = network(IMAGES).logits
        (linear,) = (module for module in network.heads['main'].modules() if isinstance(module, nn.Linear))
        for part in linear.parameters():
            part.mul_(14 / logits.topk(2).values.diff().abs().min())  # the least sure one is ahead by 14
    labels = logits.argmax(1)
    whole = model.probe().input_grad(IMAGES, labels, 'teacher').flatten(1)
    with torch.autocast('cpu', torch.float16):
        half = model.probe().input_grad(IMAGES, labels, 'teacher').flatten(1)
    assert float(whole.abs().max()) < 1e-4
    assert (torch.cosine_similarity(whole.double(), half.double()) > 0.9).all()
    assert torch.allclose(half.norm(dim=1), whole.norm(dim=1), rtol=0.3)
