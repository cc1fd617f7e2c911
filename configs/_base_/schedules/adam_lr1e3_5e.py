train_cfg = dict(type='EpochLoop', max_epochs=5, val_interval=1)
val_cfg = dict(type='EvalLoop')
test_cfg = dict(type='EvalLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=1e-3),
)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=5, eta_min=0.0, by_epoch=True)]
