"""Learned policies, ResNeXt-50 with weights of ImageNet on CUB-200, with a momentum teacher."""

_PAGE = 'openmixup 0.2 benchmark page, CUB-200, median of the last epochs; which head is not said'

recipe = 'cub200/resnext50-32x4d_1xb16-momentum-200e_cub200.py'
policies = {
    # published with the variance of the mask in its loss, as SAMix has it
    'automix': dict(
        type='AutoMix',
        alpha=2.0,
        block=dict(embedding='concat'),
        mask_loss=dict(kind='l1_variance', schedule='cosine'),
    ),
    # published with the plain loss of the block
    'samix': dict(
        type='SAMix',
        alpha=2.0,
        block=dict(remap=-1, dropout=0.1),
        mask_loss=dict(schedule='cosine'),
        generator=dict(loss='plain'),
    ),
}
seeds = (0,)
published_score = 'median10'
published = {
    'automix': (86.56, _PAGE),
    'samix': (86.83, _PAGE),
}
