"""Learned policies with Swin-T on CIFAR-100 at 224 pixels.

The block looks at the third stage of timm's network, 384 channels of 14x14; the published runs had it behind the
merging of patches, 768 of 7x7, which timm counts to the fourth stage.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, 200 epochs, best of the last 10; of which head is not said'

recipe = 'cifar100/swin-tiny-patch4-window7-224_1xb100-momentum-200e_cifar100.py'
policies = {
    'automix': dict(
        type='AutoMix', alpha=2.0, stage=2, block=dict(embedding='concat'), mask_loss=dict(schedule='cosine')
    ),
    # published with the plain loss of the block
    'samix': dict(
        type='SAMix',
        alpha=2.0,
        stage=2,
        block=dict(dropout=0.1),
        mask_loss=dict(schedule='cosine'),
        generator=dict(loss='plain'),
    ),
}
seeds = (0,)
published_score = 'best'
published = {
    'automix': (82.67, _PAGE),
    'samix': (82.62, _PAGE),
}
