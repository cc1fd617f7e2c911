"""Learned policies, ResNeXt-50 on Tiny-ImageNet, with a momentum teacher and a learning rate of their own."""

_PAGE = (
    'openmixup 0.2 benchmark page, Tiny-ImageNet, taken for the median of the last 10 epochs; '
    'of which of four heads is not said'
)

recipe = 'tiny_imagenet/resnext50-32x4d_2xb50-momentum-400e_tiny_imagenet.py'
policies = {
    'automix': dict(type='AutoMix', alpha=2.0),
    # published with the plain loss of the block
    'samix': dict(type='SAMix', alpha=2.0, block=dict(remap=-1), generator=dict(loss='plain')),
}
seeds = (0,)
published_score = 'median10'
published = {
    'automix': (70.72, _PAGE),
    'samix': (72.18, _PAGE),
}
