"""ConvNeXt-T on ImageNet-1k, 300 epochs, eight processes.

The published figures are those of the best epoch, chosen on the validation images.
Which of the network and the average of its weights is not said.
"""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, 300 epochs, mean of the best of three runs'

recipe = 'imagenet/convnext-tiny_8xb128-ema-300e_imagenet.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'randomchoice-deit': dict(
        type='RandomChoice', policies=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    ),
    'mixup': dict(type='Mixup', alpha=0.2),
    'cutmix': dict(type='CutMix', alpha=0.2),
    'manifoldmix': dict(type='ManifoldMix', alpha=0.2),
    'attentivemix': dict(
        type='AttentiveMix', alpha=2.0, teacher=dict(type='TimmBackbone', model='resnet50', pretrained=True)
    ),
    'saliencymix': dict(type='SaliencyMix', alpha=0.2),
    'puzzlemix': dict(type='PuzzleMix', alpha=1.0, grids=(2, 4, 8), transport=dict(t_size=-1)),
    'fmix': dict(type='FMix', alpha=0.2),
    'resizemix': dict(type='ResizeMix', alpha=1.0, interpolation='bilinear'),
}
seeds = (0,)
published_score = 'best'
published = {
    'vanilla': (79.22, _PAGE),
    'randomchoice-deit': (82.10, _PAGE),
    'mixup': (80.88, _PAGE),
    'cutmix': (81.57, _PAGE),
    'manifoldmix': (80.57, _PAGE),
    'attentivemix': (81.14, _PAGE),
    'saliencymix': (81.33, _PAGE),
    'puzzlemix': (81.48, _PAGE),
    'fmix': (81.04, _PAGE),
    'resizemix': (81.64, _PAGE),
}
