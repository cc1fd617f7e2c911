"""Learned policies with DeiT-T on ImageNet-1k, 300 epochs, eight processes.

The block is trained in four of five steps, as in the published runs. Their learning rate of the network is not known;
it is that of the plain recipe.
"""

_PAGE = (
    'openmixup 0.2 benchmark page, ImageNet-1k, 300 epochs, mean of the best of three runs; of which head is not said'
)

recipe = 'imagenet/deit-tiny-patch16-224_8xb128-momentum-300e_imagenet.py'
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
    'automix': (75.52, _PAGE),
    'samix': (75.83, _PAGE),
}
