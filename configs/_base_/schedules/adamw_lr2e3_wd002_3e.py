train_cfg = dict(type='EpochLoop', max_epochs=3, val_interval=1)
val_cfg = dict(type='EvalLoop')
test_cfg = dict(type='EvalLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.02),
)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=3, eta_min=0.0, by_epoch=True)]
