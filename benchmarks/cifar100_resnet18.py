"""ResNet-18 on CIFAR-100: crops padded by reflection, no warm-up. Report the median of the last ten epochs."""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, median of the last 10 epochs'

recipe = 'cifar100/resnet18_1xb100-{epochs}e_cifar100.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    mixup=dict(type='Mixup', alpha=1.0),
    cutmix=dict(type='CutMix', alpha=0.2),
)
seeds = (0, 1, 2)
vary = dict(epochs=(200, 400, 800))
published = dict(
    vanilla={200: (76.42, _PAGE), 400: (77.73, _PAGE), 800: (78.04, _PAGE)},
    mixup={200: (78.52, _PAGE), 400: (79.34, _PAGE), 800: (79.12, _PAGE)},
    cutmix={200: (79.45, _PAGE), 400: (79.58, _PAGE), 800: (78.17, _PAGE)},
)
