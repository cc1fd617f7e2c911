model = dict(
    type='MixClassifier',
    backbone=dict(type='TimmBackbone', model='resnext50_32x4d', stem='cifar'),
    head=dict(type='LinearHead', num_classes=None),  # filled from the data
    loss=dict(type='SoftCrossEntropy'),
    policy=dict(type='Vanilla'),
    channels_last=True,
)
