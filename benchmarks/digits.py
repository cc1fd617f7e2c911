"""The quick start: 8x8 digits, a few seconds of training."""

recipe = 'digits/resnet8_1xb50-30e_digits.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    mixup=dict(type='Mixup', alpha=1.0),
    cutmix=dict(type='CutMix', alpha=1.0),
)
seeds = (0, 1, 2)
