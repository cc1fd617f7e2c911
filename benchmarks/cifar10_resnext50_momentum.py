"""Learned policies, ResNeXt-50 on CIFAR-10, with a momentum teacher.

Figures were published for CIFAR-10, but never a setting: these are the settings of CIFAR-100.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-10, median of the last 10 epochs; of which of four heads is not said'

recipe = 'cifar10/resnext50-32x4d_1xb100-momentum-{epochs}e_cifar10.py'
policies = {
    'automix': dict(type='AutoMix', alpha=2.0),
    # published with the plain loss of the block
    'samix': dict(type='SAMix', alpha=2.0, generator=dict(loss='plain')),
}
seeds = (0,)
vary = dict(epochs=(200, 400, 800, 1200))
published_score = 'median10'
published = {
    'automix': {200: (97.19, _PAGE), 400: (97.42, _PAGE), 800: (97.65, _PAGE), 1200: (97.51, _PAGE)},
    'samix': {200: (97.23, _PAGE), 400: (97.51, _PAGE), 800: (97.93, _PAGE), 1200: (97.74, _PAGE)},
}
