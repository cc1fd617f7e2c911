"""DeiT-S on CIFAR-100 enlarged to 224 pixels, 200 epochs.

The published figures are the best of the last ten epochs, chosen on the test set.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, 200 epochs, best of the last 10'
_EXCHANGED = f'{_PAGE}; there the labels of the two images were exchanged'

recipe = 'cifar100/deit-small-patch16-224_1xb100-200e_cifar100.py'
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
published_score = 'best'
published = {
    'vanilla': (65.81, _PAGE),
    'mixup': (69.98, _PAGE),
    'cutmix': (74.12, _PAGE),
    'randomchoice-deit': (75.92, _PAGE),
    'saliencymix': (69.78, _PAGE),
    'attentivemix': (75.98, _PAGE),
    'puzzlemix': (73.60, _PAGE),
    'randomchoice-transmix': (76.17, _PAGE),
    'fmix': (70.41, _PAGE),
    'gridmix': (68.86, _PAGE),
    'smoothmix': (67.54, _EXCHANGED),
    'resizemix': (68.45, _PAGE),
}
