# WRN-28-8 with the activation and the norms of semi-supervised learning, as it was published with mixing.
model = dict(
    type='MixClassifier',
    backbone=dict(
        type='WideResNet', depth=28, widen_factor=8, negative_slope=0.1, bn_momentum=0.001, bn_eps=0.001
    ),
    head=dict(type='LinearHead', num_classes=None),  # filled from the data
    loss=dict(type='SoftCrossEntropy'),
    policy=dict(type='Vanilla'),
    channels_last=True,
)
