"""ResNet-50 on ImageNet-1k at 224 pixels, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, median of the last 5 (10 of 300 epochs)'
_AUTHORS = f"{_PAGE}; of the authors' code"

recipe = 'imagenet/resnet50_4xb64-{epochs}e_imagenet.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=0.2),
    'cutmix': dict(type='CutMix', alpha=1.0),
    'randomchoice-deit': dict(
        type='RandomChoice', policies=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    ),
    'manifoldmix': dict(type='ManifoldMix', alpha=0.2),
    'saliencymix': dict(type='SaliencyMix', alpha=1.0),
    'attentivemix': dict(
        type='AttentiveMix', alpha=2.0, teacher=dict(type='TimmBackbone', model='resnet50', pretrained=True)
    ),
    'fmix': dict(type='FMix', alpha=1.0),
    'gridmix': dict(type='GridMix', alpha=0.2),
    'puzzlemix': dict(type='PuzzleMix', alpha=1.0, grids=(2, 4, 8), transport=dict(t_size=-1)),
    'comixup': dict(type='CoMixup', alpha=2.0),
    'resizemix': dict(type='ResizeMix', alpha=1.0),
    'saliencygrafting': dict(type='SaliencyGrafting', alpha=1.0),
}
seeds = (0,)
vary = dict(epochs=(100, 300))
published_score = 'median10'
published = {
    'vanilla': {100: (76.83, _PAGE), 300: (77.35, _PAGE)},
    'mixup': {100: (77.12, _PAGE), 300: (78.44, _PAGE)},
    'cutmix': {100: (77.17, _PAGE), 300: (78.69, _PAGE)},
    'randomchoice-deit': {100: (77.27, _PAGE)},
    'manifoldmix': {100: (77.01, _PAGE), 300: (78.21, _PAGE)},
    'saliencymix': {100: (77.14, _PAGE), 300: (78.46, _PAGE)},
    'attentivemix': {100: (77.28, _PAGE)},
    'fmix': {100: (77.19, _PAGE), 300: (78.51, _PAGE)},
    'gridmix': {100: (77.04, _PAGE), 300: (78.50, _PAGE)},
    'puzzlemix': {100: (77.54, _PAGE), 300: (78.86, _PAGE)},
    'comixup': {100: (77.60, _AUTHORS)},
    'resizemix': {100: (77.42, _PAGE), 300: (78.91, _PAGE)},
    'saliencygrafting': {100: (77.74, _AUTHORS)},
}
