"""ResNet-18 with weights of ImageNet on FGVC-Aircraft, 200 epochs."""

_PAGE = 'openmixup 0.2 benchmark page, FGVC-Aircraft, median of the last epochs'

recipe = 'fgvc_aircraft/resnet18_1xb16-200e_fgvc_aircraft.py'
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
    'vanilla': (80.23, _PAGE),
    'mixup': (79.52, _PAGE),
    'cutmix': (78.84, _PAGE),
    'manifoldmix': (80.68, _PAGE),
    'saliencymix': (80.02, _PAGE),
    'fmix': (79.36, _PAGE),
    'puzzlemix': (80.76, _PAGE),
    'resizemix': (78.10, _PAGE),
}
