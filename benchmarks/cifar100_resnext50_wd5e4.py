"""ResNeXt-50 on CIFAR-100: the policies that cut and paste, with a larger weight decay than the others."""

_PAGE = 'openmixup 0.2 benchmark page, CIFAR-100, median of the last 10 epochs'

recipe = 'cifar100/resnext50-32x4d_1xb100-wd5e4-{epochs}e_cifar100.py'
policies = {
    'cutmix': dict(type='CutMix', alpha=0.2),
    'saliencymix': dict(type='SaliencyMix', alpha=0.2),
    'attentivemix': dict(
        type='AttentiveMix', alpha=2.0, teacher=dict(type='TimmBackbone', model='resnet18', pretrained=True)
    ),
    'fmix': dict(type='FMix', alpha=0.2),
    'resizemix': dict(type='ResizeMix', alpha=1.0),
}
seeds = (0,)
vary = dict(epochs=(200, 400, 800, 1200))
published_score = 'median10'
published = {
    'cutmix': {200: (81.52, _PAGE), 400: (78.52, _PAGE), 800: (78.32, _PAGE), 1200: (77.17, _PAGE)},
    'saliencymix': {200: (80.72, _PAGE), 400: (78.63, _PAGE), 800: (78.77, _PAGE), 1200: (77.51, _PAGE)},
    'attentivemix': {200: (81.69, _PAGE), 400: (81.53, _PAGE), 800: (80.54, _PAGE), 1200: (79.60, _PAGE)},
    'fmix': {200: (79.87, _PAGE), 400: (78.99, _PAGE), 800: (79.02, _PAGE), 1200: (78.24, _PAGE)},
    'resizemix': {200: (79.56, _PAGE), 400: (79.78, _PAGE), 800: (80.35, _PAGE), 1200: (79.73, _PAGE)},
}
