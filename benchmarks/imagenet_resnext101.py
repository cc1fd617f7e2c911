"""ResNeXt-101 on ImageNet-1k at 224 pixels, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, median of the last 5 (10 of 300 epochs)'

recipe = 'imagenet/resnext101-32x4d_4xb64-100e_imagenet.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=0.2),
    'cutmix': dict(type='CutMix', alpha=1.0),
    'manifoldmix': dict(type='ManifoldMix', alpha=0.2),
    'saliencymix': dict(type='SaliencyMix', alpha=1.0),
    'fmix': dict(type='FMix', alpha=1.0),
    'puzzlemix': dict(type='PuzzleMix', alpha=1.0, grids=(2, 4, 8), transport=dict(t_size=-1)),
    'resizemix': dict(type='ResizeMix', alpha=1.0),
}
seeds = (0,)
published_score = 'median10'
published = {
    'vanilla': (78.71, _PAGE),
    'mixup': (79.98, _PAGE),
    'cutmix': (80.42, _PAGE),
    'manifoldmix': (79.93, _PAGE),
    'saliencymix': (80.27, _PAGE),
    'fmix': (80.06, _PAGE),
    'puzzlemix': (80.53, _PAGE),
    'resizemix': (80.55, _PAGE),
}
