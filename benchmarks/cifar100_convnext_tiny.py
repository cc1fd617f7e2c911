"""ConvNeXt-T with a stem for 32 pixels on CIFAR-100, 200 epochs.

The published figures are the best of the last ten epochs, chosen on the test set.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, 200 epochs, best of the last 10'
_EXCHANGED = f'{_PAGE}; there the labels of the two images were exchanged'

recipe = 'cifar100/convnext-tiny_1xb100-200e_cifar100.py'
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
published_score = 'best'
published = {
    'vanilla': (78.70, _PAGE),
    'mixup': (81.13, _PAGE),
    'cutmix': (82.46, _PAGE),
    'randomchoice-deit': (83.09, _PAGE),
    'manifoldmix': (82.06, _PAGE),
    'saliencymix': (82.82, _PAGE),
    'attentivemix': (82.59, _PAGE),
    'puzzlemix': (82.29, _PAGE),
    'fmix': (81.79, _PAGE),
    'gridmix': (79.53, _PAGE),
    'smoothmix': (78.87, _EXCHANGED),
    'resizemix': (82.53, _PAGE),
}
