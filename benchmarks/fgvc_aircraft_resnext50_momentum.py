"""Learned policies, ResNeXt-50 with weights of ImageNet on FGVC-Aircraft, with a momentum teacher.

The block of AdAutoMix is that of its runs on ImageNet; which one its runs on these images had is not known to us.
"""

_PAGE = 'openmixup 0.2 benchmark page, FGVC-Aircraft, median of the last epochs; which head is not said'

recipe = 'fgvc_aircraft/resnext50-32x4d_1xb16-momentum-200e_fgvc_aircraft.py'
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
        type='AdAutoMix',
        alpha=1.0,
        k=3,
        block=dict(embedding='concat', norm=True),
        classifier=dict(lam_margin=0.0),
        generator=dict(beta=0.3),
    ),
}
seeds = (0,)
published_score = 'median10'
published = {
    'automix': (86.72, _PAGE),
    'samix': (86.80, _PAGE),
    'adautomix': (87.16, _PAGE),
}
