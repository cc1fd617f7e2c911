"""ResNet-18 on CIFAR-100: crops padded by reflection, no warm-up. Report the median of the last ten epochs.

AlignMix has no published figure here: the one on the page quoted below was taken from a run of 2,000 epochs of another
network.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, median of the last 10 epochs'
_EXCHANGED = f'{_PAGE}; there the labels of the two images were exchanged'
_AUTHORS = f"{_PAGE}; of the authors' code"

recipe = 'cifar100/resnet18_1xb100-{epochs}e_cifar100.py'
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
    comixup=dict(type='CoMixup', alpha=2.0),
)
seeds = (0, 1, 2)
vary = dict(epochs=(200, 400, 800, 1200))
published_score = 'median10'
published = dict(
    vanilla={200: (76.42, _PAGE), 400: (77.73, _PAGE), 800: (78.04, _PAGE), 1200: (78.55, _PAGE)},
    mixup={200: (78.52, _PAGE), 400: (79.34, _PAGE), 800: (79.12, _PAGE), 1200: (79.24, _PAGE)},
    cutmix={200: (79.45, _PAGE), 400: (79.58, _PAGE), 800: (78.17, _PAGE), 1200: (78.29, _PAGE)},
    manifoldmix={200: (79.18, _PAGE), 400: (80.18, _PAGE), 800: (80.35, _PAGE), 1200: (80.21, _PAGE)},
    saliencymix={200: (79.75, _PAGE), 400: (79.64, _PAGE), 800: (79.12, _PAGE), 1200: (77.66, _PAGE)},
    attentivemix={200: (79.62, _PAGE), 400: (80.14, _PAGE), 800: (78.91, _PAGE), 1200: (78.41, _PAGE)},
    puzzlemix={200: (79.96, _PAGE), 400: (80.82, _PAGE), 800: (81.13, _PAGE), 1200: (81.10, _PAGE)},
    fmix={200: (78.91, _PAGE), 400: (79.91, _PAGE), 800: (79.69, _PAGE), 1200: (79.50, _PAGE)},
    gridmix={200: (78.23, _PAGE), 400: (78.60, _PAGE), 800: (78.72, _PAGE), 1200: (77.58, _PAGE)},
    smoothmix={200: (77.90, _EXCHANGED), 400: (78.77, _EXCHANGED), 800: (78.69, _EXCHANGED), 1200: (78.38, _EXCHANGED)},
    resizemix={200: (79.56, _PAGE), 400: (79.19, _PAGE), 800: (80.01, _PAGE), 1200: (79.23, _PAGE)},
    comixup={200: (80.01, _AUTHORS), 400: (80.87, _AUTHORS), 800: (81.17, _AUTHORS), 1200: (81.18, _AUTHORS)},
)
