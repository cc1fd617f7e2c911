# For a total batch of 2048.
train_cfg = dict(type='EpochLoop', max_epochs=300, val_interval=1)
val_cfg = dict(type='EvalLoop')
test_cfg = dict(type='EvalLoop')
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    optimizer=dict(type='Lamb', lr=5e-3, weight_decay=0.02),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=295, eta_min=1e-6, by_epoch=True, begin=5, end=300,
        convert_to_iter_based=True,
    ),
]
