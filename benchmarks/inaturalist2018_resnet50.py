"""ResNet-50 on iNaturalist-2018 from random weights, 100 epochs, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, iNaturalist-2018, median of the last 5 epochs'

recipe = 'inaturalist2018/resnet50_4xb64-100e_inaturalist2018.py'
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
    'vanilla': (62.53, _PAGE),
    'mixup': (62.69, _PAGE),
    'cutmix': (63.91, _PAGE),
    'manifoldmix': (63.46, _PAGE),
    'saliencymix': (64.27, _PAGE),
    'fmix': (63.71, _PAGE),
    'puzzlemix': (64.36, _PAGE),
    'resizemix': (64.12, _PAGE),
}
