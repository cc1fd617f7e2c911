"""Learned policies with ConvNeXt-T on CIFAR-100 at 32 pixels."""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, 200 epochs, best of the last 10; of which head is not said'

recipe = 'cifar100/convnext-tiny_1xb100-momentum-200e_cifar100.py'
policies = {
    'automix': dict(type='AutoMix', alpha=2.0, stage=2),
    # published with the plain loss of the block
    'samix': dict(type='SAMix', alpha=2.0, stage=2, generator=dict(loss='plain')),
}
seeds = (0,)
published_score = 'best'
published = {
    'automix': (83.30, _PAGE),
    'samix': (83.56, _PAGE),
}
