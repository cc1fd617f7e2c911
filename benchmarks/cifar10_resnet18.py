"""ResNet-18 on CIFAR-10: crops padded with zeros, no warm-up. Report the median of the last ten epochs."""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-10, median of the last 10 epochs'

recipe = 'cifar10/resnet18_1xb100-{epochs}e_cifar10.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    mixup=dict(type='Mixup', alpha=1.0),
    cutmix=dict(type='CutMix', alpha=0.2),
)
seeds = (0, 1, 2)
vary = dict(epochs=(200, 400, 800))
published = dict(
    vanilla={200: (94.87, _PAGE), 400: (95.10, _PAGE), 800: (95.50, _PAGE)},
    mixup={200: (95.70, _PAGE), 400: (96.55, _PAGE), 800: (96.62, _PAGE)},
    cutmix={200: (96.11, _PAGE), 400: (96.13, _PAGE), 800: (96.68, _PAGE)},
)
