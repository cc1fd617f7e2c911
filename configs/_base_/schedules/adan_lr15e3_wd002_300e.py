# Xie et al., "Adan: Adaptive Nesterov momentum algorithm", 2022, for a total batch of 2048. timm's factors are one
# minus those of the paper. Where the learning rate ends, the source does not say: as for DeiT.
train_cfg = dict(type='EpochLoop', max_epochs=300, val_interval=1)
val_cfg = dict(type='EvalLoop')
test_cfg = dict(type='EvalLoop')
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    optimizer=dict(type='Adan', lr=1.5e-2, betas=(0.98, 0.92, 0.99), weight_decay=0.02),
    # no weight decay of norms, biases, class token and position table
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys=dict(cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0)),
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=60, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=240, eta_min=1e-5, by_epoch=True, begin=60, end=300,
        convert_to_iter_based=True,
    ),
]
