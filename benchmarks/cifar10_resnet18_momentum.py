"""Learned policies, ResNet-18 on CIFAR-10, with a momentum teacher.

Figures were published for CIFAR-10, but never a setting: these are the settings of CIFAR-100.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-10, median of the last 10 epochs; of which of four heads is not said'

recipe = 'cifar10/resnet18_1xb100-momentum-{epochs}e_cifar10.py'
policies = dict(
    automix=dict(type='AutoMix', alpha=2.0),
    # published with the plain loss of the block
    samix=dict(type='SAMix', alpha=2.0, generator=dict(loss='plain')),
)
seeds = (0, 1, 2)
vary = dict(epochs=(200, 400, 800, 1200))
published_score = 'median10'
published = dict(
    automix={200: (96.59, _PAGE), 400: (97.08, _PAGE), 800: (97.34, _PAGE), 1200: (97.30, _PAGE)},
    samix={200: (96.67, _PAGE), 400: (97.16, _PAGE), 800: (97.50, _PAGE), 1200: (97.41, _PAGE)},
)
