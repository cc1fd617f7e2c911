"""ResNet-101 on ImageNet-1k at 224 pixels, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, median of the last 5 (10 of 300 epochs)'

recipe = 'imagenet/resnet101_4xb64-{epochs}e_imagenet.py'
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
vary = dict(epochs=(100, 300))
published_score = 'median10'
published = {
    'vanilla': {100: (78.18, _PAGE), 300: (78.91, _PAGE)},
    'mixup': {100: (78.97, _PAGE), 300: (80.60, _PAGE)},
    'cutmix': {100: (78.96, _PAGE), 300: (80.59, _PAGE)},
    'manifoldmix': {100: (79.02, _PAGE), 300: (80.64, _PAGE)},
    'saliencymix': {100: (79.32, _PAGE), 300: (80.45, _PAGE)},
    'fmix': {100: (79.09, _PAGE), 300: (80.20, _PAGE)},
    'puzzlemix': {100: (79.36, _PAGE), 300: (80.67, _PAGE)},
    'resizemix': {100: (79.49, _PAGE), 300: (80.52, _PAGE)},
}
