"""Learned policies, ResNet-18 on CIFAR-100, with a momentum teacher.

The published run of SAMix over 800 epochs adjusted a quarter of its masks to lam, by the lam of the other branch
(``classifier=dict(mask_adjust=0.25)`` without that fault); that is not repeated here.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, median of the last 10 epochs; of which of four heads is not said'

recipe = 'cifar100/resnet18_1xb100-momentum-{epochs}e_cifar100.py'
policies = dict(
    automix=dict(type='AutoMix', alpha=2.0),
    # published with the plain loss of the block
    samix=dict(type='SAMix', alpha=2.0, generator=dict(loss='plain')),
)
seeds = (0, 1, 2)
vary = dict(epochs=(200, 400, 800, 1200))
published_score = 'median10'
published = dict(
    automix={200: (80.12, _PAGE), 400: (81.78, _PAGE), 800: (82.04, _PAGE), 1200: (81.95, _PAGE)},
    samix={200: (81.21, _PAGE), 400: (81.97, _PAGE), 800: (82.30, _PAGE), 1200: (82.41, _PAGE)},
)
