# For learned policies. Those that skip steps leave parameters without a gradient.
_base_ = './deit-base-patch16-224_8xb128-300e_imagenet.py'
model = dict(teacher=dict(decay=0.999, end=0.99999, hold=0.25, bn='batch'))
optim_wrapper = dict(policy=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', part='network', T_max=295, eta_min=1e-5, by_epoch=True, begin=5, end=300,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR', part='policy', T_max=295, eta_min=1e-4, by_epoch=True, begin=5, end=300,
        convert_to_iter_based=True,
    ),
]
find_unused_parameters = True
