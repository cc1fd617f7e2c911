# For learned policies.
_base_ = './convnext-tiny_8xb128-ema-300e_imagenet.py'
model = dict(teacher=dict(_delete_=True, decay=0.999, end=0.99999, hold=0.1, bn='batch'))
optim_wrapper = dict(policy=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', part='network', T_max=280, eta_min=1e-6, by_epoch=True, begin=20, end=300,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR', part='policy', T_max=280, eta_min=1e-4, by_epoch=True, begin=20, end=300,
        convert_to_iter_based=True,
    ),
]
