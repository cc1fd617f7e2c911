"""ResNeXt-50 (32x4d, stem for small images) on Tiny-ImageNet, 400 epochs; its validation set is the test set."""

_PAGE = 'openmixup 0.2 benchmark page, Tiny-ImageNet, taken for the median of the last 10 epochs'
_EXCHANGED = f'{_PAGE}; there the labels of the two images were exchanged'
_AUTHORS = f"{_PAGE}; of the authors' code"

recipe = 'tiny_imagenet/resnext50-32x4d_2xb50-400e_tiny_imagenet.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=1.0),
    'cutmix': dict(type='CutMix', alpha=1.0),
    'manifoldmix': dict(type='ManifoldMix', alpha=0.2),
    'smoothmix': dict(type='SmoothMix'),
    'saliencymix': dict(type='SaliencyMix', alpha=1.0),
    'attentivemix': dict(
        type='AttentiveMix', alpha=2.0, teacher=dict(type='TimmBackbone', model='resnet18', pretrained=True)
    ),
    'fmix': dict(type='FMix', alpha=1.0),
    'puzzlemix': dict(type='PuzzleMix', alpha=1.0, grids=(2, 4, 8), transport=dict(t_size=-1)),
    'comixup': dict(type='CoMixup', alpha=2.0),
    'resizemix': dict(type='ResizeMix', alpha=1.0),
    'gridmix': dict(type='GridMix', alpha=0.2),
}
seeds = (0,)
published_score = 'median10'
published = {
    'vanilla': (65.04, _PAGE),
    'mixup': (66.36, _PAGE),
    'cutmix': (66.47, _PAGE),
    'manifoldmix': (67.30, _PAGE),
    'smoothmix': (69.65, _EXCHANGED),
    'saliencymix': (66.55, _PAGE),
    'attentivemix': (67.42, _PAGE),
    'fmix': (65.08, _PAGE),
    'puzzlemix': (67.83, _PAGE),
    'comixup': (68.02, _AUTHORS),
    'resizemix': (65.87, _PAGE),
    'gridmix': (66.53, _PAGE),
}
