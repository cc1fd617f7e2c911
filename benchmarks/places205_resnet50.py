"""ResNet-50 on Places205 from random weights, 100 epochs, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, Places205, median of the last 5 epochs'

recipe = 'places205/resnet50_4xb64-100e_places205.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=0.2),
    'cutmix': dict(type='CutMix', alpha=0.2),
    'manifoldmix': dict(type='ManifoldMix', alpha=0.2),
    'saliencymix': dict(type='SaliencyMix', alpha=0.2),
    'fmix': dict(type='FMix', alpha=0.2),
    'puzzlemix': dict(type='PuzzleMix', alpha=1.0, grids=(2, 4, 8), transport=dict(t_size=-1)),
    'resizemix': dict(type='ResizeMix', alpha=1.0),
}
seeds = (0,)
published_score = 'median10'
published = {
    'vanilla': (63.10, _PAGE),
    'mixup': (63.01, _PAGE),
    'cutmix': (63.75, _PAGE),
    'manifoldmix': (63.23, _PAGE),
    'saliencymix': (63.33, _PAGE),
    'fmix': (63.63, _PAGE),
    'puzzlemix': (63.91, _PAGE),
    'resizemix': (63.88, _PAGE),
}
