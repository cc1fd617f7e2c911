"""ResNeXt-50 with weights of ImageNet on CUB-200, 200 epochs."""

_PAGE = 'openmixup 0.2 benchmark page, CUB-200, median of the last epochs'

recipe = 'cub200/resnext50-32x4d_1xb16-200e_cub200.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=0.2),
    'cutmix': dict(type='CutMix', alpha=1.0),
    'manifoldmix': dict(type='ManifoldMix', alpha=0.5),
    'saliencymix': dict(type='SaliencyMix', alpha=0.2),
    'fmix': dict(type='FMix', alpha=0.2),
    'puzzlemix': dict(type='PuzzleMix', alpha=1.0, grids=(2, 4, 8), transport=dict(t_size=-1)),
    'resizemix': dict(type='ResizeMix', alpha=1.0),
}
seeds = (0,)
published_score = 'median10'
published = {
    'vanilla': (83.01, _PAGE),
    'mixup': (84.58, _PAGE),
    'cutmix': (85.68, _PAGE),
    'manifoldmix': (86.38, _PAGE),
    'saliencymix': (83.29, _PAGE),
    'fmix': (84.06, _PAGE),
    'puzzlemix': (84.51, _PAGE),
    'resizemix': (84.77, _PAGE),
}
