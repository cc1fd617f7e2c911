"""Learned policies, WRN-28-8 on CIFAR-100, with a momentum teacher; they read the second of its three stages."""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, median of the last 10 epochs; of which of four heads is not said'

recipe = 'cifar100/wrn28-8_1xb100-momentum-400e_cifar100.py'
policies = {
    'automix': dict(type='AutoMix', alpha=2.0, stage=1),
    # published with the plain loss of the block
    'samix': dict(type='SAMix', alpha=2.0, stage=1, generator=dict(loss='plain')),
}
seeds = (0,)
published_score = 'median10'
published = {
    'automix': (85.18, _PAGE),
    'samix': (85.50, _PAGE),
}
