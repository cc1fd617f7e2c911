# A small vision transformer for pictures of 28 pixels: 49 patches, 6 blocks of width 64.
model = dict(
    type='MixClassifier',
    backbone=dict(type='TimmBackbone', model='test_vit', in_channels=1, options=dict(img_size=28, patch_size=4)),
    head=dict(type='LinearHead', num_classes=None),  # filled from the data
    loss=dict(type='SoftCrossEntropy'),
    policy=dict(type='Vanilla'),
)
