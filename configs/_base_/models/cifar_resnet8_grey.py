model = dict(
    channels_last=True,
    type='MixClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=16, in_channels=1),
    head=dict(type='LinearHead', num_classes=None),  # filled from the data
    loss=dict(type='SoftCrossEntropy'),
    policy=dict(type='Vanilla'),
)
