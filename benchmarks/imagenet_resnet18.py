"""ResNet-18 on ImageNet-1k at 224 pixels, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, median of the last 5 (10 of 300 epochs)'

recipe = 'imagenet/resnet18_4xb64-{epochs}e_imagenet.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=0.2),
    'cutmix': dict(type='CutMix', alpha=0.2),
    'manifoldmix': dict(type='ManifoldMix', alpha=0.2),
    'saliencymix': dict(type='SaliencyMix', alpha=0.2),
    'attentivemix': dict(
        type='AttentiveMix', alpha=2.0, teacher=dict(type='TimmBackbone', model='resnet18', pretrained=True)
    ),
    'fmix': dict(type='FMix', alpha=0.2),
    'puzzlemix': dict(type='PuzzleMix', alpha=1.0, grids=(2, 4, 8), transport=dict(t_size=-1)),
    'resizemix': dict(type='ResizeMix', alpha=0.2),
}
seeds = (0,)
vary = dict(epochs=(100, 300))
published_score = 'median10'
published = {
    'vanilla': {100: (70.04, _PAGE), 300: (71.83, _PAGE)},
    'mixup': {100: (69.98, _PAGE), 300: (71.72, _PAGE)},
    'cutmix': {100: (68.95, _PAGE), 300: (71.01, _PAGE)},
    'manifoldmix': {100: (69.98, _PAGE), 300: (71.73, _PAGE)},
    'saliencymix': {100: (69.16, _PAGE), 300: (70.97, _PAGE)},
    'attentivemix': {100: (68.57, _PAGE)},
    'fmix': {100: (69.96, _PAGE), 300: (70.30, _PAGE)},
    'puzzlemix': {100: (70.12, _PAGE), 300: (71.64, _PAGE)},
    'resizemix': {100: (69.50, _PAGE), 300: (71.32, _PAGE)},
}
