"""Low data: 100 training images of each class, all test images."""

recipe = 'fashion_mnist/resnet8_1xb50-100shot-100e_fashion_mnist.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    mixup=dict(type='Mixup', alpha=1.0),
    cutmix=dict(type='CutMix', alpha=1.0),
    manifoldmix=dict(type='ManifoldMix', alpha=1.0),
    saliencymix=dict(type='SaliencyMix', alpha=1.0),
    puzzlemix=dict(type='PuzzleMix', alpha=1.0),
    alignmix=dict(type='AlignMix', alpha=1.0),
)
seeds = (0, 1, 2)
