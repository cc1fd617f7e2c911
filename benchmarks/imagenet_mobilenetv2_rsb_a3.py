"""MobileNetV2 on ImageNet-1k by procedure A3 of "ResNet strikes back": 160 pixels, 100 epochs, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, RSB A3'

recipe = 'imagenet/mobilenetv2-100_4xb512-rsb-a3-100e_imagenet.py'
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
    'randomchoice-rsb': (69.86, _PAGE),
    'mixup': (70.17, _PAGE),
    'cutmix': (69.62, _PAGE),
    'manifoldmix': (70.05, _PAGE),
    'attentivemix': (67.32, _PAGE),
    'saliencymix': (69.69, _PAGE),
    'fmix': (70.10, _PAGE),
    'puzzlemix': (70.04, _PAGE),
    'resizemix': (69.94, _PAGE),
}
