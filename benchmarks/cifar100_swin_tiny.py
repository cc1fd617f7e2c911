"""Swin-T on CIFAR-100 enlarged to 224 pixels, 200 epochs.

The published figures are the best of the last ten epochs, chosen on the test set. TransMix is not here: Swin has no
class token.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, 200 epochs, best of the last 10'
_EXCHANGED = f'{_PAGE}; there the labels of the two images were exchanged'

recipe = 'cifar100/swin-tiny-patch4-window7-224_1xb100-200e_cifar100.py'
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
published_score = 'best'
published = {
    'vanilla': (78.41, _PAGE),
    'mixup': (76.78, _PAGE),
    'cutmix': (80.64, _PAGE),
    'randomchoice-deit': (81.25, _PAGE),
    'saliencymix': (80.40, _PAGE),
    'attentivemix': (81.13, _PAGE),
    'puzzlemix': (80.33, _PAGE),
    'fmix': (80.72, _PAGE),
    'gridmix': (78.54, _PAGE),
    'smoothmix': (66.69, _EXCHANGED),
    'resizemix': (80.16, _PAGE),
}
