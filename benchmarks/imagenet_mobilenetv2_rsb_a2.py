"""MobileNetV2 on ImageNet-1k by procedure A2 of "ResNet strikes back": 224 pixels, 300 epochs, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, RSB A2'

recipe = 'imagenet/mobilenetv2-100_4xb256-rsb-a2-300e_imagenet.py'
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
    'randomchoice-rsb': (72.87, _PAGE),
    'mixup': (72.78, _PAGE),
    'cutmix': (72.23, _PAGE),
    'manifoldmix': (72.34, _PAGE),
    'attentivemix': (70.30, _PAGE),
    'saliencymix': (72.07, _PAGE),
    'fmix': (72.79, _PAGE),
    'puzzlemix': (72.85, _PAGE),
    'resizemix': (72.50, _PAGE),
}
