"""Learned policies with DeiT-B on ImageNet-1k, 300 epochs, eight processes.

Their settings with this network were not published; these are those of DeiT-S, with the learning rate of the plain
recipe.
"""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, 300 epochs, mean of the best of three runs; which head is not said'

recipe = 'imagenet/deit-base-patch16-224_8xb128-momentum-300e_imagenet.py'
policies = {
    'automix': dict(
        type='AutoMix',
        alpha=2.0,
        stage=5,
        block=dict(embedding='concat'),
        mask_loss=dict(schedule='cosine'),
        generator=dict(skip=0.2),
    ),
    # published with the plain loss of the block
    'samix': dict(
        type='SAMix',
        alpha=2.0,
        stage=5,
        block=dict(remap=-1, dropout=0.1),
        mask_loss=dict(schedule='cosine'),
        generator=dict(loss='plain', skip=0.2),
    ),
}
seeds = (0,)
published_score = 'best'
published = {
    'automix': (82.18, _PAGE),
    'samix': (82.85, _PAGE),
}
