"""Angles of coloured garments, a regression: short runs of a small network."""

recipe = 'rcfmnist/resnet8_1xb64-5e_rcfmnist.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    mixup=dict(type='Mixup', alpha=2.0),
    cmixup=dict(type='CMixup', alpha=2.0, sigma=0.2),
)
seeds = (0,)
