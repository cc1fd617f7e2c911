"""Learned policies, ResNeXt-50 with weights of ImageNet on Stanford-Cars, with a momentum teacher.

The published run of AutoMix with ResNet-18 is said to have 60 epochs.
The block of AdAutoMix is that of its runs on ImageNet; which one its runs on these images had is not known to us.
"""

_PAGE = 'openmixup 0.2 benchmark page, Stanford-Cars, median of the last epochs; which head is not said'

recipe = 'stanford_cars/resnext50-32x4d_1xb16-momentum-200e_stanford_cars.py'
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
    'adautomix': dict(
        type='AdAutoMix', alpha=1.0, k=3, block=dict(embedding='concat', norm=True), generator=dict(beta=0.5)
    ),
}
seeds = (0,)
published_score = 'median10'
published = {
    'automix': (91.38, _PAGE),
    'samix': (90.46, _PAGE),
    'adautomix': (91.59, _PAGE),
}
