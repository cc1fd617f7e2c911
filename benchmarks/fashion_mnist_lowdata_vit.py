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
)
seeds = (0, 1, 2)
