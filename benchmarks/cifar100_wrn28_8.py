"""WRN-28-8 on CIFAR-100, 400 epochs.

Some published rows have half of this weight decay; which of them is not said.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, median of the last 10 epochs'
_EXCHANGED = f'{_PAGE}; there the labels of the two images were exchanged'
_AUTHORS = f"{_PAGE}; of the authors' code"

recipe = 'cifar100/wrn28-8_1xb100-400e_cifar100.py'
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
    'comixup': dict(type='CoMixup', alpha=2.0),
    'gridmix': dict(type='GridMix', alpha=0.2),
    'resizemix': dict(type='ResizeMix', alpha=1.0),
}
seeds = (0,)
published_score = 'median10'
published = {
    'vanilla': (81.63, _PAGE),
    'mixup': (82.82, _PAGE),
    'cutmix': (84.45, _PAGE),
    'manifoldmix': (83.24, _PAGE),
    'smoothmix': (82.09, _EXCHANGED),
    'saliencymix': (84.35, _PAGE),
    'attentivemix': (84.34, _PAGE),
    'fmix': (84.21, _PAGE),
    'puzzlemix': (85.02, _PAGE),
    'comixup': (85.05, _AUTHORS),
    'gridmix': (84.24, _PAGE),
    'resizemix': (84.87, _PAGE),
}
