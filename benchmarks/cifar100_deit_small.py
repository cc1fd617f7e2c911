"""DeiT-S on CIFAR-100 enlarged to 224 pixels, 200 and 600 epochs.

The published figures are the best of the last ten epochs, chosen on the test set.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, best of the last 10'
_EXCHANGED = f'{_PAGE}; there the labels of the two images were exchanged'

recipe = 'cifar100/deit-small-patch16-224_1xb100-{epochs}e_cifar100.py'
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
    'randomchoice-transmix': dict(
        type='RandomChoice',
        policies=[dict(type='Mixup', alpha=0.8), dict(type='TransMix', policy=dict(type='CutMix', alpha=1.0))],
        probs=[0.2, 0.8],
    ),
    'fmix': dict(type='FMix', alpha=1.0),
    'gridmix': dict(type='GridMix', alpha=1.0),
    'smoothmix': dict(type='SmoothMix'),
    'resizemix': dict(type='ResizeMix', alpha=1.0, interpolation='bilinear'),
}
seeds = (0,)
vary = dict(epochs=(200, 600))
published_score = 'best'
published = {
    'vanilla': {200: (65.81, _PAGE), 600: (68.50, _PAGE)},
    'mixup': {200: (69.98, _PAGE), 600: (76.35, _PAGE)},
    'cutmix': {200: (74.12, _PAGE), 600: (79.54, _PAGE)},
    'randomchoice-deit': {200: (75.92, _PAGE), 600: (79.38, _PAGE)},
    'saliencymix': {200: (69.78, _PAGE), 600: (76.60, _PAGE)},
    'attentivemix': {200: (75.98, _PAGE), 600: (80.33, _PAGE)},
    'puzzlemix': {200: (73.60, _PAGE), 600: (81.01, _PAGE)},
    'randomchoice-transmix': {200: (76.17, _PAGE), 600: (79.33, _PAGE)},
    'fmix': {200: (70.41, _PAGE), 600: (74.31, _PAGE)},
    'gridmix': {200: (68.86, _PAGE), 600: (74.96, _PAGE)},
    'smoothmix': {200: (67.54, _EXCHANGED), 600: (80.25, _EXCHANGED)},
    'resizemix': {200: (68.45, _PAGE), 600: (71.95, _PAGE)},
}
