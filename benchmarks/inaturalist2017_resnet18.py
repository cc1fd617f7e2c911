"""ResNet-18 on iNaturalist-2017 from random weights, 100 epochs, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, iNaturalist-2017, median of the last 5 epochs'

recipe = 'inaturalist2017/resnet18_4xb64-100e_inaturalist2017.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=0.2),
    'cutmix': dict(type='CutMix', alpha=1.0),
    'manifoldmix': dict(type='ManifoldMix', alpha=0.2),
    'saliencymix': dict(type='SaliencyMix', alpha=1.0),
    'fmix': dict(type='FMix', alpha=1.0),
    'resizemix': dict(type='ResizeMix', alpha=1.0),
}
seeds = (0,)
published_score = 'median10'
published = {
    'vanilla': (51.79, _PAGE),
    'mixup': (51.40, _PAGE),
    'cutmix': (51.24, _PAGE),
    'manifoldmix': (51.83, _PAGE),
    'saliencymix': (51.29, _PAGE),
    'fmix': (52.01, _PAGE),
    'resizemix': (51.21, _PAGE),
}
