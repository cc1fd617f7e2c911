"""The recipes against the numbers that they were published with, written down here a second time."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from openmixup.benchmark import find_tables, load_table
from openmixup.benchmark.leaves import recipe_numbers

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
NAMES = sorted({name for path in find_tables(ROOT / 'benchmarks') for name in load_table(path).recipes})

# What a recipe is that says nothing else. ``batch`` is the images of an update, over all processes.
PLAIN = {
    'optimizer': 'SGD', 'factors': 0.9, 'warm_up': 0, 'start': None, 'min_lr': 0.0, 'by_step': False, 'clip': None,
    'autocast': False, 'undecayed': False, 'loss': 'SoftCrossEntropy', 'smoothing': 0.0, 'drop_path': 0.0, 'ema': None,
    'sync_bn': False, 'repeats': 1, 'on_device': ('RandomFlip',), 'augment': None, 'crop': None, 'test': None,
}  # fmt: skip
SGD = {'optimizer': 'SGD', 'lr': 0.1, 'weight_decay': 1e-4, 'batch': 100}
SMALL = {**SGD, 'size': None, 'on_device': ('RandomCrop', 'RandomFlip')}
VIT = {
    'optimizer': 'AdamW', 'factors': (0.9, 0.999), 'lr': 1e-3, 'weight_decay': 0.05, 'batch': 100, 'warm_up': 20,
    'start': 1e-5, 'min_lr': 1e-6, 'by_step': True, 'clip': 5.0, 'undecayed': True, 'smoothing': 0.1, 'size': None,
    'on_device': ('RandomResizedCrop', 'RandomFlip', 'RandAugment'),
}  # fmt: skip
IMAGENET = {**SGD, 'batch': 256, 'size': 224, 'crop': 'bicubic', 'test': (256, 224)}
FINE = {**SGD, 'lr': 1e-3, 'weight_decay': 5e-4, 'batch': 16, 'size': 224, 'test': (256, 224)}
RSB = {
    **IMAGENET, 'optimizer': 'Lamb', 'factors': None, 'weight_decay': 0.02, 'batch': 2048, 'warm_up': 5, 'start': 1e-5,
    'min_lr': 1e-6, 'by_step': True, 'autocast': True, 'undecayed': True, 'loss': 'BinaryCrossEntropy', 'sync_bn': True,
    'test': (236, 224),
}  # fmt: skip
A2 = {**RSB, 'lr': 5e-3, 'epochs': 300, 'drop_path': 0.05, 'repeats': 3, 'augment': 'rand-m7-mstd0.5-inc1'}
A3 = {**RSB, 'lr': 8e-3, 'epochs': 100, 'size': 160, 'augment': 'rand-m6-mstd0.5-inc1'}
DEIT = {
    **IMAGENET, 'optimizer': 'AdamW', 'factors': (0.9, 0.999), 'lr': 1e-3, 'weight_decay': 0.05, 'batch': 1024,
    'warm_up': 5, 'start': 1e-3, 'min_lr': 1e-5, 'by_step': True, 'clip': 5.0, 'autocast': True, 'undecayed': True,
    'smoothing': 0.1, 'drop_path': 0.1, 'on_device': ('RandomFlip', 'RandomErasing'), 'augment': 'rand-m9-mstd0.5-inc1',
}  # fmt: skip
ADAN = {**DEIT, 'optimizer': 'Adan', 'factors': (0.98, 0.92, 0.99), 'lr': 1.5e-2, 'weight_decay': 0.02, 'batch': 2048}

# Pattern of a name -> its numbers; epochs of None are those of the name.
PUBLISHED = {
    r'cifar10/resn.*': SMALL,
    r'cifar100/resn.*-wd5e4-.*': {**SMALL, 'weight_decay': 5e-4},
    r'cifar100/resn.*': SMALL,
    r'cifar100/wrn28-8.*': {**SMALL, 'lr': 0.03, 'weight_decay': 1e-3},
    r'cifar100/deit.*': {**VIT, 'drop_path': 0.1, 'on_device': (*VIT['on_device'], 'RandomErasing')},
    r'cifar100/swin.*': {**VIT, 'lr': 5e-4, 'drop_path': 0.2, 'autocast': True},
    r'cifar100/convnext.*': {
        **VIT, 'drop_path': 0.3, 'autocast': True, 'clip': None,
        'on_device': ('RandomCrop', 'RandomFlip', 'RandAugment'),
    },
    r'tiny_imagenet/.*': {**SGD, 'lr': 0.2, 'size': None, 'on_device': ('RandomResizedCrop', 'RandomFlip')},
    r'(cub200|fgvc_aircraft|stanford_cars)/.*': FINE,
    r'(inaturalist201[78]|places205)/.*': IMAGENET,
    r'imagenet/.*-rsb-a2-.*': A2,
    r'imagenet/.*-rsb-a3-.*': A3,
    r'imagenet/resn.*': IMAGENET,
    r'imagenet/deit.*-adan-.*': {**ADAN, 'warm_up': 60, 'clip': None},
    r'imagenet/deit.*': DEIT,
    r'imagenet/swin.*': {**DEIT, 'warm_up': 20, 'drop_path': 0.2},
    r'imagenet/convnext.*': {
        **DEIT, 'lr': 4e-3, 'batch': 4096, 'warm_up': 20, 'min_lr': 1e-6, 'clip': None, 'ema': 0.9999
    },
}  # fmt: skip
OURS = ('digits/', 'fashion_mnist/', 'folder/', 'cifar10/resnet8_', 'rcfmnist/')  # published by nobody
PLAIN_NAMES = [name for name in NAMES if '-momentum-' not in name and not name.startswith(OURS)]


def numbers(name):
    """The same numbers as a config tells them."""
    path = CONFIGS / name
    c = Config.fromfile(path)
    wrapper, data, kept = c.optim_wrapper, c.train_dataloader, c.val_dataloader.dataset
    optimizer, rules = wrapper.optimizer, wrapper.get('paramwise_cfg', {})
    warm = [s for s in c.param_scheduler if s.type == 'LinearLR']
    (cosine,) = (s for s in c.param_scheduler if s.type == 'CosineAnnealingLR')
    crop, test = data.dataset.get('crop', {}), kept.get('crop', {})
    return {
        'epochs': c.train_cfg.max_epochs,
        'optimizer': optimizer.type,
        'factors': optimizer.get('momentum') or (tuple(optimizer.betas) if 'betas' in optimizer else None),
        'lr': optimizer.lr,
        'weight_decay': optimizer.weight_decay,
        'batch': recipe_numbers(path)['gpus'] * data.batch_size * wrapper.get('accumulative_counts', 1),
        'warm_up': warm[0].end if warm else 0,
        'start': warm[0].start_factor if warm else None,
        'min_lr': cosine.eta_min,
        'by_step': cosine.get('convert_to_iter_based', False),
        'clip': (wrapper.get('clip_grad') or {}).get('max_norm'),
        'autocast': wrapper.type == 'AutocastOptimWrapper',
        'undecayed': rules.get('norm_decay_mult') == rules.get('bias_decay_mult') == 0.0,
        'loss': c.model.loss.type,
        'smoothing': c.model.loss.get('label_smoothing', 0.0),
        'drop_path': c.model.backbone.get('drop_path', 0.0),
        'ema': (c.model.get('teacher') or {}).get('decay'),
        'sync_bn': c.get('sync_bn', False),
        'repeats': data.get('repeats', 1),
        'on_device': tuple(step.type for step in c.data_preprocessor.train),
        'augment': crop.get('augment'),
        'size': data.dataset.get('size'),
        'crop': crop.get('interpolation'),
        'test': (test.resize, kept.size) if 'resize' in test else None,
    }


@pytest.mark.parametrize('name', PLAIN_NAMES)
def test_numbers_are_the_published_ones(name):
    expected = next((row for pattern, row in PUBLISHED.items() if re.fullmatch(pattern, name)), None)
    assert expected is not None, 'a recipe of the literature needs its numbers here'
    epochs = int(re.search(r'-(\d+)e_', name)[1])
    assert numbers(name) == {**PLAIN, 'epochs': epochs, **expected}


def test_every_row_is_that_of_a_recipe_and_lengths_are_the_published_ones():
    found = {pattern: set() for pattern in PUBLISHED}
    for name in PLAIN_NAMES:
        pattern = next(pattern for pattern in PUBLISHED if re.fullmatch(pattern, name))
        found[pattern].add(int(re.search(r'-(\d+)e_', name)[1]))
    long, vits = {200, 400, 800, 1200}, {200, 600}
    assert found == {
        r'cifar10/resn.*': long, r'cifar100/resn.*-wd5e4-.*': long, r'cifar100/resn.*': long,
        r'cifar100/wrn28-8.*': {400}, r'cifar100/deit.*': vits, r'cifar100/swin.*': vits,
        r'cifar100/convnext.*': vits, r'tiny_imagenet/.*': {400}, r'imagenet/.*-rsb-a2-.*': {300},
        r'imagenet/.*-rsb-a3-.*': {100},
        r'(cub200|fgvc_aircraft|stanford_cars)/.*': {200},
        r'(inaturalist201[78]|places205)/.*': {100}, r'imagenet/resn.*': {100, 300}, r'imagenet/deit.*-adan-.*': {150, 300},
        r'imagenet/deit.*': {300}, r'imagenet/swin.*': {300}, r'imagenet/convnext.*': {300},
    }  # fmt: skip


@pytest.mark.parametrize('name', [n for n in NAMES if n.startswith(('cifar10/', 'cifar100/'))])
def test_how_images_of_32_pixels_are_cropped(name):
    """CIFAR-10 is padded with zeros, CIFAR-100 by reflection; networks for 224 pixels get enlarged images."""
    config = Config.fromfile(CONFIGS / name)
    train = {step.type: step for step in config.data_preprocessor.train}
    large = '-224_' in name
    assert ('RandomCrop' in train) is not large
    if large:
        crop = train['RandomResizedCrop']
        assert (crop.size, tuple(crop.scale), crop.interpolation) == (224, (0.8, 1.0), 'bicubic')
        assert [(s.type, s.size) for s in config.data_preprocessor.test] == [('Resize', 224)]
    else:
        crop = train['RandomCrop']
        assert (crop.size, crop.padding) == (32, 4)
        assert crop.mode == ('zero' if name.startswith('cifar10/') else 'reflect')
        assert config.data_preprocessor.test == []
    if 'RandAugment' in train:
        augment = train['RandAugment']
        assert (augment.num_ops, augment.magnitude_std, augment.operations) == (2, 0.5, 'fixmatch')
        assert augment.magnitude == (9 if 'deit' in name else 7)


FINE_NAMES = [n for n in NAMES if re.fullmatch(r'(cub200|fgvc_aircraft|stanford_cars)/.*', n)]


@pytest.mark.parametrize('name', FINE_NAMES)
def test_fine_grained_recipes_start_from_weights_of_imagenet(name):
    config = Config.fromfile(CONFIGS / name)
    assert config.model.backbone.pretrained is True
    assert config.model.backbone.model.endswith('.tv_in1k')
    assert config.train_dataloader.drop_last
    assert tuple(config.train_dataloader.dataset.crop.scale) == (0.5, 1.0)


def test_networks_are_those_of_the_papers():
    def backbone(name):
        return Config.fromfile(CONFIGS / name).model.backbone.to_dict()

    wide = backbone('cifar100/wrn28-8_1xb100-400e_cifar100.py')
    assert wide == {
        'type': 'WideResNet', 'depth': 28, 'widen_factor': 8, 'negative_slope': 0.1, 'bn_momentum': 0.001,
        'bn_eps': 0.001,
    }  # fmt: skip
    for name in NAMES:
        found = backbone(name)
        small = name.startswith(('cifar10', 'tiny_imagenet/')) and '-224_' not in name
        if found['type'] == 'TimmBackbone' and not name.startswith(OURS):
            assert found.get('stem', 'default') == ('cifar' if small else 'default'), name


def test_the_small_regression_learns_a_twentieth_and_evaluates_the_last_ten_epochs():
    c = Config.fromfile(CONFIGS / 'rcfmnist/resnet8_1xb64-share5-30e_rcfmnist.py')
    assert c.train_dataloader.dataset == {
        'type': 'Subset', 'fraction': 0.05, 'seed': 0, 'dataset': {'type': 'RCFMNIST', 'root': 'data', 'split': 'train'},
    }  # fmt: skip
    assert c.val_dataloader.dataset.type == 'RCFMNIST'
    assert c.val_dataloader.dataset.split == 'test'
    assert (c.train_cfg.type, c.train_cfg.max_epochs, c.train_cfg.val_begin) == ('EpochLoop', 30, 21)
    assert [s.T_max for s in c.param_scheduler] == [30]
    assert (c.model.target, c.default_hooks.checkpoint.save_best) == ('regression', 'mae')
