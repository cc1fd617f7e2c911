model = dict(
    channels_last=True,
    type='MixClassifier',
    backbone=dict(type='CifarResNet', depth=8, width=16, in_channels=3),
    head=dict(type='LinearHead', num_classes=None),  # number of targets, filled from the data
    loss=dict(type='RegressionLoss', kind='mse'),
    policy=dict(type='Vanilla'),
    target='regression',
)
