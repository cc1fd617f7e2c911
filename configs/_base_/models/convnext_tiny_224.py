# Label smoothing and stochastic depth as in Liu et al., "A ConvNet for the 2020s", CVPR 2022.
model = dict(
    type='MixClassifier',
    backbone=dict(type='TimmBackbone', model='convnext_tiny', drop_path=0.1),
    head=dict(type='LinearHead', num_classes=None),  # filled from the data
    loss=dict(type='SoftCrossEntropy', label_smoothing=0.1),
    policy=dict(type='Vanilla'),
    channels_last=True,
)
