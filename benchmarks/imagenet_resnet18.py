"""ResNet-18 on ImageNet-1k at 224 pixels, 100 epochs, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, 100 epochs, median of the last 5'

recipe = 'imagenet/resnet18_4xb64-100e_imagenet.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=0.2),
    'cutmix': dict(type='CutMix', alpha=0.2),
    'manifoldmix': dict(type='ManifoldMix', alpha=0.2),
    'saliencymix': dict(type='SaliencyMix', alpha=0.2),
    'attentivemix': dict(
        type='AttentiveMix', alpha=2.0, teacher=dict(type='TimmBackbone', model='resnet18', pretrained=True)
    ),
    'puzzlemix': dict(type='PuzzleMix', alpha=1.0, grids=(2, 4, 8), transport=dict(t_size=-1)),
    'fmix': dict(type='FMix', alpha=0.2),
    'resizemix': dict(type='ResizeMix', alpha=0.2),
}
seeds = (0,)
published_score = 'median10'
published = {
    'vanilla': (70.04, _PAGE),
    'mixup': (69.98, _PAGE),
    'cutmix': (68.95, _PAGE),
    'manifoldmix': (69.98, _PAGE),
    'saliencymix': (69.16, _PAGE),
    'attentivemix': (68.57, _PAGE),
    'puzzlemix': (70.12, _PAGE),
    'fmix': (69.96, _PAGE),
    'resizemix': (69.50, _PAGE),
}
