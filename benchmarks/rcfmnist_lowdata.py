"""Angles of coloured garments, a regression with little data: 3,000 training images, all test images."""

recipe = 'rcfmnist/resnet8_1xb64-share5-30e_rcfmnist.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    mixup=dict(type='Mixup', alpha=2.0),
    manifoldmix=dict(type='ManifoldMix', alpha=2.0),
    cmixup=dict(type='CMixup', alpha=2.0, sigma=0.2),
)
seeds = (0, 1, 2)

# More than two standard deviations behind vanilla, and why.
notes = dict(
    mixup='blends garments of any two angles, and no picture of the angle between lies between them; cmixup, which is '
    'the same but for partners of near angles, loses next to nothing.',
    manifoldmix='as mixup: its partners are of any two angles too.',
)
