"""ResNet-50 on ImageNet-1k at 224 pixels, 100 epochs, four processes."""

_PAGE = 'openmixup 0.2 benchmark page, ImageNet-1k, 100 epochs, median of the last 5'
_AUTHORS = f"{_PAGE}; of the authors' code"

recipe = 'imagenet/resnet50_4xb64-100e_imagenet.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'mixup': dict(type='Mixup', alpha=0.2),
    'cutmix': dict(type='CutMix', alpha=1.0),
    'manifoldmix': dict(type='ManifoldMix', alpha=0.2),
    'saliencymix': dict(type='SaliencyMix', alpha=1.0),
    'randomchoice-deit': dict(
        type='RandomChoice', policies=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    ),
    'attentivemix': dict(
        type='AttentiveMix', alpha=2.0, teacher=dict(type='TimmBackbone', model='resnet50', pretrained=True)
    ),
    'puzzlemix': dict(type='PuzzleMix', alpha=1.0, grids=(2, 4, 8), transport=dict(t_size=-1)),
    'fmix': dict(type='FMix', alpha=1.0),
    'gridmix': dict(type='GridMix', alpha=0.2),
    'resizemix': dict(type='ResizeMix', alpha=1.0),
    'saliencygrafting': dict(type='SaliencyGrafting', alpha=1.0),
    'comixup': dict(type='CoMixup', alpha=2.0),
}
seeds = (0,)
published_score = 'median10'
published = {
    'vanilla': (76.83, _PAGE),
    'mixup': (77.12, _PAGE),
    'cutmix': (77.17, _PAGE),
    'manifoldmix': (77.01, _PAGE),
    'saliencymix': (77.14, _PAGE),
    'randomchoice-deit': (77.27, _PAGE),
    'attentivemix': (77.28, _PAGE),
    'puzzlemix': (77.54, _PAGE),
    'fmix': (77.19, _PAGE),
    'gridmix': (77.04, _PAGE),
    'resizemix': (77.42, _PAGE),
    'saliencygrafting': (77.74, _AUTHORS),
    'comixup': (77.60, _AUTHORS),
}
