"""Swin-T on ImageNet-1k, 300 epochs, eight processes.

The published figures are those of the best epoch, chosen on the validation images. TransMix and TokenMix are
not here: Swin has no class token.
"""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, 300 epochs, mean of the best of three runs'

recipe = 'imagenet/swin-tiny-patch4-window7-224_8xb128-300e_imagenet.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'randomchoice-deit': dict(
        type='RandomChoice', policies=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    ),
    'mixup': dict(type='Mixup', alpha=0.2),
    'cutmix': dict(type='CutMix', alpha=0.2),
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
    'vanilla': (80.21, _PAGE),
    'randomchoice-deit': (81.20, _PAGE),
    'mixup': (81.01, _PAGE),
    'cutmix': (81.33, _PAGE),
    'attentivemix': (81.29, _PAGE),
    'saliencymix': (81.37, _PAGE),
    'puzzlemix': (81.47, _PAGE),
    'fmix': (79.60, _PAGE),
    'resizemix': (81.36, _PAGE),
}
