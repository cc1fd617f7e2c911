# From torchvision's first weights for ImageNet.
model = dict(
    type='MixClassifier',
    backbone=dict(type='TimmBackbone', model='resnet18.tv_in1k', pretrained=True),
    head=dict(type='LinearHead', num_classes=None),  # filled from the data
    loss=dict(type='SoftCrossEntropy'),
    policy=dict(type='Vanilla'),
    channels_last=True,
)
