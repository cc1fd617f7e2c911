"""All 60,000 training images, five epochs."""

recipe = 'fashion_mnist/resnet8_1xb100-5e_fashion_mnist.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    mixup=dict(type='Mixup', alpha=1.0),
    cutmix=dict(type='CutMix', alpha=1.0),
)
seeds = (0,)
