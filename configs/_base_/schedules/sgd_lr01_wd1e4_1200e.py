train_cfg = dict(type='EpochLoop', max_epochs=1200, val_interval=1)
val_cfg = dict(type='EvalLoop')
test_cfg = dict(type='EvalLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=1200, eta_min=0.0, by_epoch=True)]
