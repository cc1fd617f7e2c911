"""ResNeXt-50 with weights of ImageNet on FGVC-Aircraft, 200 epochs."""

_PAGE = 'openmixup 0.2 benchmark page, FGVC-Aircraft, median of the last epochs'

recipe = 'fgvc_aircraft/resnext50-32x4d_1xb16-200e_fgvc_aircraft.py'
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
    'vanilla': (85.10, _PAGE),
    'mixup': (85.18, _PAGE),
    'cutmix': (84.55, _PAGE),
    'manifoldmix': (86.60, _PAGE),
    'saliencymix': (84.31, _PAGE),
    'fmix': (86.23, _PAGE),
    'puzzlemix': (86.23, _PAGE),
    'resizemix': (84.08, _PAGE),
}
