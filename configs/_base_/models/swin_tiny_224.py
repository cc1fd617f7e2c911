model = dict(
    type='MixClassifier',
    backbone=dict(type='TimmBackbone', model='swin_tiny_patch4_window7_224', drop_path=0.2),
    head=dict(type='LinearHead', num_classes=None),  # filled from the data
    loss=dict(type='SoftCrossEntropy', label_smoothing=0.1),
    policy=dict(type='Vanilla'),
)
