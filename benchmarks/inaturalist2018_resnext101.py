"""ResNeXt-101 on iNaturalist-2018 from random weights, 100 epochs, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, iNaturalist-2018, median of the last 5 epochs'

recipe = 'inaturalist2018/resnext101-32x4d_4xb64-100e_inaturalist2018.py'
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
    'vanilla': (66.94, _PAGE),
    'mixup': (67.56, _PAGE),
    'cutmix': (69.75, _PAGE),
    'manifoldmix': (69.30, _PAGE),
    'saliencymix': (70.01, _PAGE),
    'fmix': (69.46, _PAGE),
    'puzzlemix': (70.12, _PAGE),
    'resizemix': (69.30, _PAGE),
}
