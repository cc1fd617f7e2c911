"""SAMix with DeiT-S on CIFAR-100 at 224 pixels."""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, 200 epochs, best of the last 10; of which head is not said'

recipe = 'cifar100/deit-small-patch16-224_1xb100-momentum-lr75e5-200e_cifar100.py'
policies = {
    # published with the plain loss of the block
    'samix': dict(
        type='SAMix',
        alpha=2.0,
        stage=5,
        block=dict(dropout=0.1),
        mask_loss=dict(schedule='cosine'),
        generator=dict(loss='plain'),
    ),
}
seeds = (0,)
published_score = 'best'
published = {
    'samix': (77.94, _PAGE),
}
