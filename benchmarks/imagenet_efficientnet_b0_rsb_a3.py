"""EfficientNet-B0 on ImageNet-1k by procedure A3 of "ResNet strikes back": 160 pixels, 100 epochs, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, RSB A3'

recipe = 'imagenet/efficientnet-b0_4xb512-rsb-a3-100e_imagenet.py'
policies = {
    'randomchoice-rsb': dict(
        type='RandomChoice', policies=[dict(type='Mixup', alpha=0.1), dict(type='CutMix', alpha=1.0)]
    ),
    'mixup': dict(type='Mixup', alpha=0.2),
    'cutmix': dict(type='CutMix', alpha=0.2),
    'manifoldmix': dict(type='ManifoldMix', alpha=0.2),
    'attentivemix': dict(
        type='AttentiveMix', alpha=2.0, teacher=dict(type='TimmBackbone', model='resnet50', pretrained=True)
    ),
    'saliencymix': dict(type='SaliencyMix', alpha=0.2),
    'fmix': dict(type='FMix', alpha=0.2),
    'puzzlemix': dict(type='PuzzleMix', alpha=1.0, grids=(2, 4, 8), transport=dict(t_size=-1)),
    'resizemix': dict(type='ResizeMix', alpha=1.0),
}
seeds = (0,)
published = {
    'randomchoice-rsb': (74.02, _PAGE),
    'mixup': (73.87, _PAGE),
    'cutmix': (73.46, _PAGE),
    'manifoldmix': (73.83, _PAGE),
    'attentivemix': (72.16, _PAGE),
    'saliencymix': (73.42, _PAGE),
    'fmix': (73.71, _PAGE),
    'puzzlemix': (74.10, _PAGE),
    'resizemix': (73.67, _PAGE),
}
