# For images of 32 pixels: the stem is a 3x3 convolution of stride 1.
model = dict(
    type='MixClassifier',
    backbone=dict(type='TimmBackbone', model='convnext_tiny', stem='cifar', drop_path=0.3),
    head=dict(type='LinearHead', num_classes=None),  # filled from the data
    loss=dict(type='SoftCrossEntropy', label_smoothing=0.1),
    policy=dict(type='Vanilla'),
    channels_last=True,
)
