train_cfg = dict(type='EpochLoop', max_epochs=600, val_interval=1)
val_cfg = dict(type='EvalLoop')
test_cfg = dict(type='EvalLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    # no weight decay of norms, biases, layer scales, class token and position tables
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys=dict(
            cls_token=dict(decay_mult=0.0),
            pos_embed=dict(decay_mult=0.0),
            relative_position_bias_table=dict(decay_mult=0.0),
        ),
    ),
    clip_grad=dict(max_norm=5.0),
)
# Warm-up, then a cosine over what is left; both move in each step.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', T_max=580, eta_min=1e-6, by_epoch=True, begin=20, end=600,
        convert_to_iter_based=True,
    ),
]
