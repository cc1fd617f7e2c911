"""Learned policies with Swin-T on ImageNet-1k, 300 epochs, eight processes.

The block is trained in four of five steps, as in the published runs. It looks at the third stage of timm's network, 384
channels of 14x14; the published runs had it behind the merging of patches, 768 of 7x7, which timm counts to the fourth
stage. Their other settings are not known; these are those of DeiT-S, with the learning rate of the plain recipe.
"""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, 300 epochs, mean of the best of three runs; which head is not said'

recipe = 'imagenet/swin-tiny-patch4-window7-224_8xb128-momentum-300e_imagenet.py'
policies = {
    'automix': dict(
        type='AutoMix',
        alpha=2.0,
        stage=2,
        block=dict(embedding='concat'),
        mask_loss=dict(schedule='cosine'),
        generator=dict(skip=0.2),
    ),
    # published with the plain loss of the block
    'samix': dict(
        type='SAMix',
        alpha=2.0,
        stage=2,
        block=dict(remap=-1, dropout=0.1),
        mask_loss=dict(schedule='cosine'),
        generator=dict(loss='plain', skip=0.2),
    ),
}
seeds = (0,)
published_score = 'best'
published = {
    'automix': (81.80, _PAGE),
    'samix': (81.87, _PAGE),
}
