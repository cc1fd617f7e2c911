model = dict(
    type='MixClassifier',
    backbone=dict(type='TimmBackbone', model='mobilenetv2_100'),
    head=dict(type='LinearHead', num_classes=None),  # filled from the data
    loss=dict(type='SoftCrossEntropy'),
    policy=dict(type='Vanilla'),
    channels_last=True,
)
