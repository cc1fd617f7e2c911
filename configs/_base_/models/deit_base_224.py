# Label smoothing and stochastic depth as in Touvron et al., "Training data-efficient image transformers", ICML 2021.
model = dict(
    type='MixClassifier',
    backbone=dict(type='TimmBackbone', model='deit_base_patch16_224', drop_path=0.1),
    head=dict(type='LinearHead', num_classes=None),  # filled from the data
    loss=dict(type='SoftCrossEntropy', label_smoothing=0.1),
    policy=dict(type='Vanilla'),
)
