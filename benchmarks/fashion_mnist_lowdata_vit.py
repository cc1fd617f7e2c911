"""Low data with a small vision transformer, for policies that read attention: 100 training images of each class."""

recipe = 'fashion_mnist/test-vit_1xb50-100shot-100e_fashion_mnist.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    cutmix=dict(type='CutMix', alpha=1.0),
    transmix=dict(type='TransMix', policy=dict(type='CutMix', alpha=1.0)),
    tokenmix=dict(type='TokenMix', normalise=True),
    mixpro=dict(type='MixPro'),
    smmix=dict(type='SMMix'),
    tlalign=dict(type='TLAlign', policy=dict(type='CutMix', alpha=1.0)),
    mergemix=dict(type='MergeMix', alpha=1.0),
    tokenmixup=dict(type='TokenMixup'),
)
seeds = (0, 1, 2)

# More than two standard deviations below vanilla, and why. Masks, weights and pictures of each agree.
notes = dict(
    cutmix='2,000 steps are few for a transformer that mixes in all of them: at the end the five measured ones '
    '(mixpro, tlalign, tokenmix, smmix, mergemix) are right on 67 to 78 % of the training images shown clean, at most '
    '5 points above their test images, so they underfit and there is nothing to regularise.',
    transmix='as cutmix, from which it differs by less than its standard deviation.',
    tokenmix='right on 72.4 % of the clean training images: 28 of 49 patches are of the partner in every batch, so '
    'that no picture is nearly clean; its authors do so in half of the batches of 300 epochs on ImageNet.',
    mixpro='right on 74.3 % of the clean training images; as cutmix, but above it.',
    smmix='right on 67.5 % of the clean training images: images mixed alike but learned without its two further '
    'losses give 69.13 in a trial outside the table (fine=0, consistency=0, seed 0), near cutmix; fine=1 asks for the '
    'class of squares down to a patch of 4 pixels, and its authors mix so in half of the batches of 300 '
    'epochs. Its seeds lie far apart, 60.4 to 67.9, though no curve breaks off.',
    tokenmixup='seeds 1 and 2 are right on 79.4 and 80.1 % of the clean training images, 6 points above their test '
    'images: it underfits less than cutmix, and is above it.',
    tlalign='right on 73.0 % of the clean training images; as cutmix, but above it.',
)
