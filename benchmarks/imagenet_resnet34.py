"""ResNet-34 on ImageNet-1k at 224 pixels, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, median of the last 5 (10 of 300 epochs)'

recipe = 'imagenet/resnet34_4xb64-{epochs}e_imagenet.py'
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
    'vanilla': {100: (73.85, _PAGE), 300: (75.29, _PAGE)},
    'mixup': {100: (73.97, _PAGE), 300: (75.73, _PAGE)},
    'cutmix': {100: (73.58, _PAGE), 300: (75.16, _PAGE)},
    'manifoldmix': {100: (73.98, _PAGE), 300: (75.44, _PAGE)},
    'saliencymix': {100: (73.56, _PAGE), 300: (75.01, _PAGE)},
    'fmix': {100: (74.08, _PAGE), 300: (75.12, _PAGE)},
    'puzzlemix': {100: (74.26, _PAGE), 300: (75.84, _PAGE)},
    'resizemix': {100: (73.88, _PAGE), 300: (75.64, _PAGE)},
}
