"""Swin-T on CIFAR-100 enlarged to 224 pixels, 200 and 600 epochs.

The published figures are the best of the last ten epochs, chosen on the test set. TransMix is not here: Swin has no
class token.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, best of the last 10'
_EXCHANGED = f'{_PAGE}; there the labels of the two images were exchanged'

recipe = 'cifar100/swin-tiny-patch4-window7-224_1xb100-{epochs}e_cifar100.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=0.8),
    'cutmix': dict(type='CutMix', alpha=2.0),
    'randomchoice-deit': dict(
        type='RandomChoice', policies=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    ),
    'saliencymix': dict(type='SaliencyMix', alpha=0.2),
    'attentivemix': dict(
        type='AttentiveMix', alpha=2.0, teacher=dict(type='TimmBackbone', model='resnet18', pretrained=True)
    ),
    'puzzlemix': dict(type='PuzzleMix', alpha=2.0, grids=(2, 4, 8), transport=dict(t_size=-1)),
    'fmix': dict(type='FMix', alpha=1.0),
    'gridmix': dict(type='GridMix', alpha=1.0),
    'smoothmix': dict(type='SmoothMix'),
    'resizemix': dict(type='ResizeMix', alpha=1.0, interpolation='bilinear'),
}
seeds = (0,)
vary = dict(epochs=(200, 600))
published_score = 'best'
published = {
    'vanilla': {200: (78.41, _PAGE), 600: (81.29, _PAGE)},
    'mixup': {200: (76.78, _PAGE), 600: (83.67, _PAGE)},
    'cutmix': {200: (80.64, _PAGE), 600: (83.38, _PAGE)},
    'randomchoice-deit': {200: (81.25, _PAGE), 600: (84.82, _PAGE)},
    'saliencymix': {200: (80.40, _PAGE), 600: (82.58, _PAGE)},
    'attentivemix': {200: (81.13, _PAGE), 600: (83.69, _PAGE)},
    'puzzlemix': {200: (80.33, _PAGE), 600: (83.13, _PAGE)},
    'fmix': {200: (80.72, _PAGE), 600: (82.82, _PAGE)},
    'gridmix': {200: (78.54, _PAGE), 600: (80.79, _PAGE)},
    'smoothmix': {200: (66.69, _EXCHANGED), 600: (81.18, _EXCHANGED)},
    'resizemix': {200: (80.16, _PAGE), 600: (82.36, _PAGE)},
}
