"""ResNeXt-50 (32x4d, stem for 32 pixels) on CIFAR-100: crops padded by reflection, no warm-up.

The policies that cut and paste have a recipe and a table of their own, with a larger weight decay.
"""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, median of the last 10 epochs'
_EXCHANGED = f'{_PAGE}; there the labels of the two images were exchanged'
_AUTHORS = f"{_PAGE}; of the authors' code"

recipe = 'cifar100/resnext50-32x4d_1xb100-{epochs}e_cifar100.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=1.0),
    'manifoldmix': dict(type='ManifoldMix', alpha=2.0),
    'smoothmix': dict(type='SmoothMix'),
    'puzzlemix': dict(type='PuzzleMix', alpha=1.0),
    'comixup': dict(type='CoMixup', alpha=2.0),
    'gridmix': dict(type='GridMix', alpha=0.2),
}
seeds = (0,)
vary = dict(epochs=(200, 400, 800, 1200))
published_score = 'median10'
published = {
    'vanilla': {200: (79.37, _PAGE), 400: (80.24, _PAGE), 800: (81.09, _PAGE), 1200: (81.32, _PAGE)},
    'mixup': {200: (81.18, _PAGE), 400: (82.54, _PAGE), 800: (82.10, _PAGE), 1200: (81.77, _PAGE)},
    'manifoldmix': {200: (81.59, _PAGE), 400: (82.56, _PAGE), 800: (82.88, _PAGE), 1200: (83.28, _PAGE)},
    'smoothmix': {
        200: (80.68, _EXCHANGED),
        400: (79.56, _EXCHANGED),
        800: (78.95, _EXCHANGED),
        1200: (77.88, _EXCHANGED),
    },
    'puzzlemix': {200: (81.69, _PAGE), 400: (82.84, _PAGE), 800: (82.85, _PAGE), 1200: (82.93, _PAGE)},
    'comixup': {200: (81.73, _AUTHORS), 400: (82.88, _AUTHORS), 800: (82.91, _AUTHORS), 1200: (82.97, _AUTHORS)},
    'gridmix': {200: (81.11, _PAGE), 400: (79.80, _PAGE), 800: (78.90, _PAGE), 1200: (76.11, _PAGE)},
}
