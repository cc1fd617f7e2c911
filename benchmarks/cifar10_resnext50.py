"""ResNeXt-50 (32x4d, stem for 32 pixels) on CIFAR-10: crops padded with zeros, no warm-up."""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-10, median of the last 10 epochs'
_EXCHANGED = f'{_PAGE}; there the labels of the two images were exchanged'

recipe = 'cifar10/resnext50-32x4d_1xb100-{epochs}e_cifar10.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=1.0),
    'cutmix': dict(type='CutMix', alpha=0.2),
    'manifoldmix': dict(type='ManifoldMix', alpha=2.0),
    'smoothmix': dict(type='SmoothMix'),
    'saliencymix': dict(type='SaliencyMix', alpha=0.2),
    'attentivemix': dict(
        type='AttentiveMix', alpha=2.0, teacher=dict(type='TimmBackbone', model='resnet18', pretrained=True)
    ),
    'fmix': dict(type='FMix', alpha=0.2),
    'puzzlemix': dict(type='PuzzleMix', alpha=1.0),
    'gridmix': dict(type='GridMix', alpha=0.2),
    'resizemix': dict(type='ResizeMix', alpha=1.0),
}
seeds = (0,)
vary = dict(epochs=(200, 400, 800, 1200))
published_score = 'median10'
published = {
    'vanilla': {200: (95.92, _PAGE), 400: (95.81, _PAGE), 800: (96.23, _PAGE), 1200: (96.26, _PAGE)},
    'mixup': {200: (96.88, _PAGE), 400: (97.19, _PAGE), 800: (97.30, _PAGE), 1200: (97.33, _PAGE)},
    'cutmix': {200: (96.78, _PAGE), 400: (96.54, _PAGE), 800: (96.60, _PAGE), 1200: (96.35, _PAGE)},
    'manifoldmix': {200: (96.97, _PAGE), 400: (97.39, _PAGE), 800: (97.33, _PAGE), 1200: (97.36, _PAGE)},
    'smoothmix': {
        200: (95.87, _EXCHANGED),
        400: (96.37, _EXCHANGED),
        800: (96.49, _EXCHANGED),
        1200: (96.77, _EXCHANGED),
    },
    'saliencymix': {200: (96.65, _PAGE), 400: (96.89, _PAGE), 800: (96.70, _PAGE), 1200: (96.60, _PAGE)},
    'attentivemix': {200: (96.84, _PAGE), 400: (96.91, _PAGE), 800: (96.87, _PAGE), 1200: (96.62, _PAGE)},
    'fmix': {200: (96.72, _PAGE), 400: (96.76, _PAGE), 800: (96.76, _PAGE), 1200: (96.10, _PAGE)},
    'puzzlemix': {200: (97.05, _PAGE), 400: (97.24, _PAGE), 800: (97.37, _PAGE), 1200: (97.34, _PAGE)},
    'gridmix': {200: (97.18, _PAGE), 400: (97.30, _PAGE), 800: (96.40, _PAGE), 1200: (95.79, _PAGE)},
    'resizemix': {200: (97.02, _PAGE), 400: (97.38, _PAGE), 800: (97.21, _PAGE), 1200: (97.36, _PAGE)},
}
