"""Learned policies, ResNet-18 with weights of ImageNet on CUB-200, with a momentum teacher.

The block of AdAutoMix is that of its runs on ImageNet; which one its runs on these images had is not known to us.
"""

_PAGE = 'openmixup 0.2 benchmark page, CUB-200, median of the last epochs; which head is not said'

recipe = 'cub200/resnet18_1xb16-momentum-200e_cub200.py'
policies = {
    'automix': dict(type='AutoMix', alpha=2.0, block=dict(embedding='concat'), mask_loss=dict(schedule='cosine')),
    # published with the plain loss of the block
    'samix': dict(
        type='SAMix',
        alpha=2.0,
        block=dict(remap=-1, dropout=0.1),
        mask_loss=dict(schedule='cosine'),
        generator=dict(loss='plain'),
    ),
    'adautomix': dict(
        type='AdAutoMix', alpha=1.0, k=3, block=dict(embedding='concat', norm=True), generator=dict(beta=0.3)
    ),
}
seeds = (0,)
published_score = 'median10'
published = {
    'automix': (79.87, _PAGE),
    'samix': (81.11, _PAGE),
    'adautomix': (80.88, _PAGE),
}
