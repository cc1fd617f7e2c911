"""Learned policies, ResNeXt-50 on CIFAR-100, with a momentum teacher."""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, median of the last 10 epochs; of which of four heads is not said'

recipe = 'cifar100/resnext50-32x4d_1xb100-momentum-{epochs}e_cifar100.py'
policies = {
    'automix': dict(type='AutoMix', alpha=2.0),
    # published with the plain loss of the block
    'samix': dict(type='SAMix', alpha=2.0, generator=dict(loss='plain')),
}
seeds = (0,)
vary = dict(epochs=(200, 400, 800, 1200))
published_score = 'median10'
published = {
    'automix': {200: (82.84, _PAGE), 400: (83.32, _PAGE), 800: (83.64, _PAGE), 1200: (83.80, _PAGE)},
    'samix': {200: (83.81, _PAGE), 400: (84.27, _PAGE), 800: (84.42, _PAGE), 1200: (84.31, _PAGE)},
}
