"""Layer-wise learning rates: those of timm, in few groups."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay

from openmixup.errors import InputError
from openmixup.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS

RULES = {'norm_decay_mult': 0.0, 'bias_decay_mult': 0.0, 'flat_decay_mult': 0.0}
NO_DECAY = ('cls_token', 'pos_embed')


def learner(model='vit_tiny_patch16_224', kind='TimmBackbone', teacher=None):
    with torch.device('meta'):
        return MODELS.build({
            'type': 'MixClassifier', 'backbone': {'type': kind, 'model': model},
            'head': {'type': 'LinearHead', 'num_classes': 10}, 'teacher': teacher,
        })  # fmt: skip


def groups(model, decay, optimizer=None, **rules):
    tables = {name: {'decay_mult': 0.0} for name in NO_DECAY}
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build({
        'type': 'GroupedOptimizer',
        'optim_wrapper_cfg': {
            'type': 'OptimWrapper', 'optimizer': optimizer or {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.05}
        },
        'paramwise_cfg': {**RULES, 'custom_keys': tables, 'layer_decay': decay, **rules},
    })  # fmt: skip
    return constructor(model).optimizer.param_groups


def by_name(model, found):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: (g['lr'], g['weight_decay']) for g in found for p in g['params']}


# of a ViT the embedding, 12 blocks and the head; of a ConvNeXt the stem, 18 blocks (with the downsampling before them)
# and the head
@pytest.mark.parametrize(
    ('model', 'decay', 'layers'),
    [('vit_tiny_patch16_224', 0.75, 14), ('deit_small_patch16_224', 0.65, 14), ('convnext_tiny', 0.8, 20)],
)
def test_rates_and_decays_are_those_of_timm(model, decay, layers):
    """Of each parameter; timm's own groups of the whole network are the reference."""
    built = learner(model, teacher={'decay': 0.999})
    found = groups(built, decay)
    ours = by_name(built, found)
    with torch.device('meta'):
        whole = timm.create_model(model, num_classes=10)
    theirs = param_groups_layer_decay(whole, 0.05, NO_DECAY, layer_decay=decay)
    names = {id(parameter): name for name, parameter in whole.named_parameters()}
    expected = {names[id(p)]: (g['lr_scale'], g['weight_decay']) for g in theirs for p in g['params']}
    seen = {}
    for name, value in ours.items():
        name = name.removeprefix('student.backbone.net.')
        seen[name.replace('student.heads.main.fc', whole.pretrained_cfg['classifier'])] = value
    assert seen.keys() == expected.keys()
    for name in expected:
        assert seen[name] == pytest.approx(expected[name]), name
    assert len({lr for lr, _ in seen.values()}) == layers
    assert len(found) in (2 * layers, 2 * layers + 1)  # with and without weight decay, and what custom_keys names
    assert sum(len(group['params']) for group in found) == len(list(whole.parameters()))


def test_it_multiplies_the_other_rules():
    built = learner()
    found = by_name(built, groups(built, 0.5, custom_keys={'blocks.11.attn': {'lr_mult': 10.0}}))
    assert found['student.backbone.net.blocks.11.attn.qkv.weight'] == pytest.approx((5.0, 0.05))
    assert found['student.backbone.net.blocks.11.mlp.fc1.weight'] == pytest.approx((0.5, 0.05))
    assert found['student.backbone.net.patch_embed.proj.weight'] == pytest.approx((0.5**13, 0.05))
    assert found['student.heads.main.fc.bias'] == pytest.approx((1.0, 0.0))


def test_one_is_as_without():
    built = learner()
    assert by_name(built, groups(built, 1)) == by_name(built, groups(built, None))
    assert len(groups(built, 1)) == 3


@pytest.mark.parametrize('decay', [0, -0.5, 1.5, True, '0.75'])
def test_a_decay_out_of_its_range_is_refused(decay):
    with pytest.raises(InputError, match='above 0 and at most 1'):
        groups(learner(), decay)


def test_what_cannot_be_decayed_is_said():
    with pytest.raises(InputError, match='which TorchvisionBackbone with ResNet does not: choose a Timm'):
        groups(learner('resnet18', 'TorchvisionBackbone'), 0.75)
    with pytest.raises(InputError, match=r'^paramwise_cfg.layer_decay=0.75 .* TimmBackbone with MetaFormer does not'):
        groups(learner('poolformer_s12'), 0.75)
    with pytest.raises(InputError, match='set optim_wrapper.optimizer.lr'):
        groups(learner(), 0.75, {'type': 'AdamW', 'weight_decay': 0.05})
