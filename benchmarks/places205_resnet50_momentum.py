"""Learned policies, ResNet-50 on Places205 from random weights, with a momentum teacher."""

_PAGE = 'openmixup 0.2 benchmark page, Places205, median of the last 5 epochs; which head is not said'

recipe = 'places205/resnet50_4xb64-momentum-100e_places205.py'
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
}
seeds = (0,)
published_score = 'median10'
published = {
    'automix': (64.06, _PAGE),
    'samix': (64.27, _PAGE),
}
