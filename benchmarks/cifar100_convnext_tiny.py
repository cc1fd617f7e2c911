"""ConvNeXt-T with a stem for 32 pixels on CIFAR-100, 200 and 600 epochs.

The published figures are the best of the last ten epochs, chosen on the test set.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, best of the last 10'
_EXCHANGED = f'{_PAGE}; there the labels of the two images were exchanged'

recipe = 'cifar100/convnext-tiny_1xb100-{epochs}e_cifar100.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=0.8),
    'cutmix': dict(type='CutMix', alpha=2.0),
    'randomchoice-deit': dict(
        type='RandomChoice', policies=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    ),
    'manifoldmix': dict(type='ManifoldMix', alpha=2.0),
    'saliencymix': dict(type='SaliencyMix', alpha=0.2),
    'attentivemix': dict(
        type='AttentiveMix', alpha=2.0, teacher=dict(type='TimmBackbone', model='resnet18', pretrained=True)
    ),
    'puzzlemix': dict(type='PuzzleMix', alpha=2.0),
    'fmix': dict(type='FMix', alpha=1.0),
    'gridmix': dict(type='GridMix', alpha=1.0),
    'smoothmix': dict(type='SmoothMix'),
    'resizemix': dict(type='ResizeMix', alpha=1.0, interpolation='bilinear'),
}
seeds = (0,)
vary = dict(epochs=(200, 600))
published_score = 'best'
published = {
    'vanilla': {200: (78.70, _PAGE), 600: (80.65, _PAGE)},
    'mixup': {200: (81.13, _PAGE), 600: (83.08, _PAGE)},
    'cutmix': {200: (82.46, _PAGE), 600: (83.20, _PAGE)},
    'randomchoice-deit': {200: (83.09, _PAGE), 600: (84.12, _PAGE)},
    'manifoldmix': {200: (82.06, _PAGE), 600: (83.94, _PAGE)},
    'saliencymix': {200: (82.82, _PAGE), 600: (83.03, _PAGE)},
    'attentivemix': {200: (82.59, _PAGE), 600: (83.04, _PAGE)},
    'puzzlemix': {200: (82.29, _PAGE), 600: (84.17, _PAGE)},
    'fmix': {200: (81.79, _PAGE), 600: (82.29, _PAGE)},
    'gridmix': {200: (79.53, _PAGE), 600: (79.66, _PAGE)},
    'smoothmix': {200: (78.87, _EXCHANGED), 600: (81.31, _EXCHANGED)},
    'resizemix': {200: (82.53, _PAGE), 600: (82.91, _PAGE)},
}
