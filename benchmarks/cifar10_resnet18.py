"""ResNet-18 on CIFAR-10: crops padded with zeros, no warm-up. Report the median of the last ten epochs.

AlignMix has no published figure here: the one on the page quoted below was taken from a run of 2,000 epochs of another
network.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-10, median of the last 10 epochs'
_EXCHANGED = f'{_PAGE}; there the labels of the two images were exchanged'

recipe = 'cifar10/resnet18_1xb100-{epochs}e_cifar10.py'
policies = dict(
    vanilla=dict(type='Vanilla'),
    mixup=dict(type='Mixup', alpha=1.0),
    cutmix=dict(type='CutMix', alpha=0.2),
    manifoldmix=dict(type='ManifoldMix', alpha=2.0),
    saliencymix=dict(type='SaliencyMix', alpha=0.2),
    attentivemix=dict(
        type='AttentiveMix', alpha=2.0, teacher=dict(type='TimmBackbone', model='resnet18', pretrained=True)
    ),
    puzzlemix=dict(type='PuzzleMix', alpha=1.0),
    alignmix=dict(type='AlignMix', alpha=2.0),
    fmix=dict(type='FMix', alpha=0.2),
    gridmix=dict(type='GridMix', alpha=0.2),
    smoothmix=dict(type='SmoothMix'),
    resizemix=dict(type='ResizeMix', alpha=1.0),
)
seeds = (0, 1, 2)
vary = dict(epochs=(200, 400, 800, 1200))
published_score = 'median10'
published = dict(
    vanilla={200: (94.87, _PAGE), 400: (95.10, _PAGE), 800: (95.50, _PAGE), 1200: (95.59, _PAGE)},
    mixup={200: (95.70, _PAGE), 400: (96.55, _PAGE), 800: (96.62, _PAGE), 1200: (96.84, _PAGE)},
    cutmix={200: (96.11, _PAGE), 400: (96.13, _PAGE), 800: (96.68, _PAGE), 1200: (96.56, _PAGE)},
    manifoldmix={200: (96.04, _PAGE), 400: (96.57, _PAGE), 800: (96.71, _PAGE), 1200: (97.02, _PAGE)},
    saliencymix={200: (96.05, _PAGE), 400: (96.42, _PAGE), 800: (96.20, _PAGE), 1200: (96.18, _PAGE)},
    attentivemix={200: (96.21, _PAGE), 400: (96.45, _PAGE), 800: (96.63, _PAGE), 1200: (96.49, _PAGE)},
    puzzlemix={200: (96.42, _PAGE), 400: (96.87, _PAGE), 800: (97.10, _PAGE), 1200: (97.13, _PAGE)},
    fmix={200: (96.17, _PAGE), 400: (96.53, _PAGE), 800: (96.18, _PAGE), 1200: (96.01, _PAGE)},
    gridmix={200: (95.89, _PAGE), 400: (96.33, _PAGE), 800: (96.56, _PAGE), 1200: (96.58, _PAGE)},
    smoothmix={200: (95.29, _EXCHANGED), 400: (95.88, _EXCHANGED), 800: (96.17, _EXCHANGED), 1200: (96.17, _EXCHANGED)},
    resizemix={200: (96.16, _PAGE), 400: (96.91, _PAGE), 800: (96.76, _PAGE), 1200: (97.04, _PAGE)},
)
