"""ResNeXt-101 on iNaturalist-2017 from random weights, 100 epochs, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, iNaturalist-2017, median of the last 5 epochs'

recipe = 'inaturalist2017/resnext101-32x4d_4xb64-100e_inaturalist2017.py'
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
    'vanilla': (63.70, _PAGE),
    'mixup': (66.27, _PAGE),
    'cutmix': (67.59, _PAGE),
    'manifoldmix': (66.08, _PAGE),
    'saliencymix': (67.20, _PAGE),
    'fmix': (66.64, _PAGE),
    'puzzlemix': (67.72, _PAGE),
    'resizemix': (66.82, _PAGE),
}
