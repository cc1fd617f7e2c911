"""ResNet-18 on Tiny-ImageNet at 64 pixels, 400 epochs; its validation set is the test set."""

_PAGE = 'openmixup 0.2 benchmark page, Tiny-ImageNet'

recipe = 'tiny_imagenet/resnet18_1xb100-400e_tiny_imagenet.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    mixup=dict(type='Mixup', alpha=1.0),
    cutmix=dict(type='CutMix', alpha=1.0),
)
seeds = (0, 1, 2)
published = dict(vanilla=(61.68, _PAGE), mixup=(63.86, _PAGE), cutmix=(65.53, _PAGE))
